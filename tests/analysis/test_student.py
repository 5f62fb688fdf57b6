import csv
import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from longtail.analysis import student as analysis
from longtail.analysis.attention import (
    attention_probabilities,
    attention_rollout,
    block_tokens,
    feature_rank,
    mean_attention_distance,
    rollout_rows,
)
from longtail.analysis.student import (
    attention_distances,
    feature_ranks,
    load_student,
    rollouts,
    spread,
    tail_test,
    tail_train,
)
from longtail.base.errors import UserError
from longtail.base.params import plain
from longtail.data.file_images import FileImages, read_header
from longtail.data.long_tail import LongTail, author_groups, class_order, content_digest, count_groups
from longtail.models.vit import ModelConfig, build_vit, special_tokens
from longtail.views.eval_views import eval_batch
from tests.helpers.root import ROOT

SHAPE = ModelConfig(image_size=24, patch_size=8, dim=16, depth=2, heads=4, mlp_ratio=2.0, drop_path=0.1)
STAGE = ROOT / "stages" / "analyse.py"
CPU = torch.device("cpu")


def dataset(names=("a", "b", "c", "d", "e")):
    rng = np.random.default_rng(0)
    counts = np.array([9, 6, 4, 3, 2])
    data = LongTail(
        name="toy",
        train_images=rng.integers(0, 256, (24, 8, 8, 3), np.uint8),
        train_labels=np.repeat(np.arange(5), counts),
        train_index=np.arange(24),
        test_images=rng.integers(0, 256, (60, 8, 8, 3), np.uint8),
        test_labels=rng.permutation(np.arange(60) % 5),
        class_names=names,
        class_counts=counts,
        cuts=(1, 3),
        author_groups=author_groups(5, (1, 3)),
        count_groups=count_groups(counts),
        subset_seed=0,
        class_order=class_order(names),
        digest="",
    )
    return replace(data, digest=content_digest(data))


def save_run(folder, data, seed, distilled=True):
    """What the training stage leaves of one seed, as far as the analyses read it."""
    torch.manual_seed(seed)
    model = build_vit(SHAPE, 5, distilled)
    for block in model.blocks:
        block.attn.qkv.weight.data *= 20
    folder = folder / f"seed{seed}"
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"model": plain(SHAPE), "train": {"eval_resize": 28}, "views": {"normalization": "imagenet"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"class_order": data.class_order, "dataset_digest": data.digest, "class_names": list(data.class_names)}
    (folder / "identity.json").write_text(json.dumps(facts))
    distance = ",0.25" if distilled else ""
    header = "epoch,lr,loss,test_top1_cls" + (",cls_dist_distance" if distilled else "")
    (folder / "history.csv").write_text(f"{header}\n0,0.1,1.0,{distance}\n1,0.1,0.5,62.5{distance}\n")
    return model.eval()


@pytest.fixture
def run(tmp_path):
    data = dataset()
    return data, save_run(tmp_path / "run", data, 0), tmp_path / "run"


def test_measures_are_streamed_and_of_the_evaluation_view(run, monkeypatch):
    """Batches of 7 give what one pass over all the images gives, on the resized, cropped, normalised view."""
    data, model, folder = run
    monkeypatch.setattr(analysis, "BATCH", 7)
    student = load_student(folder / "seed0", data, CPU)
    tail = tail_test(data)
    assert sorted(set(data.test_labels[tail])) == [3, 4] and len(tail) == 24
    x = eval_batch(data.test_images, 24, 28, "imagenet")

    maps = attention_probabilities(model, x[tail])
    expected = np.sort([mean_attention_distance(m, 3, 8, 2).numpy() for m in maps], 1)
    np.testing.assert_allclose(attention_distances(student, data.test_images[tail]), expected, rtol=1e-5)

    tokens = block_tokens(model, x).numpy()
    expected = [
        (token, block, name, feature_rank(tokens[block, :, t], tokens[block, tail, t], centre))
        for t, token in enumerate(("cls", "dist"))
        for block in range(2)
        for name, centre in (("both", True), ("all_only", False))
    ]
    assert feature_ranks(student, data.test_images, tail) == expected

    found = rollouts(student, data.test_images[tail][:8])
    maps = attention_probabilities(model, x[tail][:8])
    for token in range(2):
        ours = attention_rollout(maps, token, 2).numpy()
        np.testing.assert_allclose(found["maps"][:, token], ours, rtol=1e-4)
    assert found["images"].shape == (8, 24, 24, 3) and found["images"].dtype == np.uint8
    assert found["tokens"].tolist() == ["cls", "dist"]
    mean = rollout_rows(maps, 2).mean(1).numpy()  # of CLS and DIST, before each is scaled
    np.testing.assert_allclose(found["average"], mean / mean.max((1, 2), keepdims=True), rtol=1e-4)


