"""ResNet-50 as torchvision has it, with either head (METHODS 2.1)."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torchvision.models import resnet50 as torchvisions

from longtail.models.build import ARCHITECTURES


@pytest.mark.parametrize(("classes", "parameters"), [(1000, 25_557_032), (8142, 23_508_032 + 8142 * 2049)])
def test_size(classes, parameters):
    """25.56 million with 1000 classes; a cosine head has no bias (trap 25)."""
    with torch.device("meta"):
        linear, normed = (ARCHITECTURES["resnet50"](classes, head) for head in ("linear", "normed"))
    assert sum(p.numel() for p in linear.parameters()) == parameters
    assert sum(p.numel() for p in normed.parameters()) == parameters - classes
    assert normed.fc.weight.shape == (2048, classes) and not hasattr(normed.fc, "bias")


def test_equals_torchvision_at_64_pixels():
    """Weights, names and outputs; the stride of a bottleneck is on its 3x3."""
    ours = ARCHITECTURES["resnet50"](7, "linear").eval()
    theirs = torchvisions(num_classes=7).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
        assert ours.features(x).shape == (2, 2048)
    first = ours.layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2))


def test_a_cosine_head_starts_at_unit_columns_and_gives_cosines():
    model = ARCHITECTURES["resnet50"](7, "normed").eval()
    torch.testing.assert_close(model.fc.weight.norm(dim=0), torch.ones(7))
    with torch.no_grad():
        assert model(torch.randn(2, 3, 32, 32)).abs().max() <= 1


def test_cifar_teachers_do_not_pay_for_torchvision():
    code = "import sys, longtail.training.teacher_training as t; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
