"""stages/import_checkpoint.py and export_checkpoint.py as processes: in comes a run, out go timm's names."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file

from longtail.base import yaml_file
from longtail.data.long_tail import LongTail
from longtail.exchange.exported import architecture
from longtail.models.resnet import cifar_resnet
from longtail.models.vit import ModelConfig, build_vit
from longtail.views.eval_views import eval_batch
from longtail.views.normalize import NORMALIZATION, constants, normalize
from tests.helpers.official_layouts import filled, paco, parameters, saddle
from tests.helpers.projects import put, run, tiny_project
from tests.helpers.stage_processes import ANALYSE, CACHE, EVALUATE, EVALUATE_TEACHER, finish, start, without

METRICS, METRICS_OF_TEACHER = (without(stage, "--details") for stage in (EVALUATE, EVALUATE_TEACHER))

NPZ = "data/datasets/tiny.npz"
TEACHER_RUN, STUDENT_RUN = "data/teachers/ldam_drw_sam-tiny/seed0", "data/students/tiny-deit_lt/seed0"
LIKE_TEACHER = ("--kind", "teacher", "--like", "ldam_drw_sam-tiny", "--dataset", NPZ)
LIKE_STUDENT = ("--kind", "student", "--like", "tiny-deit_lt", "--dataset", NPZ)


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """The tiny study as the stages made it, to add to."""
    shutil.copytree(tiny, tmp_path, True, shutil.ignore_patterns("scratch", "logs"), dirs_exist_ok=True)
    return tmp_path


def refused(folder: Path, *command: object) -> str:
    """Run a stage that must refuse its input in one line, and make nothing."""
    before = files(folder)
    made = start(folder, *command)
    assert made.wait() == 2, made.err
    assert made.err.startswith("error: ") and made.err.count("\n") == 1
    assert files(folder) == before
    return made.err


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.joinpath("data").rglob("*") if path.is_file())


def logits(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / "predictions.npz")[name]


# --- in


def test_a_teacher_comes_back_as_the_run_it_was(folder):
    """Exported to Saddle-LongTail's layout and imported: weights, logits, metrics and the cache's labels are equal."""
    finish(folder, "export_checkpoint", TEACHER_RUN, "--out", "ckpt.pth.tar")
    held = torch.load(folder / "ckpt.pth.tar", weights_only=True)
    assert {k: tuple(v.shape) for k, v in held["state_dict"].items()} == {
        f"module.{name}": shape for name, shape in saddle(10, True, blocks=1).items()
    }
    out = finish(folder, "import_checkpoint", "ckpt.pth.tar", *LIKE_TEACHER, "--out", "data/teachers/official").out
    assert "CIFAR ResNet-8, NormedLinear head, 10 classes; top-1 on the test set" in out
    ours, theirs = folder / TEACHER_RUN, folder / "data/teachers/official/seed0"
    assert {p.name for p in theirs.iterdir()} == {p.name for p in ours.iterdir()} - {"probe.json"}
    best = (ours / "model_best.safetensors").read_bytes()  # the entry's `select`
    assert best == (theirs / "model_best.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    for phase in ("last", "best"):
        assert np.array_equal(logits(theirs, f"logits_{phase}_cls"), logits(ours, "logits_best_cls"))
    assert logits(theirs, "logit_scale") == 30.0  # METHODS trap 24
    assert (theirs / "config.yaml").read_bytes() == (ours / "config.yaml").read_bytes()
    assert (theirs / "history.csv").read_text().count("\n") == 1
    facts = json.loads((theirs / "identity.json").read_text())
    digest = hashlib.sha256((folder / "ckpt.pth.tar").read_bytes()).hexdigest()
    assert facts["imported"] is True and (facts["source"], facts["source_sha256"]) == ("ckpt.pth.tar", digest)
    assert facts["top1"] == pytest.approx(
        100 * (logits(ours, "logits_best_cls").argmax(1) == logits(ours, "labels")).mean()
    )

    metrics = {}
    for name, place in (("ours", TEACHER_RUN), ("theirs", "data/teachers/official/seed0")):
        command = [
            str(Path(place).parent) if part == str(Path(TEACHER_RUN).parent) else part for part in METRICS_OF_TEACHER
        ]
        finish(folder, *command[:-1], f"{name}.json")
        metrics[name] = json.loads((folder / f"{name}.json").read_text())["seeds"]["0"]["best"]["avg"]
    assert metrics["ours"] == metrics["theirs"]
    moved = [part.replace("teachers/ldam_drw_sam-tiny", "teachers/official") for part in CACHE]
    finish(folder, *moved[:-1], "data/caches/official")
    labels = [folder / "data/caches" / name / "seed0/labels.npy" for name in ("official", "ldam_drw_sam-tiny")]
    assert labels[0].read_bytes() == labels[1].read_bytes()


def test_a_student_comes_back_as_the_run_it_was(folder):
    """Through DeiT-LT's container: weights, logits of both heads, metrics and analyses are equal."""
    finish(folder, "export_checkpoint", STUDENT_RUN, "--format", "official", "--out", "best_checkpoint.pth")
    assert set(torch.load(folder / "best_checkpoint.pth", weights_only=True)) == {"model"}
    finish(folder, "import_checkpoint", "best_checkpoint.pth", *LIKE_STUDENT, "--out", "data/students/official")
    ours, theirs = folder / STUDENT_RUN, folder / "data/students/official/seed0"
    assert {p.name for p in theirs.iterdir()} == {p.name for p in ours.iterdir()} - {"probe.json"}
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    assert (ours / "config.yaml").read_bytes() == (theirs / "config.yaml").read_bytes()
    for head in ("cls", "dist"):
        for phase in ("last", "best"):
            assert np.array_equal(logits(theirs, f"logits_{phase}_{head}"), logits(ours, f"logits_last_{head}"))
    results = []
    for name in ("tiny-deit_lt", "official"):
        moved = [part.replace("students/tiny-deit_lt", f"students/{name}") for part in (*METRICS, *ANALYSE)]
        evaluate, analyse = moved[: len(METRICS)], moved[len(METRICS) :]
        finish(folder, *evaluate[:-1], f"{name}.json")
        finish(folder, *analyse[:-1], f"analysis-{name}")
        results.append(json.loads((folder / f"{name}.json").read_text())["seeds"]["0"]["last"])
        results[-1].pop("epoch")
        results.append((folder / f"analysis-{name}/attention_distance.csv").read_text())
    assert results[:2] == results[2:]
    assert (folder / "analysis-official/cls_dist_distance.csv").read_text() == "seed,epoch,distance\n"


