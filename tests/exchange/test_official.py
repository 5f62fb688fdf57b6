"""Official state_dicts under our names and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from longtail.base.errors import UserError
from longtail.exchange.official import fit, in_container, recognise, reorder_classes, to_official
from longtail.models.build import ARCHITECTURES
from longtail.models.resnet import cifar_resnet
from longtail.models.vit import ModelConfig, build_vit, head_logits, special_tokens
from tests.helpers.official_layouts import deit, filled, on_meta, paco, parameters, saddle

SIZES = {"ti": (192, 3, 5.53), "s": (384, 6, 21.67), "b": (768, 12, 85.82)}


def vit_shape(dim: int, heads: int, **changes) -> ModelConfig:
    shape = {"image_size": 224, "patch_size": 16, "depth": 12, "mlp_ratio": 4.0, "drop_path": 0.1}
    return ModelConfig(**shape | {"dim": dim, "heads": heads} | changes)


# --- the layouts as published


@pytest.mark.parametrize(("classes", "normed", "head"), [(10, True, 640), (100, True, 6400), (10, False, 650)])
def test_saddle_layout_is_our_cifar_resnet(classes, normed, head):
    shapes = saddle(classes, normed)
    assert parameters(shapes) == 463_504 + head  # METHODS 11
    found = recognise(filled(shapes), "file")
    name = "NormedLinear" if normed else "Linear"
    assert (found.kind, found.what) == ("teacher", f"CIFAR ResNet-32, {name} head, {classes} classes")
    model = cifar_resnet(32, classes, "normed" if normed else "linear")
    fit(found, model, "file")
    assert torch.equal(model.fc.weight, filled(shapes)["linear.weight"])
    assert parameters({k: tuple(v.shape) for k, v in model.state_dict().items()}) == 463_504 + head


@pytest.mark.parametrize("mlp", [True, False])
def test_paco_keeps_the_query_encoder_and_the_classifier(mlp):
    state = filled(paco(100, mlp=mlp))
    found = recognise(state, "file")
    assert found.what == "CIFAR ResNet-32, Linear head, 100 classes, from PaCo's query encoder"
    model = cifar_resnet(32, 100, "linear").eval()
    fit(found, model, "file")
    assert len(found.state) == len(model.state_dict())
    for name in ("conv1.weight", "layer3.4.bn2.running_mean"):
        assert torch.equal(model.state_dict()[name], state[f"encoder_q.{name}"])
        assert not torch.equal(model.state_dict()[name], state[f"encoder_k.{name}"])
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    by_hand = F.linear(model.features(x), state["linear.weight"], state["linear.bias"])
    assert torch.equal(model(x), by_hand)  # W h, no prior and no projection (METHODS 2.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("distilled", [True, False])
def test_deit_layouts_are_our_students(size, distilled):
    dim, heads, millions = SIZES[size]
    shapes = deit(10, dim, distilled)
    if distilled:
        assert round(parameters(shapes) / 1e6, 2) == millions and shapes["pos_embed"] == (1, 198, dim)
    with torch.device("meta"):
        model = build_vit(vit_shape(dim, heads), 10, distilled)
    found = recognise(on_meta(shapes), "file")
    assert (found.kind, found.state.keys()) == ("student", model.state_dict().keys())
    assert {k: v.shape for k, v in found.state.items()} == {k: v.shape for k, v in model.state_dict().items()}
    tokens = "CLS and DIST" if distilled else "CLS"
    assert found.what == f"ViT, width {dim}, depth 12, {tokens}, 10 classes"


def test_dist_is_the_second_token_and_has_its_own_head():
    """Trap 52: row 1 of the positional table belongs to DIST; `head` reads CLS, `head_dist` DIST."""
    shapes = deit(10, 16, depth=2, patches=4, patch=4)
    state = filled(shapes) | {"head.weight": torch.zeros(10, 16), "head_dist.weight": torch.zeros(10, 16)}
    state |= {"head.bias": torch.arange(10.0), "head_dist.bias": -torch.arange(10.0)}
    model = build_vit(vit_shape(16, 2, image_size=8, patch_size=4, depth=2), 10, True).eval()
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    fit(recognise(state, "file"), model, "file")
    logits = head_logits(model, special_tokens(model, x))
    assert torch.equal(logits["cls"][0], torch.arange(10.0)) and torch.equal(logits["dist"][0], -torch.arange(10.0))
    before = {}
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: before.update(x=inputs[0]))
    special_tokens(model, x)
    for row, token in enumerate(("cls_token", "dist_token")):
        assert torch.equal(before["x"][0, row], state[token][0, 0] + state["pos_embed"][0, row])


@pytest.mark.parametrize("normed", [True, False])
def test_resnet_50_fits_a_resnet_50_and_is_refused_where_the_entry_builds_a_cifar_resnet(normed):
    from torchvision.models import resnet50

    with torch.device("meta"):
        state = resnet50(num_classes=1000).state_dict()
    if normed:
        state["fc.weight"] = state["fc.weight"].T
        del state["fc.bias"]
    head = "normed" if normed else "linear"
    for names in (state, {f"encoder_q.{k}": v for k, v in state.items() if k[:3] != "fc."}):
        moco = names is not state
        if moco:
            with torch.device("meta"):
                classifier = torch.nn.Linear(2048, 1000).state_dict()
            names |= {"encoder_q.fc.0.weight": torch.empty(2048, 2048)}
            names |= {f"linear.{name}": value for name, value in classifier.items()}
        found = recognise(names, "file")
        assert found.what.startswith(
            f"ResNet-50 (torchvision's names), {'NormedLinear' if normed and not moco else 'Linear'} head, 1000 classes"
        )
        assert set(found.state) - {"fc.bias"} == set(state) - {"fc.bias"}
        with torch.device("meta"):
            fit(found, ARCHITECTURES["resnet50"](1000, "linear" if moco else head), "file")
    assert to_official("teacher", state) == state  # head `fc` there too
    with pytest.raises(
        UserError, match=r"file: ResNet-50 .* does not fit; missing: .*unexpected: layer1.0.conv3.weight"
    ):
        fit(recognise(state, "file"), cifar_resnet(32, 1000, "linear"), "file")


def test_a_normed_head_of_a_student_is_transposed():
    """ViT with LDAM: [in, C] without bias."""
    state = filled(deit(10, 16, distilled=False, depth=2))
    del state["head.bias"]
    state["head.weight"] = state["head.weight"].T.contiguous()
    assert recognise(state, "file").what == "ViT, width 16, depth 2, CLS, 10 classes"
    assert torch.equal(reorder_classes(state, np.arange(10)[::-1].copy())["head.weight"], state["head.weight"].flip(1))


# --- what does not fit


def test_the_first_names_that_do_not_fit_are_told():
    state = filled(saddle(10, True))
    found = recognise(state, "file")
    with pytest.raises(
        UserError, match=r"file: .*NormedLinear head.*missing: fc.bias; of another shape: fc.weight \[64, 10\]"
    ):
        fit(found, cifar_resnet(32, 10, "linear"), "file")
    with pytest.raises(
        UserError, match=r"unexpected: fc.bias; of another shape: fc.weight \[10, 64\], needed \[64, 10\]"
    ):
        fit(recognise(filled(saddle(10, False)), "file"), cifar_resnet(32, 10, "normed"), "file")
    with pytest.raises(UserError, match=r"fc.weight \[64, 10\], needed \[64, 100\]$"):
        fit(found, cifar_resnet(32, 100, "normed"), "file")
    with pytest.raises(UserError, match=r"ResNet-32.*unexpected: layer1.1.conv1.weight, .* and 141 more"):
        fit(found, cifar_resnet(8, 10, "normed"), "file")
    del state["layer2.0.bn1.running_var"]
    with pytest.raises(UserError, match=r"does not fit; missing: layer2.0.bn1.running_var$"):
        fit(recognise(state, "file"), cifar_resnet(32, 10, "normed"), "file")


def test_a_student_of_another_grid_is_refused():
    """No positional table is resized in silence."""
    model = build_vit(vit_shape(16, 2, image_size=12, patch_size=4, depth=2), 10, True)
    state = filled(deit(10, 16, depth=2, patches=4, patch=4))
    with pytest.raises(UserError, match=r"of another shape: pos_embed \[1, 6, 16\], needed \[1, 11, 16\]$"):
        fit(recognise(state, "file"), model, "file")


@pytest.mark.parametrize("names", [("features.0.weight", "classifier.bias"), ("conv1.weight",)])
def test_unknown_layouts_are_refused(names):
    with pytest.raises(UserError, match=f"file: no layout known here, its first names are {names[0]}"):
        recognise({name: torch.zeros(1) for name in names}, "file")


# --- back, and other orders of classes


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("teacher", saddle(10, True)),
        ("teacher", saddle(100, False)),
        ("student", deit(10, 192)),
        ("student", deit(100, 192, distilled=False)),
    ],
)
def test_round_trip_is_bit_equal(kind, shapes):
    official = filled(shapes)
    ours = recognise(official, "file").state
    back = to_official(kind, ours)
    assert back.keys() == official.keys() and all(torch.equal(back[name], official[name]) for name in official)
    again = recognise(back, "file").state
    assert again.keys() == ours.keys() and all(torch.equal(again[name], ours[name]) for name in ours)
    ((key, held),) = in_container(kind, back).items()
    assert (key, next(iter(held))) == {
        "teacher": ("state_dict", "module.conv1.weight"),
        "student": ("model", "cls_token"),
    }[kind]


@pytest.mark.parametrize("layout", [saddle(10, True), saddle(10, False)])
def test_reordering_classes_reorders_the_outputs(layout):
    """Both orientations of a head; also where there are as many classes as features (C = in)."""
    for classes in (10, 64):
        shapes = {k: tuple(classes if n == 10 else n for n in s) for k, s in layout.items()}
        state = recognise(filled(shapes), "file").state
        order = np.random.default_rng(0).permutation(classes)
        model = cifar_resnet(32, classes, "linear" if "fc.bias" in state else "normed").eval()
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        model.load_state_dict(state)
        before = model(x)
        model.load_state_dict(reorder_classes(state, order))
        torch.testing.assert_close(model(x), before[:, order])


def test_reordering_reaches_both_heads_of_a_student():
    state, order = filled(deit(10, 16, depth=1)), np.arange(10)[::-1].copy()
    moved = reorder_classes(state, order)
    for name in ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias"):
        assert torch.equal(moved[name], state[name].flip(0))
    assert all(moved[name] is state[name] for name in state if "head" not in name)


def test_counts_of_batches_may_be_missing():
    """Files older than PyTorch 0.4.1 have none; in evaluation BatchNorm does not look at them."""
    whole = filled(saddle(10, True))
    without = {name: value for name, value in whole.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(whole)
    images, outputs = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), []
    for state in (whole, without):
        model = cifar_resnet(32, 10, "normed").eval()
        fit(recognise(state, "file"), model, "file")
        outputs.append(model(images))
    assert torch.equal(*outputs) and model.state_dict()["bn1.num_batches_tracked"] == 0
    with pytest.raises(UserError, match=r"missing: bn1\.running_mean"):
        fit(recognise({k: v for k, v in without.items() if k != "bn1.running_mean"}, "file"), model, "file")
