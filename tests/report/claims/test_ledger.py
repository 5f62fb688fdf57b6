"""The claim ledger as text, the file of claims, and docs/claims.yaml as it is."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.report.claims import reruns
from longtail.report.claims.judge import Judged, ledger, load, load_reruns, overall
from longtail.report.claims.ledger import HEADER, counterpart, place, to_csv, to_markdown
from longtail.report.claims.reruns import Rerun
from longtail.report.claims.rules import BOTH, LEAST_SEEDS
from tests.helpers.claims import AB, T2, claim, put, put_predictions
from tests.helpers.reporting import PUBLISHED, run_stage
from tests.helpers.root import ROOT, params_table

# --- the verdict of a claim as a whole


@pytest.mark.parametrize(
    ("full", "miniature", "expected"),
    [
        (["holds", "holds"], ["does not hold"], "holds"),
        (["holds", "not yet run"], ["holds"], "not yet run"),
        (["holds", "undecided", "not yet run"], [], "undecided"),
        (["holds", "does not hold", "undecided"], ["holds"], "does not hold"),
        (["not yet run"], ["holds"], "not yet run"),
        (["holds", "one run"], ["holds"], "one run"),
        (["one run", "undecided"], [], "undecided"),
    ],
)
def test_miniatures_decide_nothing(full, miniature, expected):
    judged = [Judged(AB, AB.full[0], m, v) for m, vs in ((False, full), (True, miniature)) for v in vs]
    assert overall(judged) == expected


# --- texts


def ten_apart(reports) -> None:
    """a is right on 32, b on 20 of 40 images of each class, with every seed: 30 points, ± 8.39 (t, 117 degrees of
    freedom, s^2 = .21 * 40/39 in each class: 1.98045 * sqrt(.21 / 39 / 3))."""
    put_predictions(reports, "a", [[32, 32, 32]] * 3)
    put_predictions(reports, "b", [[20, 20, 20]] * 3)


def test_csv(tmp_path):
    ten_apart(tmp_path)
    printed = [{**T2, "method": method} for method in ("DeiT-LT [teacher=L-D-SAM]", "ViT")]
    pair = {"higher": {"entry": "a", "printed": printed[0]}, "lower": {"entry": "b", "printed": printed[1]}}
    absent = {"study": "s", "higher": {"entry": "x"}, "lower": {"entry": "y"}}
    found = claim(*pair.values(), miniature=[absent])
    text = to_csv(ledger([found], tmp_path), PUBLISHED)
    first, second = csv.DictReader(io.StringIO(text))
    assert tuple(first) == HEADER
    numbers = [first[k] for k in ("difference", "low", "high", "printed_higher", "printed_lower", "printed_difference")]
    assert numbers == ["30.0000", "21.6097", "38.3903", "84.8", "62.6", "22.2000"]
    assert (first["overall"], first["verdict"], first["miniature"]) == ("holds", "holds", "0")
    assert (second["overall"], second["verdict"], second["miniature"]) == ("holds", "not yet run", "1")
    assert [second[k] for k in ("difference", "low", "high", "printed_higher", "p")] == [""] * 5
    told = [first[k] for k in ("higher_value", "lower_value", "points", "covers")]
    assert told == ["80.0000", "50.0000", "claimed", "training seeds and test images"]
    assert first["p"] == first["p_holm"] and float(first["p"]) < 1e-4  # the only one that was tested
    assert text == to_csv(ledger([found], tmp_path), PUBLISHED)


def test_markdown(tmp_path):
    ten_apart(tmp_path)
    doubtful = {**T2, "backbone": "ResNet-32", "imbalance": 50}
    sides = [{"printed": {**doubtful, "method": m}} for m in ("L-D-SAM", "LDAM+DRW")]
    other = claim(*sides, study=None, id="d", paper="CBD")
    lines = to_markdown(ledger([AB, other], tmp_path), PUBLISHED).splitlines()
    assert (
        "Claims: 1 hold, 0 do not hold, 0 undecided, 0 of one run, 0 of two runs, 0 not informative, 0 not yet run."
        in lines
    )
    assert any(
        line.startswith("| **A \\| B.** Table 9: *holds* | s |  | 80 | 50 | +30.00 points | +21.61 to +38.39 |")
        and line.endswith("| paired, over 3 seeds and 120 test images | holds |  |")
        for line in lines
    )
    assert "1 comparisons were tested and 1 have a verdict" in " ".join(lines)
    assert any("no run yet: CIFAR-10-LT, ρ = 50, ResNet-32 | +5.5 (?) |  |  |  |" in line for line in lines)


def test_a_cause_stands_where_a_claim_does_not_hold(tmp_path):
    """a is 30 points above b: the turned claim does not hold, of whatever cause its comparison names."""
    ten_apart(tmp_path)
    found = claim({"entry": "b"}, {"entry": "a"})
    for said, shown in (("", "Cause not known."), ("B is small.", "B is small.")):
        told = replace(found, full=(replace(found.full[0], cause=said),))
        (row,) = csv.DictReader(io.StringIO(to_csv(ledger([told], tmp_path), PUBLISHED)))
        assert (row["verdict"], row["cause"]) == ("does not hold", shown)
        assert shown in to_markdown(ledger([told], tmp_path), PUBLISHED)
    holds = claim({"entry": "a"}, {"entry": "b"})
    holds = replace(holds, full=(replace(holds.full[0], cause="B is small."),))
    assert "B is small" not in to_csv(ledger([holds], tmp_path), PUBLISHED)


def test_causes_are_sentences_without_numbers_that_could_grow_old():
    pairs = [pair for each in load(ROOT / "docs/claims.yaml") for pair in (*each.full, *each.miniature) if pair.cause]
    assert pairs and not any(re.search(r"\d", pair.cause) or not pair.cause.endswith(".") for pair in pairs)


def test_what_others_report_stands_beside_a_claim_once_and_decides_nothing(tmp_path):
    ten_apart(tmp_path)
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


# --- who else ran it

RERUN = {
    **{"paper": "DeiT-LT", "setting": "ViT | B", "study": "s"},
    "ours": {"entry": "a", "printed": {**T2, "method": "ViT", "backbone": "ViT-B"}},
    "others": [
        {"value": "60.1", "source": "https://example.org/3", "text": "On one GPU."},
        {"kind": "released weights", "value": "62.5", "source": "https://example.org/4", "text": "README."},
    ],
}


def test_who_else_ran_it_beside_print_and_ours(tmp_path):
    """Ours 80, 81, 82: mean 81, s = 1, half the interval 4.302653 / sqrt(3)."""
    row = params.build(Rerun, RERUN, "r")
    (line,) = reruns.lines((row,), tmp_path, PUBLISHED)
    assert (line.printed, line.ours) == ("62.6", "")
    put(tmp_path, "a", [80.0, 81.0, 82.0])
    (line,) = reruns.lines((row,), tmp_path, PUBLISHED)
    assert line.ours == "81.00 (78.52 to 83.48, 3 seeds)"
    assert [[o.value for o in side] for side in (line.by_authors, line.by_others)] == [["62.5"], ["60.1"]]
    text = to_markdown([], PUBLISHED, [line])
    assert "| DeiT-LT | ViT \\| B | 62.6 | **62.5** README. (https://example.org/4) | **60.1** On one GPU. (" in text
    put(tmp_path, "a", [80.0])
    assert reruns.lines((row,), tmp_path, PUBLISHED)[0].ours == "80.00 (1 seed)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"others": []}, "name at least one of `others`"),
        ({"others": [{"source": "https://example.org", "text": "x"}]}, "needs a `value`"),
        ({"ours": {"entry": "a"}}, "names a run, and what is printed"),
        ({"others": [{"source": "x", "text": "x", "value": "1"}]}, "a public address"),
    ],
)
def test_a_row_without_what_it_needs_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        params.build(Rerun, RERUN | changes, "r")


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

TABLE = params_table()
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
            for name in side.runs:
                assert name in TABLE[SECTION[side.kind]], (c.id, name)
                assert TABLE[SECTION[side.kind]][name]["study"] == pair.of(side), (c.id, name)


def test_every_printed_cell_exists_and_bears_the_claim_out():
    """Also catches sides that were swapped: what a paper claims, its printed numbers show."""
    for c, pair, _ in PAIRS:
        found = counterpart(pair, PUBLISHED, f"claim '{c.id}' ({place(pair)})")
        assert (found.higher is None) == (found.lower is None), c.id
        assert found.higher is None or found.difference > 0, (c.id, found)


def test_teachers_are_compared_with_the_weights_that_teach():
    """`select: best` in a teacher's entry: in print as well, a student stands beside the teacher that taught it."""
    for c, pair, _ in PAIRS:
        for side in pair.sides:
            selected = TABLE["teachers"][side.teacher]["select"] if side.teacher else "last"
            assert side.weights == selected, (c.id, side.name)


