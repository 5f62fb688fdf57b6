"""Networks of several experts and their router (RIDE): shapes, sizes and what is shared."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from longtail.models import shapes
from longtail.models.build import CnnParts, build_cnn
from longtail.models.combined import width_of
from longtail.models.experts import Counted, RouterSizes, chosen, running_means

X = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SIZES = RouterSizes(3, 16)


def made(arch: str = "resnet8", head="normed", **parts):
    torch.manual_seed(0)
    return build_cnn(CnnParts(arch, head, experts=4, **parts), 6).eval()


def cifar(experts: int, classes: int) -> int:
    """Weights of a ResNet-32: stages of five blocks, a convolution 3x3 and a norm twice in each."""

    def stage(before: int, planes: int) -> int:
        return 9 * before * planes + 9 * 9 * planes**2 + 10 * 2 * planes

    return 27 * 16 + 32 + stage(16, 16) + experts * (stage(16, 24) + stage(24, 48) + 48 * classes)


def large(experts: int, classes: int, groups: int, base: int) -> int:
    """Weights of a ResNet-50 or ResNeXt-50, 3, 4, 6, 3 bottlenecks."""

    def stage(before: int, planes: int, blocks: int) -> int:
        width, found = planes * base // 64 * groups, before * 4 * planes + 8 * planes
        for _ in range(blocks):
            found += before * width + 9 * width**2 // groups + width * 4 * planes + 2 * (2 * width + 4 * planes)
            before = 4 * planes
        return found

    shared = 3 * 64 * 49 + 128 + stage(64, 64, 3) + stage(256, 128, 4)
    return shared + experts * (stage(512, 192, 6) + stage(768, 384, 3) + 1536 * classes)


@pytest.mark.parametrize(
    ("arch", "experts", "classes", "size", "expected"),
    [
        ("resnet32", 6, 100, 32, cifar(6, 100)),
        ("resnet32", 4, 100, 32, cifar(4, 100)),
        ("resnext50", 6, 1000, 224, large(6, 1000, 32, 4)),
        ("resnext50", 4, 1000, 224, large(4, 1000, 32, 4)),
        ("resnet50", 6, 8142, 224, large(6, 8142, 1, 64)),
        ("resnet50", 4, 8142, 224, large(4, 8142, 1, 64)),
    ],
)
def test_the_published_networks_have_the_weights_of_their_layers(arch, experts, classes, size, expected):
    shape = shapes.teacher(CnnParts(arch, "normed", experts=experts), classes, size)
    assert shape.params == expected and shape.name.startswith(f"{experts}-expert ResNe")
    router = RouterSizes(30, 16)  # a hidden layer of each expert but the last, one question of all
    width = 48 if arch == "resnet32" else 1536
    routed = shapes.teacher(CnnParts(arch, "normed", experts=experts, router=router, scale=30.0), classes, size)
    assert routed.params - expected == (experts - 1) * (16 * width + 16) + 30 + 16 + 1


@pytest.mark.parametrize(("arch", "width"), [("resnet8", 48), ("resnet50", 1536)])
def test_the_answer_is_the_mean_of_the_experts_behind_one_stem(arch, width):
    network = made(arch)
    x = X if arch == "resnet8" else torch.randn(2, 3, 32, 32)
    assert width_of(network) == 4 * width and [name for name, _ in network.named_children()][-2:] == ["avgpool", "fc"]
    features = network.features(x)
    each = network.fc.each(features)
    assert features.shape == (len(x), 4 * width) and each.shape == (len(x), 4, 6) and each.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(network(x), each.mean(1))
    assert all(not torch.equal(each[:, 0], each[:, k]) for k in (1, 2, 3))
    part = F.normalize(features[:, width : 2 * width], dim=1) @ F.normalize(network.fc.heads[1].weight, dim=0)
    torch.testing.assert_close(each[:, 1], part)
    network.experts[2].apply(lambda module: [p.data.zero_() for p in module.parameters(recurse=False)])
    moved = network.features(x)
    same = [torch.equal(*(of[:, k * width : (k + 1) * width] for of in (moved, features))) for k in range(4)]
    assert same == [True, True, False, True]
    assert Counted(network)(x)[:, -1].tolist() == [4.0] * len(x)


def test_the_router_sees_the_mean_so_far_and_the_last_feature_at_unit_length():
    network = made(router=SIZES, scale=30.0)
    fc, features = network.fc, network.features(X)
    each = fc.each(features)
    asked = fc.asked(features, each)
    assert asked.shape == (5, 3)
    top = (30 * each[:, :2].mean(1)).sort(1, descending=True).values[:, :3]  # after the second
    hidden = (fc.hidden[1].weight @ F.normalize(features[:, 48:96], dim=1).T + fc.hidden[1].bias[:, None]).T.clamp(
        min=0
    )
    expected = torch.cat([top, hidden], 1) @ fc.ask.weight[0] + fc.ask.bias
    torch.testing.assert_close(asked[:, 1], expected, rtol=1e-5, atol=1e-5)
    assert set(fc.router()) == {f"hidden.{k}.{of}" for k in range(3) for of in ("weight", "bias")} | {
        "ask.weight",
        "ask.bias",
    }


def test_an_image_is_answered_by_the_experts_up_to_the_first_that_asks_for_no_other(monkeypatch):
    network = made(router=SIZES, scale=30.0)
    said = 0.01 * torch.tensor([[-1.0, 1, 1], [1, -1, 1], [1, 1, -1], [1, 1, 1], [-1, -1, -1]])
    monkeypatch.setattr(network.fc, "asked", lambda x, each: said)
    each = network.fc.each(network.features(X))
    expected = torch.stack([each[image, :used].mean(0) for image, used in enumerate([1, 2, 3, 4, 1])])
    torch.testing.assert_close(network(X), expected)
    told = Counted(network)(X)
    assert told[:, -1].tolist() == [1, 2, 3, 4, 1] and torch.equal(told[:, :-1], network(X))
    torch.testing.assert_close(chosen(running_means(each), torch.full((5,), 4)), each.mean(1))


def test_linear_heads_start_as_the_plain_networks_do():
    """CIFAR's by Kaiming, whose weights are not bounded by one over the root of the width; the others' as PyTorch's."""
    small, plain = made(head="linear").fc.heads[0], made("resnet50", "linear").fc.heads[0]
    assert small.weight.std().item() == pytest.approx((2 / 48) ** 0.5, rel=0.15)
    assert plain.weight.abs().max().item() <= 1536**-0.5
