import csv
import math
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from longtail.analysis.entropy import entropy_histogram, entropy_in, entropy_out, softmax_entropy
from longtail.base.errors import UserError
from longtail.base.params import plain
from longtail.data.long_tail import LongTail, author_groups, class_order, content_digest, count_groups
from longtail.training.teacher import build_model, load_teacher, save_weights
from longtail.training.teacher_config import TeacherConfig
from longtail.views.normalize import constants
from longtail.views.student_views import ViewRecipe, Views
from longtail.views.teacher_views import weak_parameters
from tests.helpers.root import ROOT

CPU = torch.device("cpu")
STAGE = ROOT / "stages" / "teacher_entropy.py"
TEACHER = TeacherConfig(
    study="toy",
    dataset="toy",
    arch="resnet8",
    loss="ldam",
    max_margin=0.5,
    scale=30.0,
    drw_epoch=None,
    drw_beta=None,
    paco=None,
    epochs=1,
    batch_size=8,
    drop_last=False,
    lr=0.1,
    momentum=0.9,
    weight_decay=0.0,
    schedule="step",
    warmup_epochs=0,
    milestones=(),
    factors=(),
    sam_rho=None,
    crop_padding=2,
    hflip=0.5,
    normalization="cifar",
    select="last",
    eval_every=1,
    must_reach=None,
)
NOTHING = {  # a view recipe with every part off: the image, enlarged by 3, of which the teacher sees the centres
    "size": 24,
    "crop": "resized",
    "crop_scale": [1.0, 1.0],
    "crop_ratio": [1.0, 1.0],
    "crop_padding": 4,
    "hflip": 0.0,
    "rand_ops": 0,
    "rand_prob": 0.0,
    "rand_magnitude": 0.0,
    "rand_std": 0.0,
    "three_augment": False,
    "blur_radius": [0.1, 2.0],
    "jitter": 0.0,
    "erase_prob": 0.0,
    "erase_area": [0.1, 0.2],
    "erase_ratio": [1.0, 1.0],
    "normalization": "cifar",
    "sampler": "shuffle",
    "repeats": 1,
    "virtual_world": 1,
    "mix_group": 4,
    "accumulate": 1,
    "round_to": 0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "mix_prob": 0.0,
    "switch_prob": 0.0,
    "mix_until": 0,
    "teacher_view": "same",
    "teacher_stride": 3,
    "teacher_offset": 1,
    "teacher_padding": 4,
    "teacher_normalization": "cifar",
}
STRONG = NOTHING | {
    "rand_ops": 2,
    "rand_prob": 0.5,
    "rand_magnitude": 9.0,
    "mixup_alpha": 0.8,
    "mix_prob": 1.0,
    "mix_until": 9,
}


