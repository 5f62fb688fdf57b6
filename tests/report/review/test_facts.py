"""The reviewers' pages: numbers of a constructed reports tree, by hand; what was not run is told, never as zero."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from longtail.base import yaml_file
from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.base.params import read
from longtail.base.text import SIZES, number, with_unit
from longtail.cost.upstream import recorded_sizes
from longtail.report.review.coverage import Coverage
from longtail.report.review.facts import CLAIM_COLUMNS, Hours, Judgements, claims, gather, hours
from longtail.report.review.pages import LEFT, PAGES, pages
from tests.helpers.reporting import metrics_file, run_stage, study_dict
from tests.helpers.root import ROOT
from tests.helpers.run_files import machines

MODEL = {"image_size": 24, "patch_size": 12, "dim": 8, "depth": 1, "heads": 1, "mlp_ratio": 4.0, "drop_path": 0.0}
RUN = {"study": "s", "dataset": "d", "views": "v", "cache": "none", "teacher": "none", "seeds": [0, 1]}
PARAMS = {
    "studies": {"s": study_dict(), "mini": {**study_dict(), "title": "A <b>small</b> | study", "comparable": False}},
    "datasets": {
        "d": {
            **{"source": "digits", "raw": "none", "imbalance_factor": 1.0, "n_max": 10, "subset_seed": 0},
            **{"cuts": [1, 2], "test_per_class": 5, "image_size": None, "download": False},
        }
    },
    "views": {
        "v": {
            **{"size": 24, "repeats": 1, "virtual_world": 1, "mix_group": 10, "accumulate": 1, "round_to": 0},
            **{"teacher_view": "same", "teacher_stride": 1},
        }
    },
    "teachers": {"t": {"study": "s", "dataset": "d", "seeds": [0]}},
    "caches": {"c": {"study": "s", "dataset": "d", "seeds": [0]}},
    "methods": {"vit": {}},
    "recipes": {"r": {"model": MODEL, "train": {"epochs": 2, "eval_every": 50}}},
    "experiments": {
        "s-vit": {**RUN, "method": "vit", "recipe": "r"},
        "s-deit_lt": {**RUN, "method": "deit_lt", "recipe": "r"},
    },
}
JUDGED = {
    "easy": ["It was easy."],
    "hard": ["It was hard."],
    "authors": "Nobody was asked.",
    "checklist": {
        key: {"answer": "NA", "because": f"Because of {key}."}
        for key in (
            *("limitations", "theory", "ethics", "broader_impact", "safeguards", "licences", "new_assets"),
            *("crowdsourcing", "irb", "llm"),
        )
    },
    "reforms": {
        f"{module}{letter}": f"As {module}{letter} asks."
        for module, letters in {1: "abc", 3: "abcfg", 4: "abc", 5: "be", 6: "bc", 8: "ab"}.items()
        for letter in letters
    },
    "assumptions": {
        **{"cpu_core_watts": 10.0, "gpu": "A GPU", "gpu_watts": 500.0, "gpu_tflops": 100.0},
        **{"utilisation": [0.25, 0.5], "overhead": 2.0},
    },
}
ITEMS = {"items": [{"item": "Table 9", "shows": "x", "full": [{"study": "s", "table": "overall"}]}]}
LOCK = {
    "subsample@d": [("data/datasets/d.npz", 1000)],
    "train_student@s-deit_lt": [("data/students/s-deit_lt", 2_500_000)],
    "evaluate@s-deit_lt": [("reports/metrics/s/s-deit_lt.json", 300)],
    "tables@s": [("reports/tables/s", 700)],
}
LOCK_OF_A_PAPER = {
    "raw@d": [("data/raw/d", 9_000_000)],  # nobody made it here
    "tables@mini": [("reports/tables/mini", 50)],
}


def claim(number: str, study: str, verdict: str, overall: str, miniature: int = 0, **numbers) -> dict:
    about = {"id": number, "paper": "DeiT-LT", "where": "Table 1", "text": f"Claim | {number} <i>", "overall": overall}
    return (
        dict.fromkeys(CLAIM_COLUMNS, "")
        | about
        | {"study": study, "verdict": verdict, "miniature": miniature}
        | numbers
    )


@pytest.fixture
def place(tmp_path) -> Path:
    """In study s the teacher ran 36 s on two CPU threads, s-deit_lt 3 x 1800 s on a GPU; s-vit and `mini` never ran."""
    teacher = metrics_file("t", "teacher", [80.0])
    student = metrics_file("s-deit_lt", "experiment", [86.0, 88.0, 90.0], ("avg", "cls", "dist"))
    made = machines(("experiments", "s-deit_lt", student["config_hash"], 3), device="A GPU")
    made["teachers"] = machines(("teachers", "t", teacher["config_hash"], 1), seconds=36.0, device="cpu x2")["teachers"]
    write_json(tmp_path / "reports/machines/s.json", made)
    write_json(tmp_path / "reports/metrics/s/teachers/t.json", teacher)
    write_json(tmp_path / "reports/metrics/s/s-deit_lt.json", student)
    (tmp_path / "papers/p").mkdir(parents=True)
    for under, entries in (("", LOCK), ("papers/p/", LOCK_OF_A_PAPER)):
        lock = {name: {"outs": [{"path": p, "size": n} for p, n in outs]} for name, outs in entries.items()}
        (tmp_path / under / "dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    for name, value in (("params", PARAMS), ("review", JUDGED), ("coverage", ITEMS)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(value))
    return tmp_path


def with_claims(place: Path, rows: list[dict]) -> None:
    with open(place / "reports/claims.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, CLAIM_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def made(place: Path) -> dict[str, str]:
    coverage, judged = read(Coverage, place / "coverage.yaml"), read(Judgements, place / "review.yaml")
    facts = gather(yaml_file.read(place / "params.yaml"), place / "reports", coverage, judged, place)
    return pages(facts)


def row(text: str, start: str) -> list[str]:
    """The cells of the table row that begins with `start`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_hours_by_device():
    """A thread of a CPU is a core; a device without a name is neither CPU nor GPU."""
    assert hours(3600, "cpu x4") == Hours(cpu=4.0)
    assert hours(1800, "NVIDIA H200") == Hours(gpu=0.5)
    assert hours(7200, None) == Hours(other=2.0)
    assert Hours(1, 2, 3) + Hours(10, 20, 30) == Hours(11, 22, 33)