def test_a_paco_teacher_comes_in(folder):
    """For an entry with a linear head: PaCo's query encoder and its classifier on plain test images."""
    entries(folder)
    state = filled(paco(10, blocks=1))
    held = {"epoch": 400, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    torch.save(held, folder / "paco.pth.tar")
    command = ("import_checkpoint", "paco.pth.tar", "--kind", "teacher", "--like", "ce-tiny", "--dataset", NPZ)
    out = finish(folder, *command, "--out", "data/teachers/paco").out
    assert "Linear head, 10 classes, from PaCo's query encoder" in out
    model = cifar_resnet(8, 10, "linear").eval()
    trunk = {name[10:]: value for name, value in state.items() if name.startswith("encoder_q.") and ".fc." not in name}
    model.load_state_dict(trunk | {"fc.weight": state["linear.weight"], "fc.bias": state["linear.bias"]})
    data = LongTail.load(folder / NPZ)
    x = normalize(torch.from_numpy(data.test_images).permute(0, 3, 1, 2), *constants("digits"))
    result = folder / "data/teachers/paco/seed0"
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(logits(result, "logits_last_cls")), model(x), atol=1e-5)
    assert logits(result, "best_epoch") == 399 and logits(result, "logit_scale") == 1.0


def entries(folder: Path, **more) -> None:
    """params.yaml with an entry `ce-tiny` whose head is linear."""
    values = yaml_file.read(folder / "params.yaml")
    changes = {"loss": "ce", "max_margin": None, "scale": None, "seeds": [0, 1]}
    values["teachers"]["ce-tiny"] = values["teachers"]["ldam_drw_sam-tiny"] | changes | more
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def good_teacher(data: LongTail) -> dict[str, torch.Tensor]:
    """Random features with a classifier fitted to the test images by least squares: right in most, without training."""
    state = filled(saddle(10, False, blocks=1))
    model = cifar_resnet(8, 10, "linear").eval()
    model.load_state_dict({name.replace("linear.", "fc."): value for name, value in state.items()})
    images = torch.from_numpy(data.test_images).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = model.features(normalize(images, *constants("digits"))).double()
    features = torch.cat([features, torch.ones(len(features), 1)], 1)
    targets = torch.nn.functional.one_hot(torch.from_numpy(data.test_labels), 10).double()
    solved = torch.linalg.lstsq(features, targets).solution
    return state | {"linear.weight": solved[:-1].T.float().contiguous(), "linear.bias": solved[-1].float()}


