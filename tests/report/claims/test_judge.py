"""The claim ledger on constructed results, and docs/claims.yaml as it is."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
import yaml

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.claims.judge import Claim, Judged, ledger, load, overall
from longtail.report.claims.ledger import HEADER, counterpart, place, to_csv, to_markdown
from longtail.report.claims.measures import Measure
from tests.helpers.reporting import PUBLISHED, metrics_file, run_stage
from tests.helpers.root import ROOT

T2 = {"file": "deit_lt_table_2.csv", "dataset": "CIFAR-10-LT", "imbalance": 100, "backbone": "ViT-B"}
LABELS = np.repeat([0, 1, 2], 40)
GROUPS = {"author": {"head": [0], "mid": [1], "tail": [2]}, "count": {"many": [0, 1], "medium": [], "few": [2]}}


def claim(higher: dict, lower: dict, study: str | None = "s", **more) -> Claim:
    pair = {"higher": higher, "lower": lower} | ({"study": study} if study else {})
    return params.build(
        Claim, {"id": "c", "paper": "DeiT-LT", "where": "Table 9", "text": "A | B.", "full": [pair], **more}, "claim"
    )


def decided(claim: Claim, reports) -> Judged:
    (found,) = ledger([claim], reports)
    return found


AB = claim({"entry": "a"}, {"entry": "b"})


def put(reports, entry: str, top1: list[float], kind: str = "experiment", **more) -> None:
    under = {"teacher": "teachers/", "experiment": ""}[kind]
    found = metrics_file(entry, kind, top1) | {"groups": GROUPS} | more
    write_json(reports / f"metrics/s/{under}{entry}.json", found)


def put_predictions(reports, entry: str, right: list[list[int]], under: str = "", labels=LABELS) -> None:
    """predictions.npz of a run: right[seed][k] images of class k are right; its metrics file fits."""
    predicted = {}
    per_class = np.array([[100 * n / 40 for n in seed] for seed in right])
    for s, counts in enumerate(right):
        answers = [np.where(np.arange(40) < n, k, (k + 1) % 3) for k, n in enumerate(counts)]
        for head in ("avg", "cls"):
            predicted[f"seed{s}_last_{head}"] = np.concatenate(answers).astype(np.uint8)
    folder = reports / "runs/s" / under / entry
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"labels": labels.astype(np.uint8), "class_counts": np.array([9, 5, 2]), **predicted}
    np.savez_compressed(folder / "predictions.npz", **arrays)
    found = metrics_file(entry, "teacher" if under else "experiment", per_class.mean(axis=1).tolist())
    for s, values in enumerate(per_class):
        for head in ("avg", "cls"):
            found["seeds"][str(s)]["last"][head] |= {"top1": values.mean(), "head": values[0], "tail": values[2]}
    write_json(reports / "metrics/s" / under / f"{entry}.json", found | {"groups": GROUPS})


# --- verdicts


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([80.0, 81.0, 82.0], [70.0, 71.0, 73.0], "holds"),
        ([70.0, 71.0, 73.0], [80.0, 81.0, 82.0], "does not hold"),
        ([80.0, 81.0, 82.0], [70.0, 90.0, 80.0], "undecided"),
        ([80.0, 81.0, 82.0], [80.0, 81.0, 82.0], "undecided"),
    ],
)
def test_three_seeds_are_decided_by_t(tmp_path, a, b, verdict):
    put(tmp_path, "a", a)
    put(tmp_path, "b", b)
    found = decided(AB, tmp_path)
    assert (found.verdict, found.seeds, found.method, found.reason) == (verdict, 3, "paired t over 3 seeds", "")
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b)) and found.unit == "points"


def test_the_interval_by_hand(tmp_path):
    """Differences 10, 10, 9: mean 29/3, s = 1/sqrt(3), half width 4.302653 / 3."""
    put(tmp_path, "a", [80.0, 81.0, 82.0])
    put(tmp_path, "b", [70.0, 71.0, 73.0])
    assert decided(AB, tmp_path).interval == pytest.approx((29 / 3 - 4.302653 / 3, 29 / 3 + 4.302653 / 3))


@pytest.mark.parametrize(
    ("a", "b", "verdict"), [(38, 30, "holds"), (30, 38, "does not hold"), (31, 30, "undecided"), (30, 30, "undecided")]
)
def test_one_seed_is_decided_by_its_test_images(tmp_path, a, b, verdict):
    """A model right on n of 40 in each class is right on all that a worse one is right on."""
    put_predictions(tmp_path, "a", [[a, a, a]])
    put_predictions(tmp_path, "b", [[b, b, b]])
    found = decided(AB, tmp_path)
    assert found.verdict == verdict and found.difference == pytest.approx(100 * (a - b) / 40)
    assert found.method == "paired bootstrap over 120 test images, 1 seed"
    assert found.reason == "other training seeds are not in the interval" and found.interval_both is None
    low, high = found.interval
    assert low <= found.difference <= high


def test_groups_by_test_images(tmp_path):
    """Better on the head, worse on the tail: each group is judged by its own classes, one of each here."""
    put_predictions(tmp_path, "a", [[40, 20, 5], [38, 20, 5]])
    put_predictions(tmp_path, "b", [[20, 20, 25], [22, 20, 25]])
    verdicts = {}
    for metric in ("head", "tail", "top1"):
        found = decided(claim({"entry": "a", "metric": metric}, {"entry": "b", "metric": metric}), tmp_path)
        verdicts[metric] = (found.verdict, round(found.difference, 4))
        images = 120 if metric == "top1" else 40
        assert found.method == f"paired bootstrap over {images} test images, 2 seeds"
        assert found.interval_both[0] < found.difference < found.interval_both[1]
        if metric == "head":  # where the seeds differ, leaving them out makes the interval too narrow
            assert found.interval_both[0] < found.interval[0] < found.interval[1] < found.interval_both[1]
    assert verdicts == {"head": ("holds", 45.0), "tail": ("does not hold", -50.0), "top1": ("undecided", -1.6667)}


def test_three_seeds_are_decided_by_t_though_there_are_predictions(tmp_path):
    put_predictions(tmp_path, "a", [[38, 30, 20], [36, 30, 20], [37, 31, 20]])
    put_predictions(tmp_path, "b", [[30, 30, 20], [30, 29, 20], [31, 30, 20]])
    found = decided(AB, tmp_path)
    assert found.method == "paired t over 3 seeds" and found.interval_both is not None


def test_each_head_has_its_own_predictions(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    path = tmp_path / "runs/s/a/predictions.npz"
    arrays = dict(np.load(path))
    arrays["seed0_last_cls"] = np.where(np.arange(120) % 2, LABELS, (LABELS + 1) % 3).astype(np.uint8)  # half are right
    np.savez(path, **arrays)
    found = metrics_file("a", "experiment", [95.0]) | {"groups": GROUPS}
    found["seeds"]["0"]["last"]["cls"]["top1"] = 50.0
    write_json(tmp_path / "metrics/s/a.json", found)
    judged = decided(claim({"entry": "a", "head": "avg"}, {"entry": "a", "head": "cls"}), tmp_path)
    assert (judged.verdict, judged.difference) == ("holds", 45.0)


def test_a_teacher_and_its_student(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "t", [[30, 30, 30], [9, 9, 9]], under="teachers")  # seed 1 has no student
    found = decided(claim({"entry": "a"}, {"teacher": "t"}), tmp_path)
    assert (found.verdict, found.difference, found.seeds) == ("holds", pytest.approx(20.0), 1)


# --- what is missing


def test_what_was_not_run_is_not_judged(tmp_path):
    put(tmp_path, "a", [80.0] * 3)
    found = decided(AB, tmp_path)
    assert found == Judged(AB, AB.full[0], False, "not yet run", reason="not run: b")
    neither = claim({"printed": {**T2, "method": "ViT"}}, {"printed": {**T2, "method": "DeiT"}}, study=None)
    found = decided(neither, tmp_path)
    assert (found.verdict, found.reason) == ("not yet run", "no run of ours tests it yet")


def test_few_seeds_without_predictions_are_undecided(tmp_path):
    put(tmp_path, "a", [80.0, 90.0])
    put(tmp_path, "b", [70.0])
    found = decided(AB, tmp_path)
    assert (found.verdict, found.difference, found.interval) == ("undecided", 10.0, None)  # seed 0 alone
    assert found.reason == "1 seed, and no predictions of single test images" and not found.method


def test_no_seed_in_common(tmp_path):
    put(tmp_path, "a", [80.0])
    shifted = metrics_file("b", "experiment", [70.0])
    shifted["seeds"] = {"7": shifted["seeds"]["0"]}
    write_json(tmp_path / "metrics/s/b.json", shifted)
    found = decided(AB, tmp_path)
    assert (found.verdict, found.reason, found.difference) == ("undecided", "no seed has both numbers", None)


def test_an_empty_group_has_no_number(tmp_path):
    for entry in "ab":
        found = metrics_file(entry, "experiment", [80.0] * 3, tail=None)
        write_json(tmp_path / f"metrics/s/{entry}.json", found)
    tail = claim({"entry": "a", "metric": "tail"}, {"entry": "b", "metric": "tail"})
    assert decided(tail, tmp_path).reason == "no seed has both numbers"


def test_a_class_of_one_test_image_is_not_resampled(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]])
    for entry in "ab":
        path = tmp_path / f"runs/s/{entry}/predictions.npz"
        arrays = dict(np.load(path)) | {"labels": np.append(LABELS[:-1], 3).astype(np.uint8)}
        np.savez(path, **arrays)
    assert decided(AB, tmp_path).reason == "1 seed, and a class with a single test image"


# --- analyses


RANKS = {"a": (10, 12, 14), "b": (20, 22, 24)}


def put_ranks(reports) -> None:
    for entry, ranks in RANKS.items():
        folder = reports / "analysis/s" / entry
        folder.mkdir(parents=True)
        rows = [
            f"{s},{t},{b},both,{r + b + (50 if t == 'cls' else 0)}"
            for s, r in enumerate(ranks)
            for b in (0, 2)
            for t in ("cls", "dist")
        ]
        (folder / "feature_rank.csv").write_text("\n".join(["seed,token,block,centring,rank", *rows]) + "\n")


def test_an_analysis_is_the_mean_of_the_rows_chosen(tmp_path):
    put_ranks(tmp_path)
    side = {"metric": "feature_rank", "where": {"token": ["dist"]}}
    measure = params.build(Measure, {"entry": "a", **side}, "m")
    assert measure.by_seed("s", tmp_path) == {0: 11.0, 1: 13.0, 2: 15.0}  # blocks add 0 and 2
    found = decided(claim({"entry": "b", **side}, {"entry": "a", **side}), tmp_path)
    assert (found.verdict, found.difference, found.interval, found.unit) == ("holds", 10.0, (10.0, 10.0), "directions")
    across = decided(claim({"entry": "a", **side, "where": {"token": ["cls"]}}, {"entry": "b", **side}), tmp_path)
    assert across.difference == 40.0
    absent = decided(claim({"entry": "a", **side, "where": {"block": ["9"]}}, {"entry": "b", **side}), tmp_path)
    assert (absent.verdict, absent.reason) == ("undecided", "no seed has both numbers")


def test_entropy_and_accuracy_on_views_are_of_a_cache(tmp_path):
    folder = tmp_path / "analysis/s/teachers/c"
    folder.mkdir(parents=True)
    rows = [f"{s},{d},{v}" for s in range(2) for d, v in (("in", 0.1), ("out", 0.4))]
    (folder / "entropy_mean.csv").write_text("\n".join(["seed,domain,mean_nats", *rows]) + "\n")
    sides = [{"cache": "c", "metric": "entropy", "where": {"domain": [d]}} for d in ("out", "in")]
    found = decided(claim(*sides), tmp_path)
    assert found.difference == pytest.approx(0.3) and found.unit == "nats"
    assert (found.verdict, found.reason) == ("undecided", "2 seeds, and no number for single test images")
    values = {"schema": 1, "entry": "c", "kind": "cache", "study": "s", "teacher": "t"}
    seeds = {str(s): {"teacher_top1_on_views": 60.0 + s} for s in range(2)}
    summary = {"teacher_top1_on_views": {"mean": 60.5, "stderr": 0.5, "n": 2}}
    write_json(tmp_path / "metrics/s/caches/c.json", values | {"seeds": seeds, "summary": summary})
    views = Measure(cache="c", metric="teacher_top1_on_views")
    assert views.by_seed("s", tmp_path) == {0: 60.0, 1: 61.0}


# --- damaged files


def test_a_damaged_analysis_is_named(tmp_path):
    put_ranks(tmp_path)
    path = tmp_path / "analysis/s/a/feature_rank.csv"
    side = {"metric": "feature_rank", "where": {"token": ["dist"]}}
    pair = claim({"entry": "a", **side}, {"entry": "b", **side})
    for text in (path.read_text()[:-2] + "x\n", "seed,block\n0,1\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"feature_rank\.csv: cut short, or no column"):
            decided(pair, tmp_path)


def test_damaged_predictions_are_named(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]])
    path = tmp_path / "runs/s/a/predictions.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"a/predictions\.npz: cut short or damaged"):
        decided(AB, tmp_path)
    np.savez(path, labels=LABELS)
    with pytest.raises(UserError, match=r"a/predictions\.npz: no 'seed0_last_avg' in it"):
        decided(AB, tmp_path)


def test_predictions_of_another_training_are_refused(tmp_path):
    """Those of `a` were made before it was trained again."""
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]])
    put(tmp_path, "a", [90.0])
    with pytest.raises(UserError, match=r"a and b differ by 20\.00, by their metrics by 15\.00; run stages/evaluate"):
        decided(AB, tmp_path)


def test_predictions_of_another_test_set_are_refused(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]], labels=LABELS[::-1])
    with pytest.raises(UserError, match="a and b: predictions of different test sets"):
        decided(AB, tmp_path)


def test_a_head_that_is_not_there(tmp_path):
    put(tmp_path, "a", [80.0])
    with pytest.raises(UserError, match="a has no head 'dist'"):
        decided(claim({"entry": "a", "head": "dist"}, {"entry": "a"}), tmp_path)


# --- the verdict of a claim as a whole


@pytest.mark.parametrize(
    ("full", "miniature", "expected"),
    [
        (["holds", "holds"], ["does not hold"], "holds"),
        (["holds", "not yet run"], ["holds"], "not yet run"),
        (["holds", "undecided", "not yet run"], [], "undecided"),
        (["holds", "does not hold", "undecided"], ["holds"], "does not hold"),
        (["not yet run"], ["holds"], "not yet run"),
    ],
)
def test_miniatures_decide_nothing(full, miniature, expected):
    judged = [Judged(AB, AB.full[0], m, v) for m, vs in ((False, full), (True, miniature)) for v in vs]
    assert overall(judged) == expected


# --- texts


def test_csv(tmp_path):
    put(tmp_path, "a", [80.0, 81.0, 82.0])
    put(tmp_path, "b", [70.0, 71.0, 73.0])
    printed = [{**T2, "method": method} for method in ("DeiT-LT [teacher=L-D-SAM]", "ViT")]
    pair = {"higher": {"entry": "a", "printed": printed[0]}, "lower": {"entry": "b", "printed": printed[1]}}
    absent = {"study": "s", "higher": {"entry": "x"}, "lower": {"entry": "y"}}
    found = claim(*pair.values(), miniature=[absent])
    text = to_csv(ledger([found], tmp_path), PUBLISHED)
    first, second = csv.DictReader(io.StringIO(text))
    assert tuple(first) == HEADER
    numbers = [first[k] for k in ("difference", "low", "high", "printed_higher", "printed_lower", "printed_difference")]
    assert numbers == ["9.6667", "8.2324", "11.1009", "84.8", "62.6", "22.2000"]
    assert (first["overall"], first["verdict"], first["miniature"]) == ("holds", "holds", "0")
    assert (second["overall"], second["verdict"], second["miniature"]) == ("holds", "not yet run", "1")
    assert [second[k] for k in ("difference", "low", "high", "printed_higher", "both_low")] == [""] * 5
    assert text == to_csv(ledger([found], tmp_path), PUBLISHED)


def test_markdown(tmp_path):
    put(tmp_path, "a", [80.0, 81.0, 82.0])
    put(tmp_path, "b", [70.0, 71.0, 73.0])
    doubtful = {**T2, "backbone": "ResNet-32", "imbalance": 50}
    sides = [{"printed": {**doubtful, "method": m}} for m in ("L-D-SAM", "LDAM+DRW")]
    other = claim(*sides, study=None, id="d", paper="CBD")
    lines = to_markdown(ledger([AB, other], tmp_path), PUBLISHED).splitlines()
    assert "Claims: 1 hold, 0 not yet run, 0 undecided, 0 do not hold." in lines
    row = "| **A \\| B.** Table 9: *holds* | s |  | +9.67 points | +8.23 to +11.10 | paired t over 3 seeds | holds |  |"
    assert row in lines
    assert any("no run yet: CIFAR-10-LT, ρ = 50, ResNet-32 | +5.5 (?) |  |  |" in line for line in lines)


def test_what_others_report_stands_beside_a_claim_once_and_decides_nothing(tmp_path):
    put(tmp_path, "a", [80.0, 81.0, 82.0])
    put(tmp_path, "b", [70.0, 71.0, 73.0])
    others = [
        {"source": "https://example.org/a/1", "text": "A | b fell."},
        {"source": "https://example.org/2", "text": "C."},
    ]
    absent = {"study": "s", "higher": {"entry": "x"}, "lower": {"entry": "y"}}
    found = ledger([claim({"entry": "a"}, {"entry": "b"}, others=others, miniature=[absent])], tmp_path)
    said = "A | b fell. (https://example.org/a/1) C. (https://example.org/2)"
    rows = list(csv.DictReader(io.StringIO(to_csv(found, PUBLISHED))))
    assert [row["others"] for row in rows] == [said, said] and rows[0]["overall"] == "holds"
    lines = [line for line in to_markdown(found, PUBLISHED).splitlines() if line.startswith("| ")]
    assert lines[0].endswith("| others' reproductions |")
    assert lines[1].endswith(f"| holds | {said.replace('|', chr(92) + '|')} |") and lines[2].endswith(
        "| not yet run |  |"
    )


def test_printed_curves():
    """Fig. 4c, read off: DeiT's rank in the first and the last block is 383 and 393, L-D-SAM's 187 and 249."""
    curve = {"figure": "feature_rank", "at": [0, 11]}
    sides = [
        {"metric": "feature_rank", "curve": {**curve, "method": m}}
        for m in ("DeiT (RegNetY)", "DeiT-LT [teacher=L-D-SAM]")
    ]
    found = counterpart(claim(*sides, study=None).full[0], PUBLISHED, "here")
    assert (found.higher.value, found.lower.value, found.difference) == ("388", "218", 170.0)
    sides[0]["curve"]["at"] = [12]
    with pytest.raises(UserError, match=r"here, higher: curve 'DeiT \(RegNetY\)' has no point at \(12,\)"):
        counterpart(claim(*sides, study=None).full[0], PUBLISHED, "here")


# --- the claims file


def write_claims(path, **changes) -> dict:
    entry = {"id": "c", "paper": "DeiT-LT", "where": "Table 9", "text": "t"}
    entry["full"] = [{"study": "s", "higher": {"entry": "a"}, "lower": {"entry": "b"}}]
    path.write_text(yaml.safe_dump({"claims": [entry | changes]}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wher": "x"}, r"claims\[0\]\.wher: unknown key; did you mean 'where'\?"),
        ({"paper": "DeiT"}, r"claims\[0\]\.paper: 'DeiT' is not one of DeiT-LT, LiVT"),
        ({"id": "A claim"}, "id 'A claim': use a-z"),
        ({"full": []}, "claim 'c' needs a comparison under `full`"),
        ({"full": [{"higher": {"entry": "a"}, "lower": {"entry": "b"}}]}, "a study and both sides' runs"),
        ({"full": [{"study": "s", "higher": {"entry": "a"}, "lower": {}}]}, "a study and both sides' runs"),
        ({"full": [{"study": "s", "higher": {"entry": "a", "metric": "tail"}, "lower": {"entry": "b"}}]}, "one metric"),
        ({"full": [{"higher": {"metric": "tial"}, "lower": {}}]}, "did you mean 'tail'"),
        ({"full": [{"study": "s", "higher": {"entry": "a", "teacher": "t"}, "lower": {}}]}, "one of them"),
        ({"full": [{"study": "s", "higher": {"cache": "a"}, "lower": {}}]}, "top1 is not of a cache"),
        (
            {"full": [{"study": "s", "higher": {"entry": "a", "metric": "entropy"}, "lower": {}}]},
            "entropy is of a cache",
        ),
        ({"others": [{"source": "a paper", "text": "x"}]}, "source 'a paper': a public address, https://"),
        ({"others": [{"source": "https://example.org", "text": " "}]}, "say in `text` what it reports"),
        ({"full": [{"higher": {"where": {"token": ["dist"]}}, "lower": {}}]}, "top1 is none"),
    ],
)
def test_a_damaged_claims_file_is_one_line(tmp_path, changes, message):
    write_claims(tmp_path / "claims.yaml", **changes)
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path / "claims.yaml")
    assert str(error.value).startswith(str(tmp_path / "claims.yaml")) and "\n" not in str(error.value)


def test_a_claim_stands_there_once(tmp_path):
    write_claims(tmp_path / "claims.yaml")
    twice = yaml_file.read(tmp_path / "claims.yaml")["claims"] * 2
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": twice}))
    with pytest.raises(UserError, match="claim 'c' stands there twice"):
        load(tmp_path / "claims.yaml")


def test_stage_writes_and_checks(tmp_path, capsys):
    write_claims(tmp_path / "claims.yaml")
    line = ["--claims", tmp_path / "claims.yaml", "--reports", tmp_path, "--published", PUBLISHED, "--out", tmp_path]
    assert run_stage("claims", *line, "--check") == 1 and "claims.csv: out of date" in capsys.readouterr().err
    assert not (tmp_path / "claims.csv").exists()
    assert run_stage("claims", *line) == 0 and run_stage("claims", *line, "--check") == 0
    assert "not yet run" in (tmp_path / "claims.md").read_text()
    put(tmp_path, "a", [80.0] * 3)
    put(tmp_path, "b", [70.0] * 3)  # runs came in
    assert run_stage("claims", *line, "--check") == 1
    (tmp_path / "claims.yaml").write_text("claims: [")
    assert run_stage("claims", *line) == 2
    (tmp_path / "claims.yaml").unlink()
    assert run_stage("claims", *line) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "not valid YAML" in errors[-2] and "no such file" in errors[-1]


def test_no_torch():
    code = "import longtail.report.claims.ledger, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- docs/claims.yaml

TABLE = params.load_all(ROOT)
LEDGER = load(ROOT / "docs/claims.yaml")
PAIRS = [
    (c, pair, miniature)
    for c in LEDGER
    for miniature in (False, True)
    for pair in (c.miniature if miniature else c.full)
]
SECTION = {"entry": "experiments", "teacher": "teachers", "cache": "caches"}


def test_every_run_is_an_entry_of_its_study():
    for c, pair, miniature in PAIRS:
        if pair.study is None:
            continue
        assert TABLE["studies"][pair.study]["comparable"] != miniature, c.id
        for side in (pair.higher, pair.lower):
            assert side.name in TABLE[SECTION[side.kind]], (c.id, side.name)
            assert TABLE[SECTION[side.kind]][side.name]["study"] == pair.study, (c.id, side.name)


def test_every_printed_cell_exists_and_bears_the_claim_out():
    """Also catches sides that were swapped: what a paper claims, its printed numbers show."""
    for c, pair, _ in PAIRS:
        found = counterpart(pair, PUBLISHED, f"claim '{c.id}' ({place(pair)})")
        assert (found.higher is None) == (found.lower is None), c.id
        assert found.higher is None or found.difference > 0, (c.id, found)


def test_sides_are_of_one_printed_setting():
    for c, pair, _ in PAIRS:
        settings = {(s.printed.dataset, s.printed.imbalance) for s in (pair.higher, pair.lower) if s.printed}
        assert len(settings) <= 1, c.id


def test_epochs_are_those_of_the_runs():
    """A distance at the end of training is that of the entry's last epoch, counted from 0."""
    for c, pair, _ in PAIRS:
        last = {int(epoch) for side in (pair.higher, pair.lower) for epoch in side.where.get("epoch", ())}
        for entry in pair.entries if last else ():
            epochs = TABLE["recipes"][TABLE["experiments"][entry]["recipe"]]["train"]["epochs"]
            assert max(last) == epochs - 1, c.id