def test_sides_are_of_one_printed_setting():
    """But where the claim is about imbalance itself."""
    for c, pair, _ in PAIRS:
        settings = {(s.printed.dataset, s.printed.imbalance) for s in pair.sides if s.printed}
        assert len(settings) <= 1 or c.id == "gap-grows-with-imbalance", c.id


def test_epochs_are_those_of_the_runs():
    """A distance at the end of training is that of the entry's last epoch, counted from 0."""
    for c, pair, _ in PAIRS:
        last = {int(epoch) for side in (pair.higher, pair.lower) for epoch in side.where.get("epoch", ())}
        for entry in pair.entries if last else ():
            epochs = TABLE["recipes"][TABLE["experiments"][entry]["recipe"]]["train"]["epochs"]
            assert max(last) == epochs - 1, c.id


def test_who_else_ran_it_names_runs_of_theirs_and_printed_numbers():
    """And where a value is a number, it lies within 15 points of print: a slip of a digit does not."""
    rows = load_reruns(ROOT / "docs/claims.yaml")
    for each in rows:
        assert TABLE[SECTION[each.ours.kind]][each.ours.name]["study"] == each.study, each.setting
    found = reruns.lines(rows, ROOT / "reports", PUBLISHED)
    assert len({(line.paper, line.setting) for line in found}) == len(found) >= 14
    for line in found:
        for other in (*line.by_authors, *line.by_others):
            if re.fullmatch(r"[\d.]+", other.value):
                assert abs(float(other.value) - float(line.printed)) < 15, (line.setting, other.value)