def test_another_order_of_classes_is_refused_and_applied_on_request(folder):
    entries(folder)
    state = good_teacher(LongTail.load(folder / NPZ))
    order = np.array([3, 1, 2, 0, 4, 5, 9, 7, 8, 6])  # 0 and 3, 6 and 9 exchanged
    moved = state | {name: state[name][torch.from_numpy(order)] for name in ("linear.weight", "linear.bias")}
    torch.save(state, folder / "right.pth")
    torch.save(moved, folder / "moved.pth")
    (folder / "order.json").write_text(json.dumps(order.tolist()))
    like = ("--kind", "teacher", "--like", "ce-tiny", "--dataset", NPZ)
    finish(folder, "import_checkpoint", "right.pth", *like, "--out", "data/teachers/right")
    said = refused(folder, "import_checkpoint", "moved.pth", *like, "--out", "data/teachers/moved")
    assert "moved.pth: its outputs are in another order of classes: top-1" in said
    for move in ("0: output 3", "3: output 0", "6: output 9", "9: output 6"):
        assert move in said
    (written,) = folder.glob("scratch/*moved*/order.json")
    assert json.loads(written.read_text()) == order.tolist()
    assert f"--class-map {written.relative_to(folder)}" in said
    mapped = (*like, "--out", "data/teachers/moved", "--class-map")
    said = refused(folder, "import_checkpoint", "right.pth", *mapped, "order.json")  # no such order is in that file
    assert " % by the dataset's order; pass" in said
    finish(folder, "import_checkpoint", "moved.pth", *mapped, "order.json")
    found = [folder / f"data/teachers/{name}/seed0" for name in ("right", "moved")]
    assert np.array_equal(*(logits(place, "logits_best_cls") for place in found))
    assert (found[0] / "model.safetensors").read_bytes() == (found[1] / "model.safetensors").read_bytes()
    facts = [json.loads((place / "identity.json").read_text()) for place in found]
    assert facts[0]["source_class_order"] is None and facts[1]["source_class_order"] == order.tolist()
    assert facts[0]["top1"] == facts[1]["top1"] > 50
    finish(folder, "import_checkpoint", "moved.pth", *mapped, "as_is")  # another import may take its place
    accepted = json.loads((found[1] / "identity.json").read_text())
    assert accepted["top1"] < facts[0]["top1"] - 20 and accepted["source_class_order"] is None
    for given, message in {
        "frequency": "neither a file nor an order that differs from the dataset's",
        "as_si": "did you mean 'as_is'?",
        "params.yaml": "no JSON list of numbers",
    }.items():
        assert message in refused(folder, "import_checkpoint", "moved.pth", *mapped, given)
    (folder / "order.json").write_text(json.dumps([0] * 10))
    assert "every number from 0 to 9 once" in refused(folder, "import_checkpoint", "moved.pth", *mapped, "order.json")


def test_a_file_a_seed(folder):
    entries(folder)
    torch.save(good_teacher(LongTail.load(folder / NPZ)), folder / "a.pth")
    torch.save(filled(saddle(10, False, blocks=1), seed=2), folder / "b.pth")
    like = ("--kind", "teacher", "--like", "ce-tiny", "--dataset", NPZ, "--out", "data/teachers/two")
    finish(folder, "import_checkpoint", "a.pth", "b.pth", *like)
    for seed, name in enumerate("ab"):
        facts = json.loads((folder / f"data/teachers/two/seed{seed}/identity.json").read_text())
        assert (facts["seed"], facts["source"]) == (seed, f"{name}.pth")
    assert finish(folder, "import_checkpoint", "a.pth", "b.pth", *like).out.count("already there") == 2
    assert "3 files, but teachers.ce-tiny has 2 seeds" in refused(
        folder, "import_checkpoint", "a.pth", "b.pth", "a.pth", *like
    )


