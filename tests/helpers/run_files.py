"""Files of reports/ for the tests of run pages: a student with two heads and two seeds, a teacher. Made-up logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from longtail.base.files import write_json
from longtail.evaluation.diagnostics import combine, measure, top1
from longtail.evaluation.metrics import SCALARS, summarise
from longtail.evaluation.predictions import Predictions, TestSet, phase_metrics
from longtail.evaluation.run_record import SeedRun, record
from longtail.report.machines import FACTS

NAMES = ("ant", "bee & <b>", "cat", "dog")  # what a dataset's names may hold
LABELS = np.repeat(np.arange(4), 6)
GROUPS = {
    "author": {"head": [0], "mid": [1, 2], "tail": [3]},
    "count": {"many": [0], "medium": [1], "few": [2, 3]},
}
CONFIG = {"method": "deit_lt", "cache": "c", "loss": {"alpha": 0.5}, "train": {"epochs": 3}}
TEACHER = {"arch": "resnet8", "loss": "ldam", "epochs": 3}


def test_set() -> TestSet:
    return TestSet(NAMES, np.array([200, 50, 10, 5]), GROUPS, "o" * 64, LABELS, "d" * 64)


def predictions(seed: int, heads: str) -> Predictions:
    """Logits of which the tail's are worst for cls."""
    rng = np.random.default_rng(seed)
    logits = {h: rng.normal(size=(len(LABELS), 4)).astype(np.float32) for h in heads.split()}
    for head, z in logits.items():
        z[np.arange(len(LABELS)), LABELS] += np.array([4, 3, 2, 0 if head == "cls" else 2])[LABELS]
    both = {"last": logits, "best": logits}
    return Predictions(LABELS, both, {"last": 2, "best": 1}, "o" * 64, 1.0)


def seed_run(seed: int, kind: str) -> SeedRun:
    curves = {"epoch": [0, 1, 2], "lr": [0.1, 0.1, 0.1]}
    if kind == "teacher":
        curves |= {"train_loss": [3.0, 2.0, 1.0], "test_top1": [None, 50.0, 60.0 + seed]}
    else:
        curves |= {"loss": [3.0, 2.0, 1.0 + seed], "cls_dist_distance": [0.1, 0.2, 0.25]}
        curves |= {f"test_top1_{h}": [None, 40.0, 50.0 + seed] for h in ("cls", "dist", "avg")}
    facts = {"identity": f"{seed}" * 64, "dataset_digest": "d" * 64, "processes": 1}
    return SeedRun(dict(CONFIG if kind == "experiment" else TEACHER), facts, curves)


def accuracies(value: float) -> dict:
    names = ("top1", "balanced", *(g for rule in GROUPS.values() for g in rule))
    return {name: summarise([value, value + 1]) for name in names}


def experts(entry: str, study: str = "s") -> dict:
    """As docs/schema/experts.schema.json has it; weights .25 and .3, of one class nothing held out."""
    weights = [k / 20 for k in range(21)]
    shares = {"cls_dist": 61.5, "cls_teacher": 62.5, "cls_dominant": 63.5, "dist_teacher": 64.5, "dist_dominant": 65.5}
    shares |= {"teacher_dominant": 66.5}
    of_group = {"views": 40, **{pair: summarise([v, v]) for pair, v in shares.items()}}
    empty = {"views": 0, **{pair: summarise([None]) for pair in shares}}
    groups = {"all": of_group, "tail": empty, **dict.fromkeys(("head", "mid", "many", "medium", "few"), of_group)}
    held = {"uses_extra_labels": True, "origin": "source", "limit": 100, "images": 120, "per_class": [0, 40, 40, 40]}
    held |= {"missing_classes": ["ant"], "balanced": [summarise([70 - w, 71 - w]) for w in weights]}
    ways = {"cls": 51.0, "dist": 52.0, "average": 53.0, "chosen": 54.25}
    fusion = {
        "weights": weights,
        "heldout": held,
        "chosen": {"seeds": {"0": 0.25, "1": 0.3}, **summarise([0.25, 0.3])},
        "test": {way: accuracies(v) for way, v in ways.items()},
    }
    agreement = [{"epoch": 2, "kinds": {"unmixed": groups}}]
    return {"schema": 1, "entry": entry, "study": study, "distilled": True, "fusion": fusion, "agreement": agreement}