def test_no_claim_rests_on_a_run_of_an_exploratory_table_alone():
    """A sweep that chooses on the test set: what it shares with another table of its study may be claimed, no more."""
    claimed = {name for _, pair, _ in PAIRS for side in pair.sides for name in side.runs}
    marked = 0
    for study in TABLE["studies"].values():
        shown = {True: set(), False: set()}
        for table in study["tables"]:
            named = {row.get("entry") or row.get("teacher") for row in table["rows"]}
            shown[table.get("exploratory", False)] |= named
        marked += bool(shown[True])
        assert not claimed & (shown[True] - shown[False]), study["title"]
    assert marked >= 3


def test_every_study_and_every_paper_is_there():
    studies = {pair.of(side) for _, pair, _ in PAIRS for side in pair.sides} - {None}
    assert studies == set(TABLE["studies"]) - {
        "livt-imagenet_bal",
        "livt-released",
        "livt-digits-budget",
        "cbd-digits_sweeps",  # exploratory: it chooses on the test set
        "digits-validation",  # no paper claims anything of how an epoch is chosen
        "common-digits",  # no paper's: nobody claims anything
        "common-cifar100_if100",
    }  # in none
    assert {c.paper for c in LEDGER} == {"DeiT-LT", "LiVT", "DiVE", "CBD"}


def test_the_ledger_of_what_was_run():
    """Every verdict is one of the four, has what belongs to it, and reads back from the CSV."""
    judged = ledger(LEDGER, ROOT / "reports")
    for j in judged:
        assert (j.interval is None) == (not j.method) == (not j.covers), j.claim.id
        assert (j.values is None) == (j.difference is None), j.claim.id
        if j.verdict in ("holds", "does not hold"):
            assert j.seeds >= LEAST_SEEDS and j.covers == BOTH and j.p <= j.p_holm <= 1, j.claim.id
            assert j.p <= 0.05, j.claim.id
        assert j.method or j.reason, j.claim.id
        if j.verdict == "not yet run":
            assert j.difference is None and j.seeds == 0
        if j.interval:
            low, high = j.interval
            assert low <= j.difference <= high
    rows = list(csv.DictReader(io.StringIO(to_csv(judged, PUBLISHED))))
    assert [(r["id"], r["verdict"]) for r in rows] == [(j.claim.id, j.verdict) for j in judged]
