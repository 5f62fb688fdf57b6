"""Checkpoints of the published sizes, for the entries of params.yaml, on the published evaluation views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision import transforms

from longtail.base import params, yaml_file
from longtail.data.long_tail import LongTail
from longtail.exchange.checkpoints import read_checkpoint
from longtail.exchange.imported import Like, import_run
from longtail.runs.workspace import Workspace
from longtail.training.experiment import load_method, resolve
from longtail.training.teacher_config import TeacherConfig
from tests.helpers.official_layouts import deit, filled, saddle
from tests.helpers.root import params_table
from tests.helpers.small import digits

PARAMS = params_table()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> LongTail:
    """Ten random test images of 32 px in coarse and fine grain, one a class."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 200, (10, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    images = (coarse + random.integers(0, 56, (10, 32, 32, 3))).astype(np.uint8)
    return replace(digits(), name="cifar10_if100", test_images=images, test_labels=np.arange(10))


def imported(like: Like, data: LongTail, held: dict, folder: Path) -> dict[str, np.ndarray]:
    """predictions.npz of the import of what torch.save writes."""
    torch.save(held, folder / "file.pth")
    workspace = Workspace(folder / "work", "import", "f" * 64, CPU, quiet=True)
    import_run(like, data, read_checkpoint(folder / "file.pth"), None, 0, workspace, CPU)
    facts = json.loads((workspace.result / "identity.json").read_text())
    assert facts["imported"] is True and facts["dataset"] == "cifar10_if100"
    assert yaml_file.read(workspace.result / "config.yaml")
    with np.load(workspace.result / "predictions.npz") as file:
        return dict(file)


def test_a_published_student_is_evaluated_at_256_and_224(data, tmp_path):
    """METHODS 3.8: resize to 256, centre crop 224, ImageNet constants; by torchvision and timm's own DeiT-Ti."""
    config, _ = resolve(PARAMS, "cifar10_if100-deit_lt-ti")
    state = filled(deit(10, 192))
    found = imported(Like("experiments.x", config), data, {"model": state, "epoch": 1150}, tmp_path)
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=10).eval()
    model.load_state_dict(state)

    def logits(resize_to: int) -> dict[str, np.ndarray]:
        bicubic = transforms.Resize(resize_to, transforms.InterpolationMode.BICUBIC)
        last = transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        view = transforms.Compose([bicubic, transforms.CenterCrop(224), *last])
        with torch.no_grad():
            tokens = model.forward_features(torch.stack([view(Image.fromarray(image)) for image in data.test_images]))
            return {"cls": model.head(tokens[:, 0]).numpy(), "dist": model.head_dist(tokens[:, 1]).numpy()}

    whole = logits(224)
    for head, z in logits(256).items():
        for phase in ("last", "best"):
            np.testing.assert_allclose(found[f"logits_{phase}_{head}"], z, atol=2e-5)
        assert abs(whole[head] - z).max() > 1e-3  # a view that keeps the border gives others (trap 2)
    assert found["best_epoch"] == found["last_epoch"] == 1150


def test_cosines_of_a_student_keep_their_scale(data, tmp_path):
    """ViT with LDAM, in small: METHODS trap 24."""
    config, _ = resolve(PARAMS, "cifar10_if100-vit-b")
    config = replace(config, method="vit_ldam", loss=load_method("vit_ldam").Config(max_margin=0.5, scale=30.0))
    model = replace(config.model, image_size=32, dim=16, depth=1, heads=2)
    config = replace(config, model=model, train=replace(config.train, eval_resize=36))
    state = filled(deit(10, 16, distilled=False, depth=1, patches=4))
    del state["head.bias"]
    state["head.weight"] = state["head.weight"].T.contiguous()
    found = imported(Like("experiments.x", config), data, {"model": state}, tmp_path)
    assert found["logit_scale"] == 30.0 and abs(found["logits_last_cls"]).max() <= 1 + 1e-6
    assert "logits_last_dist" not in found and found["last_epoch"] == -1


def test_a_published_teacher_is_evaluated_on_plain_images(data, tmp_path):
    """METHODS 2.3: 32 px, CIFAR constants, no resize. The network is written out here, in functions."""
    config = params.build(TeacherConfig, PARAMS["teachers"]["ldam_drw_sam-cifar10_if100"], "teachers")
    state = filled(saddle(10, True))
    held = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 187}
    found = imported(Like("teachers.x", config), data, held, tmp_path)

    def norm(x, name):
        mean, variance, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, variance, weight, bias)

    x = torch.from_numpy(data.test_images).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]) / torch.tensor([0.2023, 0.1994, 0.2010])[
        :, None, None
    ]
    x = F.relu(norm(F.conv2d(x, state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(5):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            out = norm(F.conv2d(out, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            short = x[:, :, ::2, ::2] if stride == 2 else x
            zeros = torch.zeros_like(short[:, : short.shape[1] // 2])
            x = F.relu(out + (torch.cat([zeros, short, zeros], 1) if stride == 2 else short))
    h, w = x.mean((2, 3)), state["linear.weight"]
    cosines = (h @ w) / h.norm(dim=1, keepdim=True) / w.norm(dim=0)
    np.testing.assert_allclose(found["logits_best_cls"], cosines.numpy(), atol=1e-5)
    assert found["logit_scale"] == 30.0 and found["best_epoch"] == 186
