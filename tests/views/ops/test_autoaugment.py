"""AutoAugment's CIFAR-10 policy: against torchvision, against PaCo's operations restated, batches against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from longtail.base import rng
from longtail.views.ops import autoaugment, autoaugment_torch
from longtail.views.ops.autoaugment import OPS, POLICY, VARIANTS, WORDS
from longtail.views.ops.autoaugment_torch import affine_nearest, fixed_point, rotation
from tests.helpers.batches import DEVICES, batch, one_by_one, unbatch
from tests.helpers.pictures import pictures

LEVELS = [(strength, negative) for strength in range(10) for negative in (False, True)]
GRAY = (128, 128, 128)


def levels(op: str) -> list[tuple[int, bool]]:
    """Strengths and signs that an operation tells apart."""
    return LEVELS if autoaugment.argument(op, 0, False, 32, "paco") is not None else LEVELS[:1]


def draws(n: int, seed: int = 0) -> autoaugment.Draws:
    return autoaugment.draw(rng.draws(seed, "view", 0, np.arange(n), WORDS))


def test_the_policy_is_torchvisions():
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    assert [tuple((op, round(10 * p), strength) for op, p, strength in pair) for pair in theirs] == list(POLICY)


@pytest.mark.parametrize("size", [24, 33])
@pytest.mark.parametrize("op", OPS)
def test_every_operation_is_torchvisions(op, size):
    images = pictures(size)
    magnitudes, signed = AutoAugment(AutoAugmentPolicy.CIFAR10)._augmentation_space(10, (size, size))[op]
    for strength, negative in levels(op):
        magnitude = magnitudes[strength].item() if magnitudes.ndim else 0.0
        magnitude *= -1.0 if signed and negative else 1.0
        argument = autoaugment.argument(op, strength, negative, size, "torchvision")
        ours = one_by_one(lambda image, a=argument: autoaugment.apply(image, op, a, "torchvision"), images)
        theirs = one_by_one(lambda i, m=magnitude: _apply_op(i, op, m, InterpolationMode.NEAREST, None), images)
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{strength} {negative}")


def pacos(image: Image.Image, op: str, strength: int, sign: int) -> Image.Image:
    """One operation in the words of the code that PaCo's teachers were trained with."""
    side = image.size[0]
    shear, shift, degrees, factor, threshold = (
        np.linspace(*ends, 10).tolist()[strength] for ends in ((0, 0.3), (0, 150 / 331), (0, 30), (0, 0.9), (256, 0))
    )
    if op == "Rotate":
        layer = image.convert("RGBA").rotate(degrees)
        return Image.composite(layer, Image.new("RGBA", layer.size, (128, 128, 128, 128)), layer).convert("RGB")
    matrices = {
        "ShearY": (1, 0, 0, sign * shear, 1, 0),
        "TranslateX": (1, 0, sign * shift * side, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, sign * shift * side),
    }
    if op in matrices:
        resample = Image.Resampling.BICUBIC if op == "ShearY" else Image.Resampling.NEAREST
        return image.transform(image.size, Image.Transform.AFFINE, matrices[op], resample, fillcolor=GRAY)
    if op in ("Color", "Contrast", "Brightness", "Sharpness"):
        return getattr(ImageEnhance, op)(image).enhance(1 + factor * sign)
    if op == "Posterize":
        return ImageOps.posterize(image, (8, 8, 7, 7, 6, 6, 5, 5, 4, 4)[strength])
    if op == "Solarize":
        return ImageOps.solarize(image, threshold)
    return {"AutoContrast": ImageOps.autocontrast, "Equalize": ImageOps.equalize, "Invert": ImageOps.invert}[op](image)


@pytest.mark.parametrize("size", [24, 32])
@pytest.mark.parametrize("op", OPS)
def test_every_operation_is_pacos(op, size):
    images = pictures(size)
    for strength, negative in levels(op):
        argument = autoaugment.argument(op, strength, negative, size, "paco")
        ours = one_by_one(lambda image, a=argument: autoaugment.apply(image, op, a, "paco"), images)
        theirs = one_by_one(lambda i, s=strength, n=negative: pacos(i, op, s, -1 if n else 1), images)
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{strength} {negative}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1, 2, 24, 33, 96])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_operation_in_a_batch(variant, op, size, device):
    """Every picture, with strengths and signs mixed in one batch."""
    noise = np.random.default_rng(size).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    images = np.concatenate([pictures(size)] * (1 if size > 33 else 5)) if size > 8 else noise
    arguments = [autoaugment.argument(op, *LEVELS[7 * i % len(LEVELS)], size, variant) for i in range(len(images))]
    theirs = one_by_one(lambda image, a: autoaugment.apply(image, op, a, variant), images, arguments)
    before = batch(images, device)
    given = np.array([a or 0 for a in arguments], np.float64)
    ours = unbatch(autoaugment_torch.apply(before, op, given, variant))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(unbatch(before), images, err_msg="the argument was changed")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_whole_views_in_a_batch(variant, device):
    images = np.concatenate([pictures(32)] * 30)
    drawn = draws(len(images))
    theirs = one_by_one(lambda image, row: autoaugment.augment(image, drawn, row, variant), images, range(len(images)))
    ours = unbatch(autoaugment_torch.augment(batch(images, device), drawn, variant))
    np.testing.assert_array_equal(ours, theirs)


