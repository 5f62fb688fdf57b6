"""CBD's parts of networks: projection, ensemble, class means, Keras' first weights (METHODS 7.1, 7.2)."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from longtail.models import shapes
from longtail.models.build import CnnParts, build_cnn
from longtail.models.combined import class_means, width_of
from longtail.models.resnet import NormedLinear

X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def made(seed: int = 0, **parts):
    torch.manual_seed(seed)
    return build_cnn(CnnParts("resnet8", "normed", **parts), 5).eval()


def test_a_projection_is_a_linear_layer_and_relu_that_the_classifier_reads():
    """Of K teachers of 64 channels: width K·64; the last two children are the feature and the classifier."""
    network = made(projection=256)
    pooled = network.avgpool[:2](network.layer3(network.layer2(network.layer1(F.relu(network.bn1(network.conv1(X)))))))
    linear = network.avgpool[2]
    assert linear.weight.shape == (256, 64) and width_of(network) == 256 and network.fc.weight.shape == (256, 5)
    expected = (pooled.double() @ linear.weight.double().T + linear.bias.double()).clamp(min=0)
    found = network.features(X)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert (found == 0).any() and (found > 0).any()
    torch.testing.assert_close(network(X), network.fc(found))
    assert [name for name, _ in network.named_children()][-2:] == ["avgpool", "fc"]


def test_an_ensemble_is_the_mean_of_its_members_logits():
    network = made(members=3)
    each = [member(X).double() for member in network.members]
    assert not torch.equal(each[0], each[1])
    torch.testing.assert_close(network(X).double(), sum(each) / 3, rtol=1e-5, atol=1e-7)
    joined = network.features(X)
    assert joined.shape == (3, 192) and width_of(network) == 192
    torch.testing.assert_close(joined.norm(dim=1), torch.full((3,), math.sqrt(3)))


def test_class_means_by_hand():
    """Class 0 features (1, 0) and (.8, .6); class 1 (0, 5); the query (.6, .8) is nearer to class 0 by .022."""
    features = torch.tensor([[1.0, 0.0], [0.0, 5.0], [0.8, 0.6]], dtype=torch.float64)
    means = class_means(features, torch.tensor([0, 1, 0]), 3)
    assert means[0].tolist() == pytest.approx([0.948683298, 0.316227766], abs=1e-9)
    assert means[1].tolist() == [0, 1] and means[2].tolist() == [0, 0]
    scaled = class_means(features * torch.tensor([[7.0], [1.0], [0.1]]), torch.tensor([0, 1, 0]), 3)
    torch.testing.assert_close(scaled, means)  # lengths do not count
    head = NormedLinear(2, 3)
    with torch.no_grad():
        head.weight.copy_(means.T)
    answer = head(torch.tensor([[0.6, 0.8]]))[0].tolist()
    assert answer == pytest.approx([0.822192179, 0.8, 0.0], abs=1e-6)


def test_first_weights_of_keras():
    """Uniform up to sqrt(6 / (fan in + fan out)), of the cosine classifier too; no bias; blocks begin as shortcuts."""
    network = made(projection=128, glorot=True, zero_gamma=True)
    for weight, fans in (
        (network.layer2[0].conv1.weight, 9 * (16 + 32)),
        (network.avgpool[2].weight, 64 + 128),
        (network.fc.weight, 128 + 5),
    ):
        bound = math.sqrt(6 / fans)
        assert weight.abs().max() <= bound and weight.abs().max() > 0.95 * bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.06)
    assert not network.avgpool[2].bias.any()
    assert all(not block.bn2.weight.any() and block.bn1.weight.all() for block in network.layer1)
    x = torch.rand(2, 16, 8, 8)
    torch.testing.assert_close(network.layer1[0](x), x)


@pytest.mark.parametrize(("name", "millions"), [("resnet101", 44_549_160), ("resnet152", 60_192_808)])
def test_the_deeper_networks_have_torchvisions_size(name, millions):
    assert shapes.teacher(CnnParts(name), 1000, 64).params == millions


def test_what_projections_and_ensembles_cost_is_counted():
    plain, projected = (
        shapes.teacher(CnnParts("resnet50"), 1000, 64),
        shapes.teacher(CnnParts("resnet50", "normed", projection=8192), 1000, 64),
    )
    assert plain.params == 25_557_032
    assert projected.params == 23_508_032 + 2048 * 8192 + 8192 + 8192 * 1000
    assert projected.macs - plain.macs == 2048 * 8192 + (8192 - 2048) * 1000
    four = shapes.teacher(CnnParts("resnet50", members=4), 1000, 64)
    assert (four.macs, four.params) == (4 * plain.macs, 4 * plain.params)
