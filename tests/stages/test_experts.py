"""The stage `experts` as a process of its own, on the tiny study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

from longtail.base import yaml_file
from tests.helpers.root import ROOT
from tests.helpers.stage_processes import EVALUATE, EXPERTS, SUBSAMPLE, command, finish, start, tiny_params

SCHEMA = json.loads((ROOT / "docs/schema/experts.schema.json").read_text())
FILE, METRICS = EXPERTS[-1], EVALUATE[EVALUATE.index("--out") + 1]
RUN = Path("data/students/tiny-deit_lt/seed0")


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    left_out = shutil.ignore_patterns("scratch", "logs", "*.environment")  # without the sums of files that tests edit
    shutil.copytree(tiny, folder, True, left_out, dirs_exist_ok=True)
    finish(folder, *EVALUATE)
    finish(folder, *EXPERTS)
    return folder


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy", symlinks=True))


def read(path: Path) -> dict:
    content = json.loads(path.read_text())
    jsonschema.validate(content, SCHEMA)
    return content


def refused(folder: Path, *arguments: str) -> str:
    run = start(folder, *arguments)
    assert run.wait() == 2
    assert run.err.startswith("error: ") and run.err.count("\n") == 1
    return run.err


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_average_and_the_heads_are_those_of_the_metrics(made):
    test = read(made / FILE)["fusion"]["test"]
    metrics = json.loads((made / METRICS).read_text())["summary"]["last"]
    for way, head in {"cls": "cls", "dist": "dist", "average": "avg"}.items():
        assert test[way] == {name: metrics[head][name] for name in test[way]}


def test_the_weight_is_the_best_on_images_that_nothing_else_uses(made):
    """Found again from the weights: on all images of scikit-learn's that are neither trained on nor tested on."""
    from longtail.analysis.student import load_student
    from longtail.data.long_tail import LongTail
    from longtail.models.vit import head_logits, special_tokens

    fusion = read(made / FILE)["fusion"]
    left = np.bincount(load_digits().target) - 10 - [40, 30, 23, 18, 14, 11, 8, 6, 5, 4]
    assert fusion["heldout"]["per_class"] == np.minimum(left, 100).tolist()
    assert fusion["heldout"]["images"] == sum(fusion["heldout"]["per_class"]) and fusion["heldout"]["limit"] == 100
    assert fusion["heldout"]["missing_classes"] == [] and fusion["heldout"]["uses_extra_labels"] is True

    data = LongTail.load(made / "data/datasets/tiny.npz")
    used = {i[..., 0].tobytes() for images in (data.train_images, data.test_images) for i in images}
    raw = load_digits()
    grey = np.round(raw.images * (255 / 16)).astype(np.uint8)
    free = [i for i in range(len(grey)) if grey[i].tobytes() not in used]
    free = [i for k in range(10) for i in [i for i in free if raw.target[i] == k][:100]]
    student = load_student(made / RUN, data, torch.device("cpu"))
    with torch.no_grad():
        batches = student.batches(np.repeat(grey[free][..., None], 3, -1))
        logits = [head_logits(student.model, special_tokens(student.model, x)) for x in batches]
    cls, dist = (torch.cat([z[head] for z in logits]).numpy() for head in ("cls", "dist"))
    curve = [
        100 * balanced_accuracy_score(raw.target[free], (w * cls + (1 - w) * dist).argmax(1))
        for w in np.arange(21) / 20
    ]
    found = [value["mean"] for value in fusion["heldout"]["balanced"]]
    np.testing.assert_allclose(found, curve, atol=0.2)  # sums in float32 here: an image or two may fall the other way
    chosen = fusion["chosen"]["seeds"]["0"]
    assert found[round(20 * chosen)] == max(found) and fusion["chosen"]["mean"] == chosen


