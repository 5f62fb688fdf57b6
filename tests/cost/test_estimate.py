"""The estimate of a target's cost: from rates that are given, and one real measurement of tiny networks."""

from __future__ import annotations

import json

import pytest
import torch

from longtail.base import yaml_file
from longtail.base.errors import UserError
from longtail.base.params import load_all
from longtail.base.text import DAY
from longtail.cost import estimate as cost
from longtail.cost.estimate import estimate, longest_chain, order, table
from longtail.cost.speed import Rate, Speeds
from longtail.cost.upstream import needed_by, stages
from longtail.cost.workload import Images, Load, Workload
from tests.helpers.root import ROOT, params_table
from tests.helpers.stage_processes import TINY

PARAMS = params_table()
KNOWN = stages(ROOT / "dvc.yaml", PARAMS)
FULL = Workload(PARAMS)
CORE = 3e10  # FLOP/s: 2,082 views a second of a ViT with 18 tokens, 64 channels and 4 blocks take 2.9e10


def fake(load: Load) -> Rate:
    """10,000 views a second, networks at 3e10 FLOP/s."""
    if load.shape is None:
        return Rate(1e-4)
    return Rate(2 * (load.shape.train_macs if load.part == "train" else load.shape.macs) / CORE)


def test_by_hand(tmp_path):
    """A student of digits: 46,080 views made and trained, 12 evaluations of 400 images; 6 seeds."""
    shape = FULL.student_shape("digits-vit")
    [student] = estimate([KNOWN["train_student@digits-vit"]], FULL, fake, 1000, tmp_path)
    one = 46_080 * (1e-4 + 2 * shape.train_macs / CORE) + 4_800 * 2 * shape.macs / CORE
    assert student.seconds == pytest.approx(6 * one) and student.seeds == 6
    work = FULL.of("train_student", "digits-vit")
    assert student.memory == 1000 + work.memory and student.disk == 6 * work.disk
    assert not student.finished and student.scaled_from == ()


@pytest.mark.parametrize("entry", [e["name"] for e in PARAMS["studies"]["digits"]["experiments"]])
def test_students_of_digits_took_about_that(entry, tmp_path):
    """Within a factor of 3 of the seconds that a run in this repository took."""
    path = ROOT / "reports/machines/digits.json"
    made = json.loads(path.read_text())["experiments"] if path.is_file() else {}
    if entry not in made:
        pytest.skip(f"{entry}: no time of it is recorded")
    seconds = [seed["seconds"] for seed in made[entry]["seeds"].values()]
    [found] = estimate([KNOWN[f"train_student@{entry}"]], FULL, fake, 0, tmp_path)
    assert 1 / 3 < found.seconds / sum(seconds) < 3


def test_the_whole_study(tmp_path):
    """Stages that only read and write are not in it; what waits for one another takes the longest."""
    found = estimate(needed_by("digits", KNOWN), FULL, fake, 0, tmp_path)
    kinds = {each.stage.kind for each in found}
    assert kinds == {"train_teacher", "cache_logits", "train_student", "teacher_entropy", "analyse"}
    seconds = {each.stage.name: each.seconds / each.seeds for each in found}
    chains = [
        seconds["train_teacher@ldam_drw_sam-digits_if20"]
        + seconds["cache_logits@ldam_drw_sam-digits"]
        + seconds["train_student@digits-deit_lt"]
        + seconds["analyse@digits-deit_lt"]
    ]
    assert longest_chain(found, KNOWN) == pytest.approx(max(chains), rel=0.01)


def test_table(tmp_path):
    (tmp_path / "data/students/digits-vit/seed0").mkdir(parents=True)
    for seed in range(1, 6):
        (tmp_path / f"data/students/digits-vit/seed{seed}").mkdir()
    chosen = [KNOWN["train_student@digits-vit"], KNOWN["train_student@digits-deit_lt"]]

    def rate(load: Load) -> Rate:
        return Rate(1e-3, "another network" if load.part == "train" and "deit_lt" in load.entry else None)

    text = table(estimate(chosen, FULL, rate, 10**9, tmp_path), 0.0, 2, "CPU core")
    lines = text.splitlines()
    assert lines[1].split()[:3] == ["train_student@digits-vit", "6", "9.7"] and lines[1].endswith("done")
    assert lines[2].endswith("scaled by operations from another network")
    # 2 x 6 x (2 x 46,080 + 4,800) ms; one of the two is done
    assert lines[4].split()[:4] == ["in", "all", "19.4", "min"] and lines[5].split()[3:5] == ["9.7", "min"]
    assert "With 2 of them at work: 9.7 min or more." in text and "WARNING" not in text


