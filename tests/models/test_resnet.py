import math

import pytest
import torch

from longtail.models.resnet import NormedLinear, cifar_resnet, shortcut_a


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("head", "classes", "extra"),
    [("linear", 10, 650), ("linear", 100, 6500), ("normed", 10, 640), ("normed", 100, 6400)],
)
def test_parameter_counts_of_resnet32(head, classes, extra):
    model = cifar_resnet(32, classes, head)
    assert parameters(model.fc) == extra
    assert parameters(model) == 463_504 + extra


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("depth", [8, 20])
def test_input_sizes_and_depths(depth, size):
    model = cifar_resnet(depth, 7).eval()
    x = torch.randn(2, 3, size, size)
    assert model(x).shape == (2, 7)
    assert model.features(x).shape == (2, 64)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == depth - 1


def test_the_last_but_one_child_gives_the_pooled_features():
    model = cifar_resnet(8, 4).eval()
    seen = []
    list(model.children())[-2].register_forward_hook(lambda module, inputs, out: seen.append(out))
    x = torch.randn(3, 3, 32, 32)
    logits = model(x)
    torch.testing.assert_close(model.fc(seen[0]), logits)
    torch.testing.assert_close(seen[0], model.features(x))


def test_strides_halve_the_map_at_stages_two_and_three():
    model = cifar_resnet(8, 4).eval()
    sizes = []
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    model(torch.randn(1, 3, 32, 32))
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize("size", [8, 7])
def test_option_a_shortcut_against_a_loop(size):
    x = torch.randn(2, 16, size, size)
    half = -(-size // 2)
    expected = torch.zeros(2, 32, half, half)
    for image in range(2):
        for channel in range(16):
            for row in range(half):
                for column in range(half):
                    expected[image, 8 + channel, row, column] = x[image, channel, 2 * row, 2 * column]
    assert torch.equal(shortcut_a(x, 2, 32), expected)


def test_block_is_two_convolutions_plus_the_shortcut():
    block = cifar_resnet(8, 4).layer2[0].eval()
    torch.nn.init.uniform_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8)
    inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    assert torch.equal(block(x), torch.relu(inner + shortcut_a(x, 2, 32)))


def test_kaiming_fan_in_on_convolutions_and_linear():
    model = cifar_resnet(32, 100)
    conv = model.layer3[3].conv1.weight  # 64 x 64 x 3 x 3: fan-in 576, fan-out the same
    assert conv.std().item() == pytest.approx(math.sqrt(2 / 576), rel=0.02)
    assert model.layer3[0].conv1.weight.std().item() == pytest.approx(math.sqrt(2 / 288), rel=0.03)  # not fan-out
    assert model.fc.weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.05)
    assert model.fc.bias.abs().max() <= 1 / 8  # PyTorch's default: uniform(-1/sqrt(64), 1/sqrt(64))
    assert torch.equal(model.bn1.weight, torch.ones(16))


def test_normed_linear_starts_with_unit_columns_of_a_uniform_cube_and_has_no_bias():
    fc = cifar_resnet(8, 100, "normed").fc
    assert isinstance(fc, NormedLinear)
    assert [name for name, _ in fc.named_parameters()] == ["weight"]
    assert fc.weight.shape == (64, 100)
    torch.testing.assert_close(fc.weight.norm(dim=0), torch.ones(100))
    # uniform(-1, 1) over sqrt(sum of 64 squares) is bounded; a normal or kaiming init would reach further
    assert fc.weight.abs().max() < 1 / math.sqrt(64 / 3 * 0.6)


def test_normed_linear_gives_cosines_whatever_the_lengths():
    fc = NormedLinear(5, 3)
    with torch.no_grad():
        fc.weight.mul_(torch.tensor([0.1, 7.0, 3.0]))
    x = 40 * torch.randn(4, 5)
    out = fc(x)
    for i in range(4):
        for c in range(3):
            a, b = x[i].double(), fc.weight[:, c].double()
            assert out[i, c].item() == pytest.approx((a @ b / (a.norm() * b.norm())).item(), abs=1e-6)
    assert out.abs().max() <= 1 + 1e-6


def test_normed_linear_stays_float32_under_autocast():
    fc, x = NormedLinear(64, 10), torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        out = fc(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, fc(x))


@pytest.mark.parametrize("depth", [9, 31, 2, 0])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match="6n\\+2"):
        cifar_resnet(depth, 10)