def test_what_does_not_fit_is_refused(folder):
    torch.save(filled(saddle(10, False)), folder / "r32.pth")
    finish(folder, "export_checkpoint", STUDENT_RUN, "--out", "exports/model.safetensors")
    out = ("--out", "data/teachers/x")
    said = refused(folder, "import_checkpoint", "r32.pth", *LIKE_TEACHER, *out)
    assert "r32.pth: for teachers.ldam_drw_sam-tiny: CIFAR ResNet-32, Linear head, 10 classes, does not fit" in said
    said = refused(folder, "import_checkpoint", "exports/model.safetensors", *LIKE_TEACHER, *out)
    assert "is a student; teachers.ldam_drw_sam-tiny is a teacher" in said
    said = refused(folder, "import_checkpoint", "r32.pth", *LIKE_TEACHER, "--out", "data/teachers/ldam_drw_sam-tiny")
    assert "holds a run that was trained here" in said
    torch.save(
        filled(saddle(10, True, blocks=1)) | {"linear.weight": torch.full((64, 10), torch.nan)}, folder / "nan.pth"
    )
    said = refused(folder, "import_checkpoint", "nan.pth", *LIKE_TEACHER, *out)
    assert "gives outputs that are not finite; its weights are damaged" in said
    header = json.dumps({"dataset": "tiny", "class_order": "0" * 64, "class_names": [str(9 - i) for i in range(10)]})
    save_file(load_file(folder / STUDENT_RUN / "model.safetensors"), folder / "other.safetensors", {"longtail": header})
    said = refused(folder, "import_checkpoint", "other.safetensors", *LIKE_STUDENT, *out)
    assert "same classes, other order; its output column for class i is [9, 8, 7, 6, 5, 4, 3, 2, 1, 0][i]" in said
    assert "did you mean 'ldam_drw_sam-tiny'?" in refused(
        *(
            folder,
            "import_checkpoint",
            "r32.pth",
            "--kind",
            "teacher",
            "--like",
            "ldam_drw_sam-tin",
            "--dataset",
            NPZ,
            *out,
        )
    )


# --- out


@pytest.mark.parametrize("name", ["tiny-deit_lt", "tiny-vit"])
def test_timm_builds_the_exported_student(folder, name):
    """By its config.json alone, and by name and checkpoint_path; the logits are those of the mean head."""
    place = folder / f"data/students/{name}/seed0"
    finish(folder, "export_checkpoint", place, "--out", "exports/model.safetensors")
    config = json.loads((folder / "exports/config.json").read_text())
    data = LongTail.load(folder / NPZ)
    saved = np.load(place / "predictions.npz")
    heads = [saved[key] for key in ("logits_last_cls", "logits_last_dist") if key in saved]
    x = eval_batch(data.test_images, 24, 24, "digits")
    by_config = timm.create_model(f"local-dir:{folder / 'exports'}", pretrained=True)
    path = folder / "exports/model.safetensors"
    by_name = timm.create_model(config["architecture"], num_classes=10, checkpoint_path=path, **config["model_args"])
    for model in (by_config, by_name):
        with torch.no_grad():
            found = model.eval()(x).numpy()
        np.testing.assert_allclose(found, np.mean(heads, 0), rtol=1e-5, atol=1e-6)  # sums of one thread or two
    assert by_config.pretrained_cfg["input_size"] == (3, 24, 24) and by_config.pretrained_cfg["crop_pct"] == 1.0
    resolved = timm.data.resolve_data_config({}, model=by_config)
    assert (
        tuple(resolved["mean"]) == NORMALIZATION["digits"][0] and tuple(resolved["std"]) == NORMALIZATION["digits"][1]
    )
    assert resolved["interpolation"] == "bicubic"
    assert config["label_names"] == list(data.class_names)
    assert config["architecture"].startswith("deit_base_distilled" if name == "tiny-deit_lt" else "vit_base")


@pytest.mark.parametrize(("dim", "heads", "size"), [(192, 3, "tiny"), (384, 6, "small"), (768, 12, "base")])
def test_standard_sizes_have_timms_names(dim, heads, size):
    shape = ModelConfig(224, 16, dim, 12, heads, 4.0, 0.1)
    for distilled, name in ((True, f"deit_{size}_distilled_patch16_224"), (False, f"vit_{size}_patch16_224")):
        assert architecture(shape, distilled) == (name, {})
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=10)
        state = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        special = 1 + distilled
        assert state["pos_embed"] == (1, 196 + special, dim)
        by_hand = (
            769 * dim + (196 + 2 * special) * dim + 12 * (12 * dim**2 + 13 * dim) + 2 * dim + special * 10 * (dim + 1)
        )
        assert parameters(state) == by_hand
    assert architecture(ModelConfig(224, 16, dim, 11, heads, 4.0, 0.1), True)[1] == {"depth": 11}
    iii = ModelConfig(224, 16, dim, 12, heads, 4.0, 0.1, layer_scale=1e-4, special_positions=False)
    assert architecture(iii, False)[1] == {"init_values": 1e-4, "no_embed_class": True}