def test_whole_views_are_torchvisions(monkeypatch):
    """torchvision's transform, given our draws: each sub-policy with nothing, one or both of its operations applied."""
    images = np.concatenate([pictures(32)] * 20)
    words = rng.draws(1, "view", 0, np.arange(len(images)), WORDS)
    drawn = autoaugment.draw(words)
    transform = AutoAugment(AutoAugmentPolicy.CIFAR10)
    for row, image in enumerate(images):
        chosen = int(rng.below(words[row, 0], 25))
        probabilities = torch.from_numpy(rng.unit(words[row, 1::2]))
        signs = torch.from_numpy(~drawn.negative[row]).long()
        monkeypatch.setattr(AutoAugment, "get_params", lambda *_, d=(chosen, probabilities, signs): d)
        ours = np.asarray(autoaugment.augment(Image.fromarray(image), drawn, row, "torchvision"))
        np.testing.assert_array_equal(ours, np.asarray(transform(Image.fromarray(image))))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [24, 33])
def test_nearest_transforms_of_any_matrix(size, device):
    images, generator = np.concatenate([pictures(size)] * 4), np.random.default_rng(0)
    matrices = generator.normal((1, 0, 0, 0, 1, 0), (0.5, 0.5, 9, 0.5, 0.5, 9), (len(images), 6)).tolist()
    matrices[:3] = (1, 0, 0.4999, 0, 1, -0.5), (1, 0, 999, 0, 1, 0), (0, 1, 0, -1, 0, size)
    angles = generator.uniform(-400, 400, len(images)).tolist()
    angles[:4] = 0.0, 90.0, 180.0, -90.0

    def moved(image: Image.Image, matrix) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GRAY)

    def turned(image: Image.Image, degrees: float) -> Image.Image:
        return image.rotate(degrees, fillcolor=GRAY)

    for op, values, given in ((moved, matrices, matrices), (turned, angles, [rotation(a, size, size) for a in angles])):
        fixed = torch.tensor([fixed_point(m) for m in given], device=device)
        ours = unbatch(affine_nearest(batch(images, device), fixed, GRAY[0]))
        np.testing.assert_array_equal(ours, one_by_one(op, images, values))


def test_a_fractional_scale_is_refused():
    with pytest.raises(ValueError, match="scale"):
        fixed_point((1.5, 0, 0, 0, 1, 0))


def test_frequencies_of_sub_policies_applications_and_signs():
    """Each of 25 alike, each operation as often as its probability says, signs even and independent; p above .001."""
    n = 50_000
    words = rng.draws(3, "view", 0, np.arange(n), WORDS)
    drawn, chosen = autoaugment.draw(words), rng.below(words[:, 0], 25)
    assert stats.chisquare(np.bincount(chosen, minlength=25)).pvalue > 0.001
    for number, pair in enumerate(POLICY):
        for slot, (op, tenths, strength) in enumerate(pair):
            rows = chosen == number
            applied = drawn.op[rows, slot] >= 0
            assert set(drawn.op[rows, slot][applied].tolist()) <= {OPS.index(op)}
            assert set(drawn.strength[rows, slot].tolist()) == {strength or 0}
            assert stats.binomtest(int(applied.sum()), int(rows.sum()), tenths / 10).pvalue > 1e-4
    for negative in drawn.negative.T:
        assert stats.binomtest(int(negative.sum()), n, 0.5).pvalue > 0.001
    assert abs(np.corrcoef(*drawn.negative.T)[0, 1]) < 0.015
    theirs = np.array([AutoAugment.get_params(25)[0] for _ in range(4000)])
    table = np.stack([np.bincount(theirs, minlength=25), np.bincount(chosen, minlength=25)])
    assert stats.chi2_contingency(table).pvalue > 0.001
