import pytest
import torch

from longtail.models.build import ARCHITECTURES


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("head", ["linear", "normed"])
def test_the_last_two_children_are_the_pooled_features_and_their_classifier(name, head):
    """What teachers, PaCo and analyses rely on."""
    model = ARCHITECTURES[name](5, head).eval()
    assert [child for child, _ in model.named_children()][-2:] == ["avgpool", "fc"]
    side = 64 if model.fc.weight.numel() == 5 * 2048 else 8  # of ImageNet's, and of CIFAR's
    x = torch.randn(2, 3, side, side)
    features = model.features(x)
    assert features.shape == (2, model.fc.weight.numel() // 5)
    torch.testing.assert_close(model.fc(features), model(x))


def test_names_are_depths_but_those_of_imagenet():
    """50, 101 and 152 are ImageNet's; 50 and 152 are 6n + 2 too, but a CIFAR ResNet of that name would surprise."""
    assert {"resnet8", "resnet20", "resnet32", "resnet110"} <= set(ARCHITECTURES)
    assert not {"resnet18", "resnet34"} & set(ARCHITECTURES)
    with torch.device("meta"):
        assert {ARCHITECTURES[f"resnet{n}"](5, "linear").fc.in_features for n in (50, 101, 152)} == {2048}
    for name, make in ARCHITECTURES.items():
        with torch.device("meta"):
            modules = make(5, "linear").named_modules()
        convolutions = sum(isinstance(m, torch.nn.Conv2d) and "downsample" not in where for where, m in modules)
        assert convolutions + 1 == int(name.removeprefix("resnet").removeprefix("resnext"))