def test_every_study_and_every_paper_is_there():
    studies = {pair.study for _, pair, _ in PAIRS} - {None}
    assert studies == set(TABLE["studies"]) - {
        "cifar10_if1",
        "livt-imagenet_bal",
        "livt-released",
        "livt-digits-budget",
        "cbd-digits_sweeps",  # exploratory: it chooses on the test set
        "common-digits",  # no paper's: nobody claims anything
        "common-cifar100_if100",
    }  # in none
    assert {c.paper for c in LEDGER} == {"DeiT-LT", "LiVT", "DiVE", "CBD"}


def test_the_ledger_of_what_was_run():
    """Every verdict is one of the four, has what belongs to it, and reads back from the CSV."""
    judged = ledger(LEDGER, ROOT / "reports")
    for j in judged:
        assert (j.interval is None) == (not j.method), j.claim.id
        assert j.method or j.reason, j.claim.id
        if j.verdict == "not yet run":
            assert j.difference is None and j.seeds == 0
        if j.interval:
            low, high = j.interval
            assert low <= j.difference <= high
    rows = list(csv.DictReader(io.StringIO(to_csv(judged, PUBLISHED))))
    assert [(r["id"], r["verdict"]) for r in rows] == [(j.claim.id, j.verdict) for j in judged]
