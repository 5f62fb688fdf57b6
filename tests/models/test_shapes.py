"""Parameters and multiply-adds of the networks, against the networks themselves and against printed counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from longtail.base.errors import UserError
from longtail.models import shapes
from longtail.models.build import ARCHITECTURES, CnnConfig, PooledCnn
from longtail.models.vit import ModelConfig, build_vit

DEIT = {"image_size": 224, "patch_size": 16, "depth": 12, "mlp_ratio": 4.0, "drop_path": 0.0}
SIZES = {"ti": (192, 3), "s": (384, 6), "b": (768, 12)}


def block(size: str, **changes) -> dict:
    dim, heads = SIZES[size]
    return {**DEIT, "dim": dim, "heads": heads, **changes}


def counted(network: torch.nn.Module, size: int, backward: bool = False) -> int:
    """Multiply-adds of one image as PyTorch counts them, on tensors without content."""
    network = network.to("meta").train(backward)
    with FlopCounterMode(display=False) as counter:
        out = network(torch.empty(1, 3, size, size, device="meta"))
        if backward:
            (sum(o.sum() for o in out) if isinstance(out, tuple) else out.sum()).backward()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("size", "millions"), [("ti", 5.53), ("s", 21.67), ("b", 85.82)])
def test_parameters_of_deit(size, millions):
    """METHODS 3.2, two heads of 10 classes."""
    assert round(shapes.vit(block(size), 10, True).params / 1e6, 2) == millions


def test_vit_b_by_hand():
    """198 tokens: 196 patches of 768 numbers, 12 blocks of 12 d^2 a token and 2 N d a token for attention."""
    patches = 196 * 768 * 768
    blocks = 12 * (198 * 12 * 768**2 + 2 * 198**2 * 768)
    shape = shapes.vit(block("b"), 10, True)
    assert shape.macs == patches + blocks + 2 * 768 * 10
    assert round(shape.macs / 1e9, 3) == 17.655
    assert round(2 * shape.train_macs / 1e9, 1) == 105.7


@pytest.mark.parametrize(
    ("changes", "distilled"),
    [({}, True), ({}, False), ({"layer_scale": 1e-4, "special_positions": False}, False), ({"mlp_ratio": 3.0}, True)],
)
def test_a_vit_is_what_timm_builds(changes, distilled):
    model = block("ti", image_size=96, patch_size=12, depth=2, **changes)
    network = build_vit(ModelConfig(**model), 7, distilled)
    shape = shapes.vit(model, 7, distilled)
    assert shape.params == sum(p.numel() for p in network.parameters())
    for part in network.blocks:
        part.attn.fused_attn = False  # as two matrix products, which are counted
    assert shape.macs == counted(network, 96)
    assert shape.train_macs == counted(network, 96, backward=True)


@pytest.mark.parametrize(("depth", "size"), [(8, 8), (20, 32), (32, 32)])
def test_cifar_resnets(depth, size):
    network = ARCHITECTURES[f"resnet{depth}"](10, "linear")
    shape = shapes.cifar_resnet(depth, size, 10)
    assert shape.params == sum(p.numel() for p in network.parameters())
    assert shape.buffers == sum(b.numel() for b in network.buffers())
    assert shape.macs == counted(network, size)
    assert shape.train_macs == counted(ARCHITECTURES[f"resnet{depth}"](10, "linear"), size, backward=True)


def test_resnet_32_and_its_heads():
    """METHODS 11: 463,504 parameters and a head."""
    assert shapes.cifar_resnet(32, 32, 10).params == 463_504 + 650
    assert shapes.cifar_resnet(32, 32, 100, bias=False).params == 463_504 + 6_400


@pytest.mark.parametrize("size", [224, 97])
def test_resnet_50(size):
    network = ARCHITECTURES["resnet50"](1000, "linear")
    shape = shapes.resnet50(size, 1000)
    assert shape.params == sum(p.numel() for p in network.parameters())
    assert shape.buffers == sum(b.numel() for b in network.buffers())
    assert shape.macs == counted(network, size)


def test_regnet():
    network = PooledCnn(CnnConfig("regnety_160", 224), 10)
    shape = shapes.regnet("regnety_160", 224, 10)
    assert shape.params == sum(p.numel() for p in network.parameters())
    assert shape.buffers == sum(b.numel() for b in network.buffers())
    assert shape.macs == counted(network, 224)


def test_a_network_that_nobody_counted():
    with pytest.raises(UserError, match="arch 'regnety_16': its operations are not counted; did you mean"):
        shapes.regnet("regnety_16", 224, 10)