def test_images_in_files_give_what_the_same_in_memory_give(run, tmp_path):
    data, _, folder = run
    student, tail = load_student(folder / "seed0", data, CPU), tail_test(data)
    for k, image in enumerate(data.test_images):
        Image.fromarray(image).save(tmp_path / f"{k:02}.png")
    names = [f"{k:02}.png" for k in range(len(data.test_images))]
    heads = np.array([read_header(tmp_path / name) for name in names])
    files = FileImages(str(tmp_path), np.array([n.encode() for n in names]), heads[:, :2], heads[:, 2], 0)
    expected = attention_distances(student, data.test_images[tail])
    np.testing.assert_array_equal(attention_distances(student, files[tail]), expected)
    assert feature_ranks(student, files, tail) == feature_ranks(student, data.test_images, tail)
    np.testing.assert_array_equal(
        rollouts(student, files[tail[:4]])["maps"], rollouts(student, data.test_images[tail[:4]])["maps"]
    )


def test_spread_takes_the_classes_in_turn():
    labels = np.array([4, 3, 4, 4, 3, 0, 4])
    positions = np.flatnonzero(labels >= 3)
    assert spread(labels, positions, 5).tolist() == [1, 0, 4, 2, 3]
    assert len(spread(labels, positions, 99)) == 6


def stage(monkeypatch, tmp_path, run, seeds, data=None):
    (data or dataset()).save(tmp_path / "toy.npz")
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"experiments": {"toy-x": {"dataset": "toy", "seeds": seeds}}})
    )
    args = ["--run", run, "--dataset", tmp_path / "toy.npz", "--out", tmp_path / "out", "--device", "cpu"]
    args = ["analyse.py", "toy-x", *map(str, args), "--params", str(tmp_path / "params.yaml")]
    monkeypatch.setattr(sys, "argv", args)
    runpy.run_path(str(STAGE))["main"]()
    return tmp_path / "out"


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_stage_writes_every_seed(run, monkeypatch, tmp_path):
    data, _, folder = run
    save_run(folder, data, 3)
    out = stage(monkeypatch, tmp_path, folder, [0, 3])
    assert sorted(p.name for p in out.iterdir()) == [
        "attention_distance.csv",
        "cls_dist_distance.csv",
        "cls_dist_test.csv",
        "curves.csv",
        "feature_rank.csv",
        "image_spread.csv",
        "rollout.npz",
    ]
    every = rows(out / "attention_distance.csv")
    assert [(r["seed"], r["images"]) for r in every[::8]] == [(s, i) for s in "03" for i in ("test", "train")]
    distances = [r for r in every if r["images"] == "test"]
    assert [r["seed"] for r in distances] == ["0"] * 8 + ["3"] * 8
    assert [(r["block"], r["head"]) for r in distances[:8]] == [(str(b), str(h)) for b in range(2) for h in range(4)]
    for start in range(0, 16, 4):
        ascending = [float(r["distance_px"]) for r in distances[start : start + 4]]
        assert ascending == sorted(ascending) and 0 < ascending[0] < ascending[-1] < 8 * 8**0.5
    ranks = rows(out / "feature_rank.csv")
    assert len(ranks) == 2 * 2 * 2 * 2 and all(1 <= int(r["rank"]) <= 16 for r in ranks)
    assert rows(out / "cls_dist_distance.csv")[-1] == {"seed": "3", "epoch": "1", "distance": "0.250000"}
    empty = dict.fromkeys(("test_top1_dist", "test_top1_avg"), "")
    curves = rows(out / "curves.csv")
    assert curves[2] == {"seed": "3", "epoch": "0", "loss": "1.0", "test_top1_cls": "", **empty}
    assert curves[3] == {"seed": "3", "epoch": "1", "loss": "0.5", "test_top1_cls": "62.5", **empty}
    with np.load(out / "rollout.npz") as file:
        assert file["maps"].shape == (8, 2, 3, 3) and file["maps"].dtype == np.float32
        assert file["labels"].tolist() == [3, 4] * 4
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    stage(monkeypatch, tmp_path, folder, [0, 3])
    assert before == {p.name: p.read_bytes() for p in out.iterdir()}  # the same bytes again


def test_cls_and_dist_are_held_apart_on_test_views_at_the_last_epoch(run, monkeypatch, tmp_path):
    """The history of these runs has no test views: the last epoch alone, from the weights, with its spread."""
    data, model, folder = run
    out = stage(monkeypatch, tmp_path, folder, [0])
    with torch.no_grad():
        tokens = special_tokens(model, eval_batch(data.test_images, 24, 28, "imagenet")).double()
    cls, dist = tokens.unbind(1)
    apart = (1 - (cls * dist).sum(1) / (cls.norm(dim=1) * dist.norm(dim=1))).numpy()
    (row,) = rows(out / "cls_dist_test.csv")
    assert row["epoch"] == "1" and float(row["distance"]) == pytest.approx(apart.mean(), abs=1e-5)
    (spread,) = [r for r in rows(out / "image_spread.csv") if r["metric"] == "cls_dist_test"]
    expected = apart.std(ddof=1) / len(apart) ** 0.5
    assert float(spread["stderr"]) == pytest.approx(expected, rel=2e-3) and int(spread["n"]) == len(apart)


