"""Parameters and multiply-adds of the networks: by hand, as printed, and as PyTorch counts a backward pass."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from longtail.models import shapes
from longtail.models.build import ARCHITECTURES, CnnConfig, CnnParts, build_network
from longtail.models.vit import ModelConfig

SIZES = {"ti": (192, 3), "s": (384, 6), "b": (768, 12)}


def block(size: str, **changes) -> ModelConfig:
    dim, heads = SIZES[size]
    deit = {"image_size": 224, "patch_size": 16, "depth": 12, "mlp_ratio": 4.0, "drop_path": 0.1}
    return ModelConfig(**deit | {"dim": dim, "heads": heads} | changes)


@pytest.mark.parametrize(("size", "millions"), [("ti", 5.53), ("s", 21.67), ("b", 85.82)])
def test_parameters_of_deit(size, millions):
    """METHODS 3.2, two heads of 10 classes."""
    assert round(shapes.student(block(size), 10, True).params / 1e6, 2) == millions


def test_vit_b_by_hand():
    """198 tokens: 196 patches of 768 numbers, 12 blocks of 12 d^2 a token and 2 N d a token for attention."""
    patches = 196 * 768 * 768
    blocks = 12 * (198 * 12 * 768**2 + 2 * 198**2 * 768)
    shape = shapes.student(block("b"), 10, True)
    assert shape.name == "ViT 768x12, patch 16, 224 px" and shape.buffers == 0
    assert shape.macs == patches + blocks + 2 * 768 * 10
    assert shape.train_macs == 3 * shape.macs - patches
    assert round(shape.macs / 1e9, 3) == 17.655
    assert round(2 * shape.train_macs / 1e9, 1) == 105.7
    assert shape.activations == 16 * 198 * 768 * 12


def test_a_vit_with_layer_scale_and_a_normed_head_by_hand():
    """DeiT-III: 64 patches of 12 px without a place for CLS; a head of cosines has no bias."""
    model = block("ti", image_size=96, patch_size=12, depth=2, layer_scale=1e-4, special_positions=False)
    shape, dim = shapes.student(model, 7, head="normed"), 192
    of_block = 12 * dim**2 + 13 * dim + 2 * dim  # two norms and all biases; two scales
    assert shape.params == (3 * 144 + 1) * dim + 65 * dim + 2 * of_block + 2 * dim + 7 * dim
    assert shape.macs == 64 * 432 * dim + 2 * (65 * 12 * dim**2 + 2 * 65**2 * dim) + 7 * dim


def test_resnet_32_by_hand():
    """METHODS 11: 463,504 parameters and a head. A convolution of a stage's own width takes 2,359,296 in each stage,
    the first of the second and of the third stage half of that."""
    shape = shapes.teacher(CnnParts("resnet32"), 10, 32)
    assert shape.name == "ResNet-32, 32 px"
    assert shape.params == 463_504 + 650
    assert shape.buffers == 2 * (11 * 16 + 10 * 32 + 10 * 64) + 31
    stem = 3 * 16 * 9 * 32**2
    assert shape.macs == stem + (10 + 9.5 + 9.5) * 2_359_296 + 640
    assert shape.train_macs == 3 * shape.macs - stem
    assert shape.activations == 2 * (11 * 16 * 32**2 + 10 * 32 * 16**2 + 10 * 64 * 8**2)
    assert shapes.teacher(CnnParts("resnet32", "normed"), 100, 32).params == 463_504 + 6_400


def test_resnet_50_as_torchvision_prints_it():
    """25,557,032 parameters, 4.089 GMAC; 53 norms of 26,560 channels."""
    shape = shapes.teacher(CnnParts("resnet50"), 1000, 224)
    assert (shape.params, round(shape.macs / 1e9, 3)) == (25_557_032, 4.089)
    assert shape.buffers == 2 * 26_560 + 53
    assert shape.train_macs == 3 * shape.macs - 3 * 64 * 49 * 112**2


@pytest.mark.parametrize(
    ("arch", "params", "giga"), [("regnety_160", 83_590_140, 15.912), ("regnety_004", 4_344_144, 0.402)]
)
def test_regnets_as_torchvision_prints_them(arch, params, giga):
    """RegNet_Y_16GF and RegNet_Y_400MF; the stem is 3 to 32 channels at half the side."""
    shape = shapes.student(CnnConfig(arch, 224), 1000)
    assert shape.name == f"{arch}, 224 px"
    assert (shape.params, round(shape.macs / 1e9, 3)) == (params, giga)
    assert shape.train_macs == 3 * shape.macs - 3 * 32 * 9 * 112**2


@pytest.mark.parametrize("what", ["vit", "resnet"])
def test_training_is_what_pytorch_counts_forward_and_backward(what):
    model = block("ti", image_size=32, patch_size=8, depth=2)
    with torch.device("meta"):
        network = build_network(model, 7, True) if what == "vit" else ARCHITECTURES["resnet8"](7, "linear")
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, 32, 32, device="meta")).sum().backward()
    shape = shapes.student(model, 7, True) if what == "vit" else shapes.teacher(CnnParts("resnet8"), 7, 32)
    assert 2 * shape.train_macs == counter.get_total_flops()


def test_counting_draws_nothing_and_leaves_gradients_on():
    before = torch.get_rng_state()
    shapes.teacher(CnnParts("resnet8"), 11, 8)
    assert torch.equal(before, torch.get_rng_state()) and torch.is_grad_enabled()