def test_cost_by_hand(place):
    """36 s x 2 = .02 core-hours, 3 x 1800 s = 1.5 GPU-hours; kWh = 2 x (.02 x 10 + 1.5 x 500) / 1000."""
    text = made(place)["cost.md"]
    assert row(text, "s ") == ["s", "2 of 3", "0.02", "1.5", "1.5 kWh", "1 kB", "–", "–", "2.5 MB", "1 kB"]
    assert row(text, "mini")[:5] == ["mini", "0 of 3", "–", "–", "–"]
    assert row(text, "in all")[1:5] == ["2 of 6", "0.02", "1.5", "1.5 kWh"]
    assert "kWh = 2 × (core-hours × 10 W + GPU-hours × 500 W) / 1000" in text


def test_what_is_left_by_hand(place):
    """s-vit, 2 seeds of 2 epochs of 100 views and one evaluation of 50 images. 5 tokens of 8 channels, a block:
    first layer 4 x 432 x 8 = 13,824, block 5 x 768 + 400, head 80: 18,144 forward; 3 x that - 13,824 trained."""
    flop = 2 * 2 * (200 * 40_608 + 50 * 18_144)
    text = made(place)["cost.md"]
    table = text[text.index("## Not run") :]
    found = row(table, "s ")
    assert found[:3] == ["s", "1", number(flop / 1e18)]
    assert found[3] == f"{number(flop / 5e13 / 3600)} to {number(flop / 2.5e13 / 3600)}"
    parameters = (8 * 432 + 8) + (8 + 5 * 8) + (4 * 64 + 32 + 2 * 8 * 32 + 32 + 8 + 32) + 16 + 10 * 9
    assert found[5] == with_unit(2 * (4 * parameters + 50 * (2 * 4 * 10 + 8)), SIZES)


def test_summary(place):
    text = made(place)["reproducibility.md"]
    assert row(text, "s ") == [
        "s",
        "published",
        "2 of 3",
        "1 to 3",
        "A GPU, cpu x2",
        "1.2 min of a CPU core, 1.5 h of a GPU",
    ]
    assert row(text, "mini") == ["mini", "miniature", "0 of 3", "not run", "not run", "not run"]
    assert "recipe that were run, in whole or in part: s." in text
    assert "* It was easy." in text and "## What was hard *(judgement)*" in text and "Nobody was asked." in text
    assert "The claim ledger was not made" in text


def test_error_bars_and_licence(place):
    """The teacher has one seed; of five rows of `overall` two were run, of two rows of `experts` both."""
    text = made(place)["neurips_checklist.md"]
    assert row(text, "s | overall") == ["s", "overall", "2", "1"] and row(text, "s | experts") == [
        "s",
        "experts",
        "2",
        "2",
    ]
    assert "**Partly**. Code and instructions are here" in text
    assert "**NA** *(judgement)*. Because of theory." in text
    (place / "LICENSE.txt").write_text("terms")
    assert "**Yes**. The code is under `LICENSE.txt`" in made(place)["neurips_checklist.md"]