class Probe(torch.nn.Module):
    """A teacher that keeps what it was shown; its logits are three pixels of it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        return x[:, 0, 3, 3:6]


def dataset(names=("a", "b", "c")):
    rng = np.random.default_rng(0)
    counts = np.array([9, 6, 5])
    data = LongTail(
        name="toy",
        train_images=rng.integers(0, 256, (20, 8, 8, 3), np.uint8),
        train_labels=np.repeat(np.arange(3), counts),
        train_index=np.arange(20),
        test_images=rng.integers(0, 256, (6, 8, 8, 3), np.uint8),
        test_labels=np.arange(6) % 3,
        class_names=names,
        class_counts=counts,
        cuts=(1, 2),
        author_groups=author_groups(3, (1, 2)),
        count_groups=count_groups(counts),
        subset_seed=0,
        class_order=class_order(names),
        digest="",
    )
    return replace(data, digest=content_digest(data))


def slow_entropy(logits, scale):
    p = np.exp(scale * logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    return -(p * np.log(p)).sum(1)


def test_uniform_is_log_c_and_certain_is_zero():
    assert softmax_entropy(torch.full((2, 7), 3.0)).tolist() == pytest.approx([math.log(7)] * 2, abs=1e-14)
    certain = torch.tensor([[1e4, 0.0, 0.0]])
    assert softmax_entropy(certain).item() == pytest.approx(0.0, abs=1e-12)
    assert softmax_entropy(torch.tensor([[0.0, -math.inf]])).item() == 0.0


def test_two_classes_by_hand():
    p = 1 / (1 + math.exp(-1.5))
    expected = -p * math.log(p) - (1 - p) * math.log(1 - p)
    out = softmax_entropy(np.array([[1.5, 0.0]], np.float32))
    assert out.dtype == torch.float64 and out.item() == pytest.approx(expected, rel=1e-14)


def test_ldam_cosines_need_their_scale():
    """Cosines .9 against .0: near log C as they stand, near certain times 30 (METHODS trap 24)."""
    cosines = torch.zeros(1, 10)
    cosines[0, 4] = 0.9
    raw, scaled = softmax_entropy(cosines).item(), softmax_entropy(cosines, 30.0).item()
    z = math.exp(27) + 9
    expected = -(math.exp(27) / z) * math.log(math.exp(27) / z) + 9 / z * math.log(z)
    assert raw > 0.95 * math.log(10)
    assert scaled == pytest.approx(expected, rel=1e-9) and scaled < 1e-8


def test_histogram_keeps_every_image():
    entropies = softmax_entropy(torch.randn(200, 10, generator=torch.Generator().manual_seed(0)) * 3)
    entropies = torch.cat([entropies, softmax_entropy(torch.zeros(3, 10)) + 1e-12, torch.zeros(2)])
    edges, counts = entropy_histogram(entropies, 10, bins=20)
    assert edges[0] == 0 and edges[-1] == math.log(10) and len(edges) == 21
    assert counts.sum() == 205 and counts[-1] >= 3 and counts[0] >= 2
    slow = [int(((entropies >= edges[i]) & (entropies < edges[i + 1])).sum()) for i in range(19)]
    assert counts[:19].tolist() == slow


def test_in_distribution_is_each_image_once_in_the_teachers_own_view():
    """Slow padded crop and flip of every image, the teacher's constants, cosines times 30."""
    data, probe = dataset(), Probe()
    entropies = entropy_in(probe, TEACHER, data, 0, CPU)
    mean, std = (c.view(3).numpy() for c in constants("cifar"))
    expected = []
    for image, (top, left, flipped) in zip(
        data.train_images, weak_parameters(0, 0, np.arange(20), 2, 0.5), strict=True
    ):
        view = np.pad(image, ((2, 2), (2, 2), (0, 0)))[top : top + 8, left : left + 8]
        view = view[:, ::-1] if flipped else view
        expected.append(((view / np.float32(255) - mean) / std).transpose(2, 0, 1))
    seen = torch.cat(probe.seen)
    np.testing.assert_allclose(seen.numpy(), np.stack(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(entropies.numpy(), slow_entropy(seen[:, 0, 3, 3:6].numpy(), 30.0), rtol=1e-9, atol=1e-12)


def test_out_of_distribution_is_the_students_first_epoch_through_the_slice():
    data, probe = dataset(), Probe()
    views = Views(ViewRecipe(**STRONG), data.train_images, 0)
    entropies = entropy_out(probe, views, 2.0, CPU)
    assert len(entropies) == views.positions_per_epoch == 20 and len(probe.seen) == views.steps_per_epoch == 5
    assert torch.equal(probe.seen[1], views.step(0, 1).x[:, :, 1::3, 1::3])
    seen = torch.cat(probe.seen)[:, 0, 3, 3:6].numpy()
    np.testing.assert_allclose(entropies.numpy(), slow_entropy(seen, 2.0), rtol=1e-9, atol=1e-12)


def test_without_augmentation_both_domains_are_the_same_images():
    """Bicubic by 3, then the centre of each 3 x 3 tile, is the image itself: only augmentation makes a difference."""
    data = dataset()
    views = Views(ViewRecipe(**NOTHING), data.train_images, 0)
    teacher = build_model(TEACHER, 3).eval()
    inside = entropy_in(teacher, replace(TEACHER, crop_padding=0, hflip=0.0), data, 0, CPU)
    outside = entropy_out(teacher, views, 30.0, CPU)
    np.testing.assert_allclose(outside.numpy(), inside[views.order(0)].numpy(), rtol=1e-4)
    assert inside.std() > 1e-3


def stage(monkeypatch, tmp_path, data, recipe=STRONG, train=True):
    torch.manual_seed(0)
    data.save(tmp_path / "toy.npz")
    folder = tmp_path / "t" / "seed0"
    if train:
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(build_model(TEACHER, 3).state_dict(), folder / "model.safetensors", dataset())
        (folder / "config.yaml").write_text(yaml.safe_dump(plain(TEACHER)))
    cache = {"study": "toy", "teacher": "t", "teacher_kind": "teachers", "dataset": "toy", "views": "v"}
    cache |= {"epochs": 4, "top_k": 0, "seeds": [0, 5]}
    values = {"caches": {"c": cache}, "views": {"v": recipe}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    args = [
        "--teacher",
        tmp_path / "t",
        "--dataset",
        tmp_path / "toy.npz",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    args = ["teacher_entropy.py", "c", *map(str, args), "--params", str(tmp_path / "params.yaml")]
    monkeypatch.setattr(sys, "argv", args)
    runpy.run_path(str(STAGE))["main"]()
    return tmp_path / "out"


def test_stage(monkeypatch, tmp_path):
    data = dataset()
    out = stage(monkeypatch, tmp_path, data)
    with open(out / "entropy_mean.csv", newline="") as file:
        means = list(csv.DictReader(file))
    assert [(m["seed"], m["domain"], m["n"]) for m in means] == [
        (seed, domain, "20") for seed in "05" for domain in ("in", "out")
    ]
    teacher, config = load_teacher(tmp_path / "t" / "seed0", data)  # the only seed there is serves both
    expected = entropy_in(teacher, config, data, 0, CPU).mean().item()
    assert float(means[0]["mean_nats"]) == pytest.approx(expected, abs=1e-6)
    expected = entropy_out(teacher, Views(ViewRecipe(**STRONG), data.train_images, 5), 30.0, CPU).mean().item()
    assert float(means[3]["mean_nats"]) == pytest.approx(expected, abs=1e-6)
    with open(out / "entropy.csv", newline="") as file:
        bins = list(csv.DictReader(file))
    assert len(bins) == 2 * 2 * 50 and sum(int(b["count"]) for b in bins) == 80
    assert bins[0]["bin_left"] == "0.000000" and bins[49]["bin_right"] == f"{math.log(3):.6f}"


def test_stage_refuses(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="no such folder; train it first"):
        stage(monkeypatch, tmp_path, dataset(), train=False)
    with pytest.raises(UserError, match="class order"):
        stage(monkeypatch, tmp_path, dataset(("b", "a", "c")))
    path = tmp_path / "t" / "seed0" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="damaged or cut short"):
        stage(monkeypatch, tmp_path, dataset(), train=False)
    assert not (tmp_path / "out").exists()