def test_agreement_is_of_the_views_of_two_epochs(made):
    """Epoch 1 is the last that is mixed, all of it; epoch 2 is not. An epoch has 64 views of each of two ranks."""
    first, last = read(made / FILE)["agreement"]
    assert (first["epoch"], last["epoch"]) == (1, 2)
    assert set(first["kinds"]) <= {"mixed", "mixup", "cutmix"} and set(last["kinds"]) == {"unmixed"}
    meta = json.loads((made / "data/caches/ldam_drw_sam-tiny/seed0/meta.json").read_text())
    mixed, unmixed = first["kinds"]["mixed"], last["kinds"]["unmixed"]
    assert mixed["all"]["views"] == unmixed["all"]["views"] == meta["positions"]
    assert sum(first["kinds"][kind]["all"]["views"] for kind in ("mixup", "cutmix") if kind in first["kinds"]) == 128
    for groups in (mixed, unmixed):
        for names in (("head", "mid", "tail"), ("many", "medium", "few")):
            assert sum(groups[name]["views"] for name in names) == 128
        assert groups["many"]["cls_teacher"] == {"mean": None, "stderr": None, "n": 0}  # no class has over 100 images


def test_what_the_teacher_names_is_what_its_cache_counted(made):
    """Over all three epochs the cache records how often the label is the dominant image's; epoch 0 is walked here."""
    from longtail.analysis.agreement import answers
    from longtail.analysis.student import load_student
    from longtail.base import params
    from longtail.data.long_tail import LongTail
    from longtail.training.labels import TeacherLabels
    from longtail.views.student_views import ViewRecipe, Views

    data = LongTail.load(made / "data/datasets/tiny.npz")
    student = load_student(made / RUN, data, torch.device("cpu"))
    config = yaml_file.read(made / RUN / "config.yaml")
    views = Views(params.build(ViewRecipe, config["views"], "views"), data.train_images, 0)
    labels = TeacherLabels.load(made / "data/caches/ldam_drw_sam-tiny/seed0")
    first = answers(student, views, data.train_labels, labels, 0, 10_000)
    shares = [100 * float((first["teacher"] == first["dominant"]).mean())]
    for item, kind in zip(read(made / FILE)["agreement"], ("mixed", "unmixed"), strict=True):
        shares.append(item["kinds"][kind]["all"]["teacher_dominant"]["mean"])
    assert np.mean(shares) == pytest.approx(labels.meta["teacher_top1_on_views"], abs=1e-3)


def test_the_same_inputs_give_the_same_bytes_and_a_limit_is_kept(copy):
    before = (copy / FILE).read_bytes()
    finish(copy, *EXPERTS)
    assert (copy / FILE).read_bytes() == before
    finish(copy, *EXPERTS, "--limit", "3")
    assert read(copy / FILE)["fusion"]["heldout"]["per_class"] == [3] * 10
    assert "--limit 0: at least 1" in refused(copy, *EXPERTS, "--limit", "0")


def test_an_online_teacher_agrees_as_its_cache_does(copy):
    before = read(copy / FILE)
    path = copy / RUN / "config.yaml"
    config = yaml_file.read(path) | {"cache": "none", "teacher": "ldam_drw_sam-tiny"}
    path.write_text(yaml.safe_dump(config))
    cache, teacher = EXPERTS.index("--cache") + 1, EXPERTS.index("--teacher") + 1
    arguments = list(EXPERTS)
    arguments[cache], arguments[teacher] = "data/caches/none", "data/teachers/ldam_drw_sam-tiny"
    finish(copy, *arguments)
    assert read(copy / FILE) == before


def test_an_imported_run_has_no_agreement(copy):
    path = copy / RUN / "identity.json"
    facts = json.loads(path.read_text())
    del facts["teacher_digest"]
    path.write_text(json.dumps(facts | {"imported": True}))
    before = read(copy / FILE)
    finish(copy, *EXPERTS)
    assert read(copy / FILE) == before | {"agreement": None}


def test_a_plain_vit_has_no_experts(copy):
    arguments = command("experts", "tiny-vit")
    finish(copy, *arguments)
    assert read(copy / arguments[-1]) == {"schema": 1, "entry": "tiny-vit", "study": "tiny", "distilled": False}


# --- the block `fusion` by hand