def test_every_question_of_the_checklist(place):
    text = made(place)["neurips_checklist.md"]
    assert re.findall(r"^## (\d+)\.", text, re.MULTILINE) == [str(n) for n in range(1, 17)]
    assert len(re.findall(r"^\*\*(?:Yes|No|NA|Partly)\*\*", text, re.MULTILINE)) == 16


def test_every_item_of_reforms(place):
    """32 items, 3, 5, 7, 3, 6, 3, 3 and 2 in a module, each with an answer."""
    text = made(place)["reforms.md"]
    found = re.findall(r"^\* \*\*(\d)([a-g])\. [^*]+\*\* \S", text, re.MULTILINE)
    wanted = [
        (str(n), letter) for n, most in enumerate("cegcfccb", 1) for letter in "abcdefg"[: "abcdefg".index(most) + 1]
    ]
    assert found == wanted and len(wanted) == 32
    assert text.count("*(judgement)*") == 1 + 17 and "As 6b asks. *(judgement)*" in text


def test_selection_on_the_test_set_is_called_leakage(place):
    """Of a teacher that was run; one that keeps its last epoch, or was not run, does not count."""
    assert "No teacher that was run keeps the weights" in made(place)["reforms.md"]
    teachers = {"t": PARAMS["teachers"]["t"] | {"select": "best"}, "u": PARAMS["teachers"]["t"] | {"select": "best"}}
    (place / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"teachers": teachers}))
    text = made(place)["reforms.md"]
    assert "Of 1 teachers that were run, 1 keep the weights of the epoch best on the test set" in text
    assert row(text, "s ") == ["s", "1", "1"]


def test_claims(place):
    """A claim counts once, by its verdict as a whole; a miniature's row is named so."""
    rows = [
        claim(
            "a", "s", "holds", "holds", difference="1.2345", low="0.5", high="2", unit="points", method="t over 3 seeds"
        ),
        claim("b", "s", "not yet run", "not yet run"),
        claim("b", "mini", "does not hold", "not yet run", 1, difference="-0.0123", unit="nats", reason="one seed"),
    ]
    with_claims(place, rows)
    text = made(place)
    assert row(text["reproducibility.md"], "DeiT-LT") == ["DeiT-LT", "2", "1", "0", "0", "0", "0", "1"]
    shown = row(text["reproducibility.md"], r"Claim \| a")
    assert shown == [r"Claim \| a &lt;i&gt;", "s", "+1.23 points (+0.50 to +2.00)", "t over 3 seeds", "holds"]
    shown = row(text["reproducibility.md"], r"Claim \| b")
    assert shown[1:] == ["mini (miniature)", "−0.012 nats", "one seed", "does not hold in miniature"]
    assert (
        "**Partly**. Claims of the papers, judged by full recipes: 1 hold, 0 do not, 0 undecided, "
        "0 of one or two runs, 0 not informative, 1 not yet run" in (text["neurips_checklist.md"])
    )
    command = row(text["acm_badges.md"], "`a`")
    assert command[1:4] == ["`dvc repro report@s`", "+1.23 points (+0.50 to +2.00)", "holds"]
    assert command[4] == "1.2 min of a CPU core, 1.5 h of a GPU so far"  # s-vit is left
    assert "1 of 2 claims have no run of their full recipes yet" in text["acm_badges.md"]


def test_badges(place):
    """Table `overall` needs the teacher and a student; s-vit was not run, RIDE and LDAM 50 have no entry."""
    text = made(place)["acm_badges.md"]
    assert row(text, "DeiT-LT, Table 9")[1:4] == ["`dvc repro report@s`", "`reports/tables/s/overall.*`", "1 of 2"]


def test_nothing_was_run(place):
    """Nothing on any page is a zero of ours but counts of runs."""
    for path in (place / "reports").rglob("*.json"):
        path.unlink()
    for path in place.rglob("dvc.lock"):
        path.unlink()
    text = made(place)
    assert row(text["reproducibility.md"], "s ")[2:] == ["0 of 3", "not run", "not run", "not run"]
    assert (
        "In all: nothing was run." in text["reproducibility.md"] and "No run with a full" in text["reproducibility.md"]
    )
    measured = text["cost.md"].split("## Not run")[0]
    assert "Nothing was run." in measured and not re.search(r"\| (s|mini|in all) \|", measured)
    assert "**No**. Nothing was run." in text["neurips_checklist.md"]
    assert "No table has a number of ours yet." in text["neurips_checklist.md"]
    assert row(text["acm_badges.md"], "DeiT-LT, Table 9")[3:] == ["0 of 2", "not run"]
    for page in text.values():
        assert not re.search(r"(?<![\d.,])0(?:\.0+)? (?:h|min|kWh|GB|MB|kB|B)\b", page)