def test_epochs_that_were_evaluated_on_test_views_come_first(run, monkeypatch, tmp_path):
    history = "epoch,loss,cls_dist_distance,test_cls_dist_distance\n0,1,0.5,0.125\n1,1,0.25,0.75\n"
    (run[2] / "seed0/history.csv").write_text(history)
    found = rows(stage(monkeypatch, tmp_path, run[2], [0]) / "cls_dist_test.csv")
    assert [r["epoch"] for r in found] == ["0", "1"] and found[0]["distance"] == "0.125000"
    assert found[1]["distance"] != "0.750000"  # of the weights that lie there


def test_training_images_of_the_tail_are_those_of_the_last_classes(run, monkeypatch, tmp_path):
    """Classes 3 and 4 have the last 3 + 2 of 24 training images; so are their distances."""
    data, model, folder = run
    assert tail_train(data).tolist() == [19, 20, 21, 22, 23]
    maps = attention_probabilities(model, eval_batch(data.train_images[19:], 24, 28, "imagenet"))
    expected = np.sort([mean_attention_distance(m, 3, 8, 2).numpy() for m in maps], 1)
    out = stage(monkeypatch, tmp_path, folder, [0])
    found = [float(r["distance_px"]) for r in rows(out / "attention_distance.csv") if r["images"] == "train"]
    np.testing.assert_allclose(found, expected.ravel(), rtol=1e-5)


def test_a_run_without_epochs_has_empty_curves(run, monkeypatch, tmp_path):
    (run[2] / "seed0/history.csv").write_text("epoch,lr,loss\n")
    np.savez(run[2] / "seed0/predictions.npz", last_epoch=7)
    out = stage(monkeypatch, tmp_path, run[2], [0])
    assert rows(out / "curves.csv") == rows(out / "cls_dist_distance.csv") == []
    assert [row["epoch"] for row in rows(out / "cls_dist_test.csv")] == ["7"]  # its own weights are of an epoch


def test_stage_on_a_plain_vit(monkeypatch, tmp_path):
    save_run(tmp_path / "plain", dataset(), 0, distilled=False)
    out = stage(monkeypatch, tmp_path, tmp_path / "plain", [0])
    assert (out / "cls_dist_distance.csv").read_text() == "seed,epoch,distance\n"
    assert {r["token"] for r in rows(out / "feature_rank.csv")} == {"cls"}
    with np.load(out / "rollout.npz") as file:
        assert file["maps"].shape == (8, 1, 3, 3) and file["tokens"].tolist() == ["cls"]


def relabelled(data):
    return replace(data, digest=content_digest(data))


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: (run / "seed0").rename(run / "gone"), "no such file; train the entry first"),
        (lambda run: cut(run / "seed0/model.safetensors"), r"model.safetensors: damaged or cut short"),
        (lambda run: (run / "seed0/identity.json").write_text('{"class_or'), "identity.json: cut short"),
        (lambda run: (run / "seed0/identity.json").write_text("{}"), "lacks 'class_order'"),
        (lambda run: edit(run / "seed0/config.yaml", "dim: 16", "dim: 1.5"), "model.dim: expected int"),
        (lambda run: edit(run / "seed0/config.yaml", "dim: 16", "dim: 32"), "weights do not fit config.yaml"),
        (
            lambda run: (run / "seed0/history.csv").write_text("epoch,cls_dist_distance\n0,0.1\n1\n"),
            r"history.csv: line 3: 1 value for 2 columns \(epoch, cls_dist_distance\); cut short or damaged; train",
        ),
    ],
)
def test_stage_refuses_what_is_missing_or_cut_short(run, monkeypatch, tmp_path, harm, message):
    harm(run[2])
    with pytest.raises(UserError, match=message):
        stage(monkeypatch, tmp_path, run[2], [0])
    assert not (tmp_path / "out").exists()


def test_stage_refuses_another_class_order_or_dataset(run, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"same classes, other order.*\[1, 0, 2, 3, 4\]"):
        stage(monkeypatch, tmp_path, run[2], [0], dataset(("b", "a", "c", "d", "e")))
    other = relabelled(replace(run[0], subset_seed=1))
    with pytest.raises(UserError, match="trained on dataset"):
        stage(monkeypatch, tmp_path, run[2], [0], other)


def test_stage_refuses_a_dataset_cut_short(run, monkeypatch, tmp_path):
    data = run[0]
    monkeypatch.setattr(LongTail, "save", lambda self, path: path.write_bytes(b"PK\x03\x04"))
    with pytest.raises(UserError, match="cut short"):
        stage(monkeypatch, tmp_path, run[2], [0], data)


def test_stage_refuses_the_file_of_another_entry(run, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"experiments.toy-x.dataset is 'toy' but .* holds 'other'"):
        stage(monkeypatch, tmp_path, run[2], [0], relabelled(replace(run[0], name="other")))


def test_no_tail_images(run):
    data = run[0]
    with pytest.raises(UserError, match="no test image of a tail class"):
        tail_test(replace(data, author_groups=np.zeros(5, np.int64)))
