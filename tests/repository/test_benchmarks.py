"""The benchmarks run in their short form, and say what they measured."""

from __future__ import annotations

import ctypes
import importlib
import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from longtail.base import params
from longtail.base.errors import UserError
from longtail.cost.speed import noise
from longtail.losses.cbd import cbd_loss, joined_features
from longtail.losses.dive import dive_loss
from longtail.losses.targets import Targets, soft_targets
from longtail.models.mae import normalized_patches, patchify, picked
from longtail.models.vit import build_vit
from longtail.training.experiment import load_method, resolve
from longtail.training.pretraining_config import resolve_pretraining
from longtail.training.teacher import build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.views.epoch import Layout
from tests.helpers.projects import WHO, committed
from tests.helpers.root import ROOT, params_table

FOLDER = ROOT / "benchmarks"
TABLE = params_table()


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(name, arguments...): the benchmark's exit code, its record and its table, of a CPU."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(name: str, *arguments: str, result: str | None = None) -> tuple[int, dict, str]:
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [name, "--device", "cpu", "--out", str(tmp_path), *arguments])
        code = 0
        try:
            module.main()
        except SystemExit as exit:
            code = int(exit.code)
        return code, *filed(result or name, tmp_path)

    return run


def filed(part: str, results: Path) -> tuple[dict, str]:
    """The record of a CPU and its table, wherever it is filed."""
    path = importlib.import_module("recording").newest(part, results)
    return json.loads(path.read_text()), path.with_suffix(".md").read_text()


def test_the_networks_of_every_case_can_be_trained_briefly(monkeypatch):
    """--short trains some of them alone."""
    monkeypatch.syspath_prepend(str(FOLDER))
    engine, table = importlib.import_module("engine"), params.load_all(FOLDER.parent)
    for case in (*engine.CPU, *engine.SHORT, *engine.CUDA):
        for config in (engine._config(table, name) for name in (case.entry, case.sgd) if name in table["teachers"]):
            assert engine._cut(config).epochs == 3
            taught = [engine._config(table, source) for source in config.sources if source != "none"]
            assert bool(taught) == case.taught
            assert all(engine._brief(teacher).epochs == 1 for teacher in taught)