def test_what_takes_months_is_told(tmp_path):
    """Three seeds, each 14.7 million views at 105.7 GFLOP: 601 days of a core of 30 GFLOP/s; 3 of evaluation."""
    found = estimate(needed_by("train_student@cifar10_if100-deit_lt-b", KNOWN), FULL, fake, 0, tmp_path)
    text = table(found, longest_chain(found, KNOWN), 2, "CPU core")
    assert "WARNING: this takes more than a day: about 2.49 years with 2 CPU cores." in text
    assert found[-1].seconds / DAY == pytest.approx(3 * 604.6, abs=0.3)


def test_most_work_is_measured_first():
    first = order(needed_by("cifar10_if100", KNOWN), FULL)[:8]
    assert {load.part for load in first} >= {"views", "train", "forward", "batch"}
    assert next(load for load in first if load.part == "train").shape.name == "ViT 768x12, patch 16, 224 px"


# --- measured


@pytest.fixture(scope="module")
def speeds() -> Speeds:
    params = yaml_file.read(TINY)
    return Speeds(params, Workload(params), torch.device("cpu"), budget=0.0)


def test_a_part_is_measured_once_and_others_are_scaled_from_it(speeds):
    """With no time left: the first of its kind all the same, then in proportion to operations or pixels."""
    workload = speeds.workload
    measured = {}
    for stage, entry in (("train_student", "tiny-deit_lt"), ("train_teacher", "ldam_drw_sam-tiny")):
        for load in workload.of(stage, entry).loads:
            measured[load.part] = speeds.rate(load)
            assert measured[load.part].seconds > 0 and measured[load.part].scaled_from is None
            assert speeds.rate(load) == measured[load.part]
    student = next(load for load in workload.of("train_student", "tiny-deit_lt").loads if load.part == "train")
    larger = Load("train", student.entry, 1, workload.student_shape("tiny-deit_lt"))
    macs = student.shape.macs
    larger = Load("train", "experiments.x", 1, type(larger.shape)("ViT 1x1", 0, 0, 10 * macs, 30 * macs, 0))
    found, base = speeds.rate(larger), speeds.rate(student)
    assert found.seconds == pytest.approx(base.seconds * 30 * student.shape.macs / student.shape.train_macs)
    assert found.scaled_from == student.shape.name


def test_a_forward_pass_costs_its_share(speeds):
    shape = speeds.workload.student_shape("tiny-vit")
    train, forward = (speeds.rate(Load(part, "experiments.tiny-vit", 1, shape)) for part in ("train", "forward"))
    assert forward.seconds == pytest.approx(train.seconds * shape.macs / shape.train_macs)


def test_paco_and_large_views_are_measured_too():
    params = load_all(ROOT)
    params["teachers"]["paco-cifar10_if100"]["arch"] = "resnet8"
    params["teachers"]["ce_drw_sam-imagenet_lt"]["views"]["size"] = 64
    known = {"cifar10_if100": Images(10, 128, 10, 32), "imagenet_lt": Images(10, 128, 10, 64, True)}
    workload = Workload(params, known)
    speeds = Speeds(params, workload, torch.device("cpu"), budget=60.0)
    for entry in ("paco-cifar10_if100", "ce_drw_sam-imagenet_lt"):
        load = next(load for load in workload.of("train_teacher", entry).loads if load.part == "batch")
        assert 0 < speeds.rate(load).seconds < 1


def test_main(tmp_path, monkeypatch, capsys):
    """On the tiny pipeline; a name that is not there is told in one line before anything is measured."""
    (tmp_path / "params.yaml").write_text(TINY.read_text())
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    monkeypatch.setattr("sys.argv", ["cost", "train_student@tiny-vitt", "--params", str(tmp_path / "params.yaml")])
    with pytest.raises(
        UserError, match=r"no study or stage 'train_student@tiny-vitt'; did you mean 'train_student@tiny"
    ):
        cost.main()
    threads = torch.get_num_threads()
    monkeypatch.setattr("sys.argv", ["cost", "tiny", "--device", "cpu", "--params", str(tmp_path / "params.yaml")])
    cost.main()
    torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert "train_student@tiny-deit_lt" in out and "in all" in out and "time: of one CPU core" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dvc.yaml", "params.yaml"]
