"""The page of one run: what it was, then a section for each question. Pure: from the contents of the files to text.

A part whose file is not there says which stage makes it; a part that has no meaning for the run (fusion of heads of a
network with one) is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from urllib.parse import quote

from longtail.base import params
from longtail.report.pages import expert_sections, tail_sections
from longtail.report.pages import sections as record_sections
from longtail.report.pages.sections import Section, shown
from longtail.report.pages.web import page
from longtail.report.reading import network
from longtail.report.study import StudyConfig

LOSSES = {
    "ce": "cross-entropy",
    "ldam": "LDAM",
    "balanced_softmax": "balanced softmax",
    "focal": "focal",
    "paco": "PaCo",
}


NAMED = ("dataset", "cache", "teacher", "start")  # in a run's configuration: a data set and other entries


@dataclass(frozen=True)
class Run:
    """What reports/ holds of an entry; None where a file is not there."""

    entry: str
    kind: str  # experiment, teacher
    study: str
    label: str  # what tables and figures call it
    diagnosed: dict | None  # reports/runs/<study>/[teachers/]<entry>/diagnostics.json
    record: dict | None  # run.json beside it
    metrics: dict | None  # reports/metrics/<study>/[teachers/]<entry>.json
    experts: dict | None  # reports/experts/<study>/<entry>.json
    made: dict[str, dict] = field(default_factory=dict)  # {seed: facts} of reports/machines/<study>.json
    called: dict[str, str] = field(default_factory=dict)  # {data set or other entry that the run names: its words}

    @property
    def folder(self) -> str:
        """Below reports/runs/ and, with .html for a folder, reports/pages/."""
        return f"{self.study}/{'teachers/' if self.kind == 'teacher' else ''}{self.entry}"

    @property
    def stage(self) -> str:
        """What makes the files of the run."""
        return f"{'evaluate_teacher' if self.kind == 'teacher' else 'evaluate'}@{self.entry}"


def labels(studies: Iterable[StudyConfig]) -> dict[str, str]:
    """{entry: what tables and figures call it}, of all entries that a run's configuration may name."""
    return {
        item.name: item.label
        for study in studies
        for item in (*study.pretrainings, *study.caches, *study.experiments, *study.teachers)
    }


def named(record: Mapping | None, words: Mapping[str, str]) -> dict[str, str]:
    """Of words, which are of data sets and entries by name, those that the run's record names."""
    config = record["config"] if record else {}
    found = [config.get(name) for name in NAMED] + list(config.get("sources", ()))
    return {name: words[name] for name in found if isinstance(name, str) and name in words}


def sections(run: Run) -> list[Section]:
    """In the order of the page."""
    return [*_diagnosed(run), *_recorded(run)]


def _diagnosed(run: Run) -> list[Section]:
    if run.diagnosed is None:
        return [Section("groups", "Long-tail evaluation", absent=run.stage)]
    made = [
        tail_sections.accuracy(run.diagnosed, run.metrics),
        tail_sections.flows(run.diagnosed),
        tail_sections.confusion(run.diagnosed),
        tail_sections.reliability(run.diagnosed),
        tail_sections.shifts(run.diagnosed),
    ]
    if "dist" in run.diagnosed["heads"]:
        stage = f"experts@{run.entry}"
        made += [
            expert_sections.fusion(run.diagnosed, run.experts, stage),
            expert_sections.routing(run.diagnosed),
            expert_sections.agreement(run.experts, stage),
        ]
    return [section for section in made if section is not None]


def _recorded(run: Run) -> list[Section]:
    if run.record is None:
        return [Section("curves", "Curves, cost and configuration", absent=run.stage)]
    told = record_sections.cost(run.record, run.made)
    return [record_sections.curves(run.record), told, record_sections.config(run.record)]


def title(run: Run) -> str:
    """Method, network and data set: `DeiT-LT: ViT of 3 blocks, width 64, on scikit-learn's digits`."""
    record = run.record or {}
    what = [network(record.get("config") or {})]
    if data := record.get("dataset") or (run.diagnosed or {}).get("dataset"):
        what.append(f"on {run.called.get(data, data)}")
    told = ", ".join(filter(None, what))
    return f"{run.label}: {told}" if told else run.label


def sentence(run: Run) -> str:
    """What the run is, from its configuration and its dataset's class counts."""
    if run.record is None or run.diagnosed is None:
        return f"{'A teacher' if run.kind == 'teacher' else 'A student'} of the study {run.study}."
    config, counts = run.record["config"], run.diagnosed["class_counts"]
    data = f"{len(counts)} classes, {sum(counts):,} training images, from {max(counts):,} to {min(counts):,} a class"
    if run.kind == "teacher":
        loss = config.get("loss")
        how = "no loss of the labels" if loss == "none" else f"loss {LOSSES.get(loss, loss)}"
        learnt = [run.called.get(name, name) for name in config.get("sources", ()) if name != "none"]
        of_others = f", with what comes from {'; '.join(learnt)}" if learnt else ""
        return f"A CNN, {how}{of_others}. {data[0].upper()}{data[1:]}."
    taught = "without a teacher"
    if config.get("cache", "none") != "none":
        taught = f"taught by the labels of the {run.called.get(config['cache'], config['cache'])}"
    elif config.get("teacher", "none") != "none":
        taught = f"taught by the {run.called.get(config['teacher'], config['teacher'])}"
    begun = config.get("start", "none")
    begun = f", begun from {run.called.get(begun, begun)}" if begun != "none" else ""
    return f"A student (method {config.get('method')}), {taught}{begun}. {data[0].upper()}{data[1:]}."


def facts(run: Run) -> list[tuple[str, str]]:
    about = run.record or run.diagnosed or {}
    seeds = (run.diagnosed or {}).get("seeds") or list((run.record or {}).get("seeds", ()))
    listed = {
        "entry": run.entry,
        "study": run.study,
        "dataset": about.get("dataset"),
        "config hash": about.get("config_hash"),
        "seeds": ", ".join(map(str, seeds)) or None,
        "shown": "last epoch, unless a table says best",
    }
    return [(name, shown(value)) for name, value in listed.items()]


def html(run: Run) -> str:
    """The page, at reports/pages/<folder>.html. The same files give the same bytes."""
    up = "../" * (3 if run.kind == "teacher" else 2)
    about = {
        "entry": run.entry,
        "study": run.study,
        "label": run.label,
        "title": title(run),
        "sentence": sentence(run),
        "facts": facts(run),
        "files": [(name, up + quote(path)) for name, path in files(run).items()],
    }
    return page("run.html.j2", run=about, sections=sections(run), up=up, inputs=inputs(run))


def inputs(run: Run) -> str:
    """sha256 of what the page is made from; the page carries it, so that one can tell when it is out of date."""
    return params.digest(asdict(run))


def files(run: Run) -> dict[str, str]:
    """{name: path below reports/} of what the page was made from, and of the predictions."""
    made = {
        "run.json": (run.record, f"runs/{run.folder}/run.json"),
        "diagnostics.json": (run.diagnosed, f"runs/{run.folder}/diagnostics.json"),
        "predictions.npz": (run.diagnosed, f"runs/{run.folder}/predictions.npz"),
        "metrics": (run.metrics, f"metrics/{run.folder}.json"),
        "experts": (run.experts, f"experts/{run.folder}.json"),
    }
    return {name: path for name, (there, path) in made.items() if there}