def test_bf16_is_left_out_where_a_cpu_multiplies_it_slower_and_nowhere_else(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    engine = importlib.import_module("engine")
    slow, fast = ({"matmul": {"fp32": {"192": 4.0}, "bf16": {"192": rate}}} for rate in (1.0, 4.0))
    left_out = engine._left_out(engine.Execution("bf16"), slow, torch.device("cpu"))
    run = left_out(tmp_path, None)
    assert run.why_not == "products of bf16 matrices are made at 0.25 of float32's rate here"
    for precision, limits, device in (("bf16", fast, "cpu"), ("fp32", slow, "cpu"), ("bf16", slow, "cuda")):
        assert engine._left_out(engine.Execution(precision), limits, torch.device(device)) is None


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone gives back what malloc keeps")
def test_a_part_leaves_the_next_none_of_its_memory(monkeypatch):
    """Neither what a cycle holds nor what malloc keeps of it, small pieces that it would not give back by itself."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module, own = importlib.import_module("all"), psutil.Process()
    module.give_back_memory()
    before = own.memory_info().rss
    cycle: list = [b"x" * 50_000 for _ in range(4_000)]
    kept = [b"x" * 50_000 for _ in range(50)]  # above it in the heap
    cycle.append(cycle)
    del cycle
    assert own.memory_info().rss - before > 150e6
    module.give_back_memory()
    assert own.memory_info().rss - before < 50e6 and kept


def test_seeds_as_one_batched_model_train_as_they_do_in_turn(run):
    code, record, table = run("many_seeds", "--short")
    (row,) = record["rows"]
    assert code == 0 and set(row["seconds"]) == {"in turn", "batched", "processes"} and row["difference"] < 1e-12
    others = min(row["seconds"]["in turn"], row["seconds"]["processes"])
    assert row["of_best_other"] == pytest.approx(others / row["seconds"]["batched"], rel=0.01)
    assert f"| `{row['entry']}` (resnet8) | 2 |" in table


def test_parity_counts_every_pixel(run):
    code, record, table = run("parity", "--pixels", "20000")
    assert code == 0 and len(record["operations"]) >= 19
    for name, row in record["operations"].items():
        assert row["pixels"] >= 20000 and row["mismatches"] == row["largest_difference"] == 0, name
        assert f"| {name} | {row['pixels']:,} | 0 | 0 |" in table
    assert f"Pillow {record['environment']['pillow']}" in table


def test_parity_notices_one_pixel(run, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    parity = importlib.import_module("parity")

    def one_off(images: np.ndarray, rng, device):
        ours = images.copy()
        ours[0, 0, 0, 1] ^= 2
        return ours, images

    monkeypatch.setattr(parity, "CASES", {"wrong": one_off})
    monkeypatch.setattr(parity, "SHARES", {24: 1.0})
    code, record, _ = run("parity", "--pixels", "576")
    assert code == 1 and record["operations"]["wrong"] == {"pixels": 576, "mismatches": 1, "largest_difference": 2}


PARTS = ("environment", "limits", "training", "distillation", "pretraining", "views", "cache", "seconds")


def test_one_command_measures_all(run, tmp_path):
    """Structure alone: every row is there, and every number a number."""
    code, record, text = run("all", "--short", result="bench")
    assert code == 0 and set(record) == set(PARTS)
    rows = {(row["entry"], row["how"]): row for row in record["training"]}
    ours = ("plain, fp32", "ours, fp32")
    entries = ("digits-deit_lt", "ldam_drw-digits_if20", "ldam_drw_sam-digits_if20", "cbd_ens-digits_if20")
    assert set(rows) == {(entry, how) for entry in entries for how in ours}
    for (entry, how), row in rows.items():
        assert "why_not" not in row, row
        assert f"| `{entry}`: {how} | " in text
        numbers = [row[name] for name in ("step_s", "images_per_second", "of_limit", "epoch_over_step")]
        numbers += [row["images_per_second_of_plain"], row["epoch_images_per_second_of_plain"]]
        numbers += [row["sam_over_sgd"]] if "sam" in entry else []
        assert all(math.isfinite(number) and number > 0 for number in numbers), row
        assert (row["images_per_second_of_plain"] == 1) == (how == "plain, fp32")
    assert [(row["entry"], row["teachers"]) for row in record["distillation"]] == [
        ("dive-digits_if20", 1),
        ("cbd_ens-digits_if20", 4),
    ]
    for row in record["distillation"]:
        rates = [row[f"{kind}_images_per_second"] for kind in ("student", "teacher", "forward", "expected")]
        at_once, ratio = row["at_once_images_per_second"], row["at_once_of_forward"]
        assert (at_once is None) == (ratio is None) == (row["teachers"] == 1)
        assert at_once is None or ratio == pytest.approx(at_once / rates[2], rel=1e-2)
        assert all(math.isfinite(rate) and rate > 0 for rate in [*rates, at_once or 1])
        assert 1 / rates[3] == pytest.approx(1 / rates[1] + 1 / rates[2], rel=1e-3)
        assert row["of_expected"] == pytest.approx(rates[0] / rates[3], rel=1e-3)
        for table in (text, filed("distillation", tmp_path)[1]):
            assert f"| `{row['entry']}`: fp32 | {row['teachers']} | {rates[0]:,.0f} | " in table
    (row,) = record["pretraining"].values()
    assert set(row["images_per_second"]) == {"ours", "all patches", "plain"} and row["over_plain"] > 0
    for table in (text, filed("pretraining", tmp_path)[1]):
        assert f"| `digits-mgp` | {row['batch']} | {row['images_per_second']['ours']:,.1f} | " in table
    limits = record["limits"]
    rates = [limits["copy"], *(rate for widths in limits["matmul"].values() for rate in widths.values())]
    assert all(math.isfinite(rate) and rate > 0 for rate in rates) and limits["attention"]["192"]
    assert "| 24 px: torch | " in text and "`digits-deit_lt`, build: 1 worker" in text and "| copy, read" in text
    # what benchmarks/views.py and cache.py measure is in the record, and in files of their own
    sizes, default = record["views"]["sizes"], record["views"]["environment"]["default"]["24"]
    assert set(sizes) == {"24"} and set(sizes["24"]) == {"timm", "timm, loader", "pil", "torch", "pil, workers"}
    assert all(row["views_per_second"] > 0 for row in sizes["24"].values())
    rate = sizes["24"][default]["views_per_second"]
    assert f"| 24 | {default} | {rate:,} |" in filed("views", tmp_path)[1]
    record, table = filed("cache", tmp_path)
    rows = record["recipes"]["digits-deit_lt"]
    assert set(rows["student"]) == {"cache", "teacher online"} and "1 worker" in rows["build"]
    for name, rate in rows["student"].items():
        assert rate > 0 and f"| student | {name} | {rate:,} |" in table


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("plain")


@pytest.fixture
def recipe():
    """DeiT-LT-Ti's on CIFAR-10-LT."""
    return resolve(TABLE, "cifar10_if100-deit_lt-ti")[0]


@pytest.mark.parametrize("epoch", [0, 1150])
def test_the_plain_loss_is_ours(plain, recipe, epoch):
    """Before and in the DRW phase, a micro-batch of 128 = a mix group."""
    torch.manual_seed(epoch)
    cls, dist, taught = (torch.randn(128, 10) for _ in range(3))
    y = torch.randint(0, 10, (128,))
    mixed = epoch < recipe.views.mix_until
    lam = torch.full((128,), 0.3 if mixed else 1.0)
    counts = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    method = load_method("deit_lt").Method(recipe.loss, counts)
    expected = method.loss({"cls": cls, "dist": dist}, Targets(y, y.flip(0), lam, taught.argmax(1), [128]), epoch)
    targets = soft_targets(y, y.flip(0), lam, 10, recipe.loss.smoothing) if mixed else y
    weight = None if mixed else method.weights
    loss, base, distillation = plain.student_losses(cls, dist, targets, taught, weight, recipe.loss.alpha)
    torch.testing.assert_close(loss, expected[0])
    assert loss == pytest.approx(0.5 * base.item() + 0.5 * distillation.item())


def test_the_plain_sampler_has_the_published_epoch(plain, recipe):
    """12,406 images: 12,288 views of 4,096 images or one more, 48 micro-batches of 128 a rank, 12 steps."""
    ranks = [list(plain.sampler(range(12406), recipe.views, rank)) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [6144, 6144]
    shown = Counter(ranks[0] + ranks[1])
    assert len(shown) == 4096 and set(shown.values()) == {3}
    ours = Layout(12406, 3, 2, recipe.views.mix_group, recipe.views.accumulate, recipe.views.round_to)
    assert ours.positions == 2 * 6144 and ours.micro_batches == -(-6144 // 128) == 48 and ours.steps == 12


def test_the_plain_student_takes_a_step_for_each_window_and_learns(plain, recipe, tmp_path):
    """Its network is ours; a window is `accumulate` micro-batches of each rank."""
    config = resolve(TABLE, "digits-deit_lt")[0]
    views = replace(config.views, mix_group=8, accumulate=2, round_to=16)
    config = replace(config, views=views, train=replace(config.train, epochs=2, warmup_epochs=0))
    ours, theirs = build_vit(config.model, 10, True), plain.build_student(config, 10)
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    data, steps = noise(52, 10, 8), []
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10))
    plain.train_student(config, data, teacher, tmp_path, torch.device("cpu"), "fp32", lambda: steps.append(1))
    assert len(steps) == 2 * 2  # 48 views: 3 micro-batches a rank, the last window holds one
    saved = torch.load(tmp_path / "checkpoint.pth", weights_only=False)
    assert saved["epoch"] == 1 and len((tmp_path / "log.txt").read_text().splitlines()) == 2
    head, average = (saved[name]["head.weight"] for name in ("model", "ema"))
    assert not torch.equal(head, average) and torch.isfinite(head).all()


@pytest.mark.parametrize("entry", ["dive-digits_if20", "cbd-digits_if20", "cbd_ens-digits_if20"])
def test_the_plain_loss_of_a_cnn_that_is_taught_is_ours(plain, entry):
    config = params.build(TeacherConfig, params.entry(TABLE, "teachers", entry), entry)
    own, x = torch.tensor(1.7, dtype=torch.float64), torch.randn(6, 3, 8, 8, dtype=torch.float64)
    labels, untaught = torch.arange(6), replace(config.untaught(), projection=None)
    count = sum(name != "none" for name in config.sources)
    networks = [build_model(untaught, 10).double().eval() for _ in range(count)]
    student = build_model(config, 10).double().eval()
    features = student.features(x)
    logits = student.fc(features)
    if config.distil.kind == "soft":
        ours = dive_loss(logits, labels, networks[0](x), config.distil, own)
    else:
        target = joined_features([network.features(x) for network in networks])
        ours = cbd_loss(own, features, logits, config.distil, target, None)
    torch.testing.assert_close(plain.taught_loss(config, networks, x, features, logits, own), ours)


def test_the_plain_sam_goes_up_by_rho_and_back(plain):
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    before = [w.detach().clone() for w in weights]
    for w in weights:
        w.grad = torch.randn_like(w)
    sam = plain.Sam(weights, 0.5)
    sam.ascend()
    moved = torch.cat([(w - b).flatten() for w, b in zip(weights, before, strict=True)])
    gradient = torch.cat([w.grad.flatten() for w in weights])
    torch.testing.assert_close(moved, 0.5 * gradient / gradient.norm())
    sam.descend()
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))