def test_exports_replace_nothing_and_say_what_cannot_be(folder):
    for command, message in {
        (TEACHER_RUN, "--format", "timm", "--out", "a.safetensors"): "no architecture in timm; use --format official",
        (STUDENT_RUN, "--out", "a.pth"): "--format timm is written as .safetensors",
        (STUDENT_RUN, "--out", "a.npz"): "expected a name ending in .safetensors, .pth, .pt, .tar",
        (STUDENT_RUN, "--out", f"{STUDENT_RUN}/model.safetensors"): "is there already; give --out another name",
        ("data/students", "--out", "a.safetensors"): "data/students/config.yaml: no such file; name a finished run",
    }.items():
        assert message in refused(folder, "export_checkpoint", *command)
    assert not list(folder.glob("a.*"))


def test_timm_builds_deit_iii(folder):
    """LayerScale and positions for patches alone, as a run of one seed that has them."""
    values = {"image_size": 24, "patch_size": 6, "dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "drop_path": 0.1}
    values |= {"drop_path_mode": "constant", "layer_scale": 1.0e-4, "special_positions": False}
    model = build_vit(ModelConfig(**values), 10, False).eval()
    torch.nn.init.normal_(model.blocks[0].ls1.gamma)
    place = folder / "data/students/iii/seed0"
    place.mkdir(parents=True)
    config = yaml_file.read(folder / "data/students/tiny-vit/seed0/config.yaml")
    (place / "config.yaml").write_text(yaml.safe_dump(config | {"model": values}))
    shutil.copy(folder / "data/students/tiny-vit/seed0/identity.json", place)
    save_file(model.state_dict(), place / "model.safetensors")
    finish(folder, "export_checkpoint", place, "--out", "exports/model.safetensors")
    theirs = timm.create_model(f"local-dir:{folder / 'exports'}", pretrained=True).eval()
    x = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(theirs(x), model(x))
    del config["model"]["mlp_ratio"]
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    assert "model.mlp_ratio: missing" in refused(folder, "export_checkpoint", place, "--out", "other/model.safetensors")
    (place / "config.yaml").write_text(yaml.safe_dump(config | {"model": values | {"dim": 32}}))
    said = refused(folder, "export_checkpoint", place, "--out", "other/model.safetensors")
    assert "not a model that timm's vit_base_patch16_224 can be; the first tensor that differs is blocks.0" in said


# --- DVC


def test_imported_runs_are_part_of_the_pipeline(tmp_path, tiny):
    """The commands of docs/checkpoints.md: import in place of training, tell DVC, go on; nothing is trained."""
    repo = tiny_project(tmp_path / "repo")
    (repo / "params.yaml").write_text(online((repo / "params.yaml").read_text()))
    finish(tmp_path, "export_checkpoint", tiny / TEACHER_RUN, "--out", repo / "teacher.pth.tar")
    finish(tmp_path, "export_checkpoint", tiny / STUDENT_RUN, "--format", "official", "--out", repo / "student.pth")
    run(repo, "dvc", "repro", "subsample@tiny")
    finish(repo, "import_checkpoint", "teacher.pth.tar", *LIKE_TEACHER, "--out", "data/teachers/ldam_drw_sam-tiny")
    finish(repo, "import_checkpoint", "student.pth", *LIKE_STUDENT, "--out", "data/students/tiny-deit_lt")
    run(repo, "dvc", "commit", "--force", "train_teacher@ldam_drw_sam-tiny", "train_student@tiny-deit_lt")
    out = run(repo, "dvc", "repro", "evaluate_teacher@ldam_drw_sam-tiny", "evaluate@tiny-deit_lt")
    assert out.count("Running stage 'evaluate") == 2 and "Running stage 'train" not in out
    for place, metrics in (
        ("data/teachers/ldam_drw_sam-tiny", "teachers/ldam_drw_sam-tiny"),
        ("data/students/tiny-deit_lt", "tiny-deit_lt"),
    ):
        facts = json.loads((repo / place / "seed0/identity.json").read_text())
        found = json.loads((repo / f"reports/metrics/tiny/{metrics}.json").read_text())
        assert facts["imported"] is True
        assert found["seeds"]["0"]["best"]["avg"]["top1"] == pytest.approx(facts["top1"])


def online(text: str) -> str:
    """params.yaml in which the distilled student has its teacher at hand instead of a cache."""
    return put("experiments.tiny-deit_lt.teacher", "ldam_drw_sam-tiny")(
        put("experiments.tiny-deit_lt.cache", "none")(text)
    )