def test_a_device_that_is_not_told(place):
    path = place / "reports/machines/s.json"
    record = json.loads(path.read_text())
    record["teachers"]["t"]["seeds"]["0"]["device"] = None
    write_json(path, record)
    text = made(place)
    assert row(text["cost.md"], "s ")[2:4] == ["–", "1.5"]
    assert "36 s of training on devices that were not recorded" in text["cost.md"]
    assert "A GPU, not recorded" in text["reproducibility.md"]


def test_what_was_run_and_is_not_recorded(place):
    """Neither zero nor `not run`: four runs of which time and machine are not known."""
    (place / "reports/machines/s.json").unlink()
    text = made(place)
    assert row(text["cost.md"], "s ")[:5] == ["s", "2 of 3", "–", "–", "–"]
    assert "Of 4 runs, each seed one, neither time nor machine are recorded" in text["cost.md"]
    assert row(text["reproducibility.md"], "s ")[4:] == ["not recorded", "not recorded"]
    assert "a time that is not recorded in all" in text["neurips_checklist.md"]


def test_names_cannot_break_a_table(place):
    with_claims(place, [])
    place.joinpath("reports/metrics/mini").mkdir()
    student = metrics_file("s-deit_lt", "experiment", [86.0]) | {"study": "mini"}
    write_json(place / "reports/metrics/mini/s-deit_lt.json", student)
    assert r"| A &lt;b&gt;small&lt;/b&gt; \| study | `make repro STUDY=mini` |" in made(place)["acm_badges.md"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utilisation": [0.5, 0.2]}, r"assumptions: utilisation: \[0.5, 0.2\]; from and to"),
        ({"gpu_wats": 1.0}, "assumptions.gpu_wats: unknown key; did you mean 'gpu_watts'"),
    ],
)
def test_judgements_are_read_strictly(place, change, message):
    (place / "review.yaml").write_text(yaml.safe_dump({**JUDGED, "assumptions": JUDGED["assumptions"] | change}))
    with pytest.raises(UserError, match=message):
        made(place)


def test_damaged_files_are_named(place):
    (place / "reports/claims.csv").write_text("id,paper\n1,2\n")
    with pytest.raises(UserError, match=r"claims\.csv: no column 'where'"):
        made(place)
    with_claims(place, [claim("a", "s", "maybe", "holds")])
    with pytest.raises(UserError, match=r"claims\.csv: claim 'a' has verdict 'maybe'; one of holds"):
        claims(place / "reports/claims.csv")
    (place / "dvc.lock").write_text("stages: {a: {outs: [b]}}")
    with pytest.raises(UserError, match=r"dvc\.lock: damaged"):
        recorded_sizes(place, PARAMS)
    (place / "dvc.lock").unlink()
    (place / "reports/claims.csv").unlink()
    write_json(place / "reports/metrics/s/s-deit_lt.json", metrics_file("other", "experiment", [1.0]))
    with pytest.raises(UserError, match=r"s-deit_lt\.json: entry is 'other', expected 's-deit_lt'"):
        made(place)


def test_stage_writes_and_checks(place, capsys):
    line = [
        "--reports",
        place / "reports",
        "--coverage",
        place / "coverage.yaml",
        "--judgements",
        place / "review.yaml",
    ]
    line += ["--out", place / "reports/review", "--params", place / "params.yaml"]
    assert run_stage("review", *line, "--check") == 1 and not (place / "reports/review").exists()
    assert "out of date; run python stages/review.py" in capsys.readouterr().err
    assert run_stage("review", *line) == 0 and run_stage("review", *line, "--check") == 0
    files = {path.name: path.read_bytes() for path in (place / "reports/review").iterdir()}
    assert set(files) == {LEFT, *(f"{page}.md" for page in PAGES)}
    assert run_stage("review", *line) == 0
    assert files == {path.name: path.read_bytes() for path in (place / "reports/review").iterdir()}
    (place / "reports/metrics/s/s-deit_lt.json").unlink()
    assert run_stage("review", *line, "--check") == 1
    (place / "review.yaml").write_text("easy: [")
    assert run_stage("review", *line) == 2 and "not valid YAML" in capsys.readouterr().err


def test_no_torch():
    code = "import sys, longtail.report.review.pages, longtail.cost.upstream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