def test_figures_leave_out_the_first_epoch_and_share_out_the_evaluation(monkeypatch):
    """Four epochs of three steps: 1 s a step, 9 s of start, 6 s of evaluation in the last epoch."""
    monkeypatch.syspath_prepend(str(FOLDER))
    timing = importlib.import_module("timing")
    marks = [0.0, 10.0, *(10.0 + k for k in range(1, 11)), 27.0]
    found = timing.figures([timing.Run(marks)], steps=3, together=1, eval_every=12)
    assert (found.start, found.step, found.evaluation, found.blocks) == (10.0, 1.0, 6.0, 6)
    assert found.epoch == pytest.approx(3 + 6 / 12)
    every = timing.figures([timing.Run(marks)], steps=3, together=3, eval_every=None)
    assert (every.step, every.epoch, every.blocks) == (1.0, 3.0, 3)


def test_a_contender_that_fails_is_a_row_that_says_so(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    timing = importlib.import_module("timing")

    def fails(folder, clock):
        raise RuntimeError("no memory\nleft")

    done = timing.in_turn(
        {"a": lambda folder, clock: timing.Run([0.0, 1.0]), "b": fails}, torch.device("cpu"), budget=60, most=3
    )
    assert len(done["a"]) == 3 and [run.why_not for run in done["b"]] == ["RuntimeError: no memory left"]


MAKEFILE = """STUDY ?= s
.venv/.ready:
\t@mkdir -p .venv/bin && touch $@
\t@echo '#!/bin/sh' > .venv/bin/dvc && echo 'test "$$1" = repro && echo bare >> asked' >> .venv/bin/dvc
\t@chmod +x .venv/bin/dvc
repro:
\t@echo $(STUDY) >> asked
\t@test -e made || python stages/two.py x --out y
\t@test -e made || python stages/one.py
\t@echo >> params.yaml
\t@touch made
"""
WORK = "import os\nif not os.fork(): [n * n for n in range(10**{})], os._exit(0)\nos.wait()\n"


def test_the_embedded_studies_are_measured_in_a_clone(run, tmp_path):
    source, readme, clone = tmp_path / "source", tmp_path / "README.md", tmp_path / "clone"
    (source / "stages").mkdir(parents=True)
    (source / "Makefile").write_text(MAKEFILE)
    (source / "params.yaml").write_text("studies: {s: {}, t: {}}\n")
    for name, digits in {"one": 7, "two": 5}.items():
        (source / f"stages/{name}.py").write_text(WORK.format(digits))
    committed(source)
    (source / "made").touch()  # in no commit
    readme.write_text("Before.\n<!-- quickstart -->\nold\n<!-- end -->\nAfter.\n")
    code, record, table = run("quickstart", "--source", str(source), "--readme", str(readme), "--clone", str(clone))
    names = ["setting up .venv", "make repro", "make repro again", "make repro STUDY=t", "dvc repro"]
    assert code == 0 and list(record["runs"]) == names
    assert list(record["stages"]) == ["stages/one.py", "stages/two.py"]
    assert all(row["runs"] == 1 for row in record["stages"].values())
    assert record["runs"]["make repro"]["cpu_s"] >= record["stages"]["stages/one.py"]["cpu_s"] > 0.1
    assert f"| stages/one.py | 1 | {record['stages']['stages/one.py']['cpu_s']} |" in table
    two, one = record["timeline"]
    assert (two["script"], one["script"], two["of"]) == ("stages/two.py", "stages/one.py", "x")
    assert 0 <= two["from_s"] <= two["to_s"] <= one["from_s"] <= one["to_s"] <= record["runs"]["make repro"]["wall_s"]
    assert one["cpu_s"] == record["stages"]["stages/one.py"]["cpu_s"]
    assert f"| stages/two.py | x | {two['from_s']} | {two['to_s']} | {two['cpu_s']} |" in table
    assert (clone / "asked").read_text().split() == ["s", "s", "t", "bare"]  # what it told make and dvc
    assert record["differ"] == [" M params.yaml", "?? .venv/.ready", "?? .venv/bin/dvc", "?? asked", "?? made"]
    assert record["fp32_gflops"] > 0.1 and "differ in the end: 5. ` M params.yaml`" in table
    quickstart = importlib.import_module("quickstart")
    said = quickstart.sentence(record)
    assert readme.read_text() == f"Before.\n<!-- quickstart -->\n{said}<!-- end -->\nAfter.\n"
    runs = {name: {"wall_s": 60.0 * 10**n} for n, name in enumerate(names)}
    assert quickstart.total({"runs": runs}) == 10 + 1000 + 10000  # no setting up, no second time
    (source / "Makefile").write_text("repro:\n\tfalse\n")
    subprocess.run(["git", "-C", source, *WHO, "commit", "--quiet", "--all", "--message", "fails"], check=True)
    with pytest.raises(UserError, match=r"make \.venv/\.ready: exited with 2"):
        quickstart.measure(source, tmp_path / "other", ["s"])


def test_the_readme_says_what_the_quickstart_took(monkeypatch):
    """Nothing, as long as it has not been measured."""
    monkeypatch.syspath_prepend(str(FOLDER))
    quickstart = importlib.import_module("quickstart")
    path = importlib.import_module("recording").newest("quickstart")
    said = quickstart.sentence(json.loads(path.read_text())) if path else ""
    assert quickstart.PART.search((FOLDER.parent / "README.md").read_text())[0] == said


def test_the_page_on_performance_says_what_the_record_holds(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    record = filed("bench", FOLDER / "results")[0]
    rows = {(row["entry"], row["how"]): row for row in record["training"]}
    small, ti = ("digits-deit_lt", "cifar10_if100-mini-deit_lt"), "cifar10_if100-deit_lt-ti"
    teachers = ("ldam_drw-cifar10_if100", "ldam_drw_sam-cifar10_if100")
    for entry in (*small, ti, *teachers):
        ours = rows[entry, "ours, fp32"]
        assert ours["images_per_second_of_plain"] > (0.95 if entry == ti else 1.1)
        assert ours["epoch_images_per_second_of_plain"] > 1.4
        faster = rows[entry, "ours, bf16"]["images_per_second"] / ours["images_per_second"]
        assert faster < 1 if entry in small else faster > 1.3
    assert all(rows[teachers[1], f"ours, {p}"]["sam_over_sgd"] < 2.05 for p in ("fp32", "bf16"))
    views = filed("views", FOLDER / "results")[0]["sizes"]
    for size in ("224", "96"):
        rate = {maker: row["views_per_second"] for maker, row in views[size].items()}
        assert rate["pil"] > rate["timm"] and rate["pil, workers"] > rate["timm, loader"]


def test_the_page_on_performance_shows_the_record_of_distillation(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    distillation = importlib.import_module("distillation")
    path = importlib.import_module("recording").newest("distillation")
    record = json.loads(path.read_text()) if path else None
    again = "out of date; run python benchmarks/distillation.py --page docs/performance.md"
    page = (FOLDER.parent / "docs/performance.md").read_text()
    assert f"<!-- distillation -->\n\n{distillation.told(record)}\n\n<!-- end -->" in page, again
    if record is not None:
        assert path.with_suffix(".md").read_text() == "\n".join(distillation.lines(record["rows"])) + "\n"
        assert {row["entry"] for row in record["rows"]} == {case.entry for case in distillation.CPU}
        for row in record["rows"]:
            least, most = (0.75, 1.15) if "digits" in row["entry"] else (0.95, 1)
            assert row["of_expected"] > least and (row["at_once_of_forward"] or 0) < most, row


def test_the_record_of_distillation_goes_between_the_markers(run, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    distillation, page = importlib.import_module("distillation"), tmp_path / "page.md"
    rates = {f"{kind}_images_per_second": 100.0 for kind in ("student", "teacher", "forward", "expected", "at_once")}
    row = {"entry": "e", "how": "fp32", "teachers": 4, "of_expected": 0.987, "at_once_of_forward": 0.654} | rates
    where = {"cores": 2, "device": "cpu x1", "processor": "P (1)", "torch": "9", "load": [0.1]}
    page.write_text("before\n<!-- distillation -->\nold\n<!-- end -->\nafter\n")
    recording = importlib.import_module("recording")
    recording.write(tmp_path, "distillation", {"environment": where, "rows": [row]}, "")
    run("distillation", "--page", str(page))
    text = page.read_text()
    assert text.startswith("before\n<!-- distillation -->\n\n2 cores (cpu x1, P (1)), torch 9, load 0.1 at the start; ")
    assert "; [record](../benchmarks/results/p-1_torch-9/distillation.md)." in text
    assert text.endswith("| `e`: fp32 | 4 | 100 | 100 | 100 | 100 | 0.99 | 100 | 0.65 |\n\n<!-- end -->\nafter\n")
    page.write_text("no markers\n")
    with pytest.raises(UserError, match="<!-- distillation --> and <!-- end -->, once"):
        distillation.main()


def test_pretraining_is_held_against_all_patches_and_timm(run):
    """Ratios are those of the rates beside them; the plain network and ours, of the same weights, have one loss."""
    code, record, text = run("pretraining", "--short")
    row = record["entries"]["digits-mgp"]
    rates = row["images_per_second"]
    assert code == 0 and list(rates) == ["ours", "all patches", "plain"] and min(rates.values()) > 0
    assert row["over_plain"] == pytest.approx(rates["ours"] / rates["plain"], abs=0.05)
    assert row["expected_over_all_patches"] > 1 and "`digits-mgp`" in text
    module = importlib.import_module("pretraining")
    large = resolve_pretraining(TABLE, "imagenet_lt-mgp-b")[0]
    assert module.expected(large) == pytest.approx(2.36, rel=0.03)  # the decoder is the same for every size


def test_the_plain_autoencoder_computes_the_same(run, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("pretraining")
    config, _ = resolve_pretraining(TABLE, "digits-mgp")
    runs = module.contenders(config, torch.device("cpu"))
    ours, plain = runs["ours"].network, runs["plain"].network
    assert plain.load_state_dict({**plain.state_dict(), **_timm_names(ours.state_dict(), plain.state_dict())})
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    found = plain(x)
    torch.manual_seed(5)
    orders = torch.rand(3, config.patches).argsort(1)
    patches = patchify(x, 2)
    visible, hidden = orders[:, : config.visible], orders[:, config.visible :]
    targets, _, _ = normalized_patches(picked(patches, hidden))
    predicted = ours(patches, visible, hidden)
    assert found.item() == pytest.approx(((predicted - targets) ** 2).mean().item(), rel=1e-4)
    every = runs["all patches"].network  # the same decoder's work, on tokens that saw the hidden patches
    assert every(patches, visible, hidden).shape == predicted.shape


def _timm_names(state: dict, wanted: dict) -> dict:
    """The same names in both but for numbers of blocks, which are Sequential here and ModuleList there."""
    assert state.keys() == wanted.keys()
    return {name: value.reshape(wanted[name].shape) for name, value in state.items()}