def diagnosed(entry: str = "e", kind: str = "experiment", study: str = "s") -> dict:
    """The content of diagnostics.json, by the library's own functions."""
    about = {"entry": entry, "kind": kind, "study": study, "dataset": "d", "config_hash": "a1" * 32}
    found = {s: predictions(s, "cls" if kind == "teacher" else "cls dist") for s in (0, 1)}
    test = test_set()
    return combine(
        about, test, {s: measure(p, test) for s, p in found.items()}, {s: top1(p) for s, p in found.items()}, 1
    )


def recorded(entry: str = "e", kind: str = "experiment", study: str = "s") -> dict:
    about = {"entry": entry, "kind": kind, "study": study, "dataset": "d", "config_hash": "a1" * 32}
    return record(about, {s: seed_run(s, kind) for s in (0, 1)})


def metrics(entry: str = "e", kind: str = "experiment", study: str = "s") -> dict:
    """The content of the metrics file, of the same logits."""
    heads = "cls" if kind == "teacher" else "cls dist"
    seeds = {str(s): {p: phase_metrics(predictions(s, heads), test_set(), p) for p in ("last", "best")} for s in (0, 1)}
    shown = ("avg", *heads.split())
    summary = {
        p: {h: {m: summarise([s[p][h][m] for s in seeds.values()]) for m in SCALARS} for h in shown}
        for p in ("last", "best")
    }
    about = {"schema": 1, "entry": entry, "kind": kind, "study": study, "dataset": "d", "config_hash": "a1" * 32}
    size = {"classes": 4, "class_counts": [200, 50, 10, 5], "groups": GROUPS}
    return {**about, **size, "seeds": seeds, "summary": summary}


def machines(*runs: tuple[str, str, str, int], study: str = "s", **facts) -> dict:
    """The record of reports/machines: runs of (section, entry, config hash, seeds) with these facts each."""
    of = dict.fromkeys(FACTS) | {"seconds": 1800.0, "device": "cpu x1", "peak_memory_mb": 512} | facts
    found: dict = {"schema": 1, "study": study, "experiments": {}, "teachers": {}}
    for section, entry, config_hash, seeds in runs:
        found[section][entry] = {"config_hash": config_hash, "seeds": {str(s): dict(of) for s in range(seeds)}}
    return found


def write(root: Path, label: str = "A student") -> Path:
    """root/params.yaml and root/reports/ of the study s: student e, teacher t; the student n was not run."""
    reports = root / "reports"
    for kind, below in (("experiment", "e"), ("teacher", "teachers/t")):
        entry = Path(below).name
        write_json(reports / "runs" / "s" / below / "diagnostics.json", diagnosed(entry, kind))
        write_json(reports / "runs" / "s" / below / "run.json", recorded(entry, kind))
        write_json(reports / "metrics" / "s" / f"{below}.json", metrics(entry, kind))
    write_json(reports / "experts" / "s" / "e.json", experts("e"))
    both = (("experiments", "e", "a1" * 32, 2), ("teachers", "t", "a1" * 32, 2))
    write_json(reports / "machines" / "s.json", machines(*both, git_commit="c" * 40, torch="2.15"))
    rows = [{"label": "x", "entry": "e"}]
    study = {
        "title": "T",
        "note": "N",
        "comparable": False,
        "experiments": [{"name": "e", "label": label}, {"name": "n", "label": "Not run"}],
        "teachers": [{"name": "t", "label": "A teacher"}],
        "caches": [],
        "tables": [{"name": "overall", "caption": "C", "columns": ["top1"], "rows": rows}],
    }
    (root / "params.yaml").write_text(yaml.safe_dump({"studies": {"s": study}}))
    return reports