def block(curves: dict[int, list[float]], held: list[int]) -> dict:
    """Two seeds, three classes a, b, c of one test image each: seed 0 as in test_fusion_choice, seed 1 all right."""
    from longtail.analysis.experts import fusion
    from longtail.data.heldout import HeldOut
    from longtail.evaluation.predictions import Predictions, TestSet

    rules = {"author": ("head", "mid", "tail"), "count": ("many", "medium", "few")}
    groups = {rule: {name: [0] for name in names} for rule, names in rules.items()}
    test = TestSet(("a", "b", "c"), np.array([5, 2, 1]), groups, "order", np.arange(3), "digest")
    cls, dist = np.array([[2, 0, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0, 1, 0], [0, 3, 0], [0, 0, 1]])
    logits = [{"cls": cls, "dist": dist}, {"cls": np.eye(3), "dist": np.eye(3)}]
    tested = {k: Predictions(np.arange(3), {"last": z}, {"last": 0}, "order", 1.0) for k, z in enumerate(logits)}
    labels = np.array(held, np.int64)
    images = np.zeros((len(held), 1, 1, 3), np.uint8)
    made = fusion(curves, tested, test, HeldOut(images, labels, "made up", 7))
    jsonschema.validate(made, {"$defs": SCHEMA["$defs"], "$ref": "#/$defs/Fusion"})
    return made


def test_every_seed_has_its_own_weight_and_classes_without_images_are_named():
    """Seed 0's curve is highest at .2, where class a is wrong, seed 1's at .6: mean .4, standard error .4 / 2."""
    curves = {0: [float(k == 4) for k in range(21)], 1: [float(2 * (k == 12)) for k in range(21)]}
    made = block(curves, [1, 1, 2])
    assert made["chosen"] == {"seeds": {"0": 0.2, "1": 0.6}, "mean": 0.4, "stderr": 0.2, "n": 2}
    heldout = made["heldout"]
    assert (heldout["images"], heldout["per_class"], heldout["missing_classes"]) == (3, [0, 2, 1], ["a"])
    assert heldout["balanced"][4] == {"mean": 0.5, "stderr": 0.5, "n": 2}
    assert made["test"]["average"]["top1"] == {"mean": 100.0, "stderr": 0.0, "n": 2}
    assert made["test"]["chosen"]["top1"]["mean"] == pytest.approx((200 / 3 + 100) / 2, abs=1e-4)
    assert made["test"]["gain"]["top1"]["mean"] == pytest.approx(-100 / 6, abs=1e-4)


def test_without_an_image_left_the_weight_stays_open():
    made = block({0: [], 1: []}, [])
    assert made["chosen"] == {"seeds": {}, "mean": None, "stderr": None, "n": 0}
    assert made["heldout"]["balanced"] == [] and made["heldout"]["missing_classes"] == ["a", "b", "c"]
    assert set(made["test"]) == {"cls", "dist", "average"}


# --- what is refused


def test_missing_raw_images_are_told_as_subsample_tells_it(copy):
    def elsewhere(params: dict) -> None:
        params["datasets"]["tiny"] |= {"source": "cifar10", "raw": "data/raw/gone", "test_per_class": None}

    tiny_params(copy, elsewhere)
    before = (copy / FILE).read_bytes()
    said = refused(copy, *EXPERTS)
    assert "missing; unpack the official archive into data/raw/gone" in said
    assert said == refused(copy, *SUBSAMPLE)
    assert (copy / FILE).read_bytes() == before


def test_labels_of_another_teacher_are_refused(copy):
    path = copy / RUN / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"teacher_digest": "0" * 64}))
    said = refused(copy, *EXPERTS)
    assert f"data/caches/ldam_drw_sam-tiny/seed0: another teacher than {RUN} learnt from; train the student" in said


def test_a_cache_or_a_teacher_is_needed(copy):
    start_of = EXPERTS.index("--cache")
    without = (*EXPERTS[:start_of], *EXPERTS[start_of + 4 :])
    assert f"{RUN}: learnt from a teacher; pass --cache FOLDER" in refused(copy, *without)


def test_another_dataset_and_a_missing_run_are_refused(copy):
    tiny_params(copy, lambda params: params["datasets"].update(other=params["datasets"]["tiny"]))
    tiny = yaml_file.read(copy / "params.yaml")
    tiny["experiments"]["tiny-deit_lt"]["dataset"] = "other"
    (copy / "params.yaml").write_text(yaml.safe_dump(tiny))
    said = refused(copy, *EXPERTS)
    assert "experiments.tiny-deit_lt.dataset is 'other' but data/datasets/tiny.npz holds 'tiny'" in said
    shutil.rmtree(copy / RUN)
    assert f"{RUN}/predictions.npz: no such file" in refused(copy, *EXPERTS)
