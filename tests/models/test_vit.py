from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from longtail.base import params
from longtail.base.errors import UserError
from longtail.models import transformer
from longtail.models.vit import (
    ModelConfig,
    build_vit,
    cls_dist_distance,
    head_logits,
    parameter_groups,
    special_tokens,
)

SIZES = {"ti": (192, 3), "s": (384, 6), "b": (768, 12)}


def published(size: str) -> ModelConfig:
    dim, heads = SIZES[size]
    return ModelConfig(image_size=224, patch_size=16, dim=dim, depth=12, heads=heads, mlp_ratio=4.0, drop_path=0.1)


def small(**changes) -> ModelConfig:
    shape = {"image_size": 12, "patch_size": 4, "dim": 16, "depth": 3, "heads": 2, "mlp_ratio": 4.0, "drop_path": 0.0}
    return ModelConfig(**shape | changes)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def by_hand(dim: int, tokens: int, special: int, heads: int, classes: int) -> int:
    """Patch embedding, special tokens, positions, twelve blocks (12 d^2 + 13 d), final norm, heads."""
    blocks = 12 * (12 * dim * dim + 13 * dim)
    return (768 + 1) * dim + special * dim + tokens * dim + blocks + 2 * dim + heads * (dim + 1) * classes


@pytest.mark.parametrize(("size", "c10", "c100"), [("ti", 5.53, 5.56), ("s", 21.67, 21.74), ("b", 85.82, 85.95)])
def test_deit_lt_has_the_published_number_of_parameters(size, c10, c100):
    for classes, millions in ((10, c10), (100, c100)):
        with torch.device("meta"):
            model = build_vit(published(size), classes, distilled=True)
        assert round(count(model) / 1e6, 2) == millions
        assert count(model) == by_hand(SIZES[size][0], 198, 2, 2, classes)
        assert model.pos_embed.shape == (1, 198, SIZES[size][0])


def test_plain_vit_has_one_token_and_one_head_less():
    with torch.device("meta"):
        plain, distilled = (build_vit(published("b"), 1000, flag) for flag in (False, True))
    assert count(plain) == by_hand(768, 197, 1, 1, 1000) and plain.pos_embed.shape[1] == 197
    assert round(count(distilled) / 1e6, 2) == 87.34
    assert not any("dist" in name for name, _ in plain.named_parameters())


@pytest.mark.parametrize("size", SIZES)
def test_drop_path_rises_linearly_to_a_tenth_at_every_size(size):
    """METHODS trap 41; per sample and rescaled."""
    with torch.device("meta"):
        model = build_vit(published(size), 10, distilled=True)
    for i, block in enumerate(model.blocks):
        for drop in (block.drop_path1, block.drop_path2):
            assert getattr(drop, "drop_prob", 0.0) == pytest.approx(0.1 * i / 11, abs=1e-7)


def test_blocks_are_those_of_the_published_model():
    with torch.device("meta"):
        model = build_vit(published("s"), 10, distilled=True)
    assert isinstance(model.patch_embed.proj, nn.Conv2d)
    assert model.patch_embed.proj.kernel_size == model.patch_embed.proj.stride == (16, 16)
    for block in model.blocks:
        assert block.attn.num_heads == 6 and block.attn.qkv.bias is not None
        assert isinstance(block.ls1, nn.Identity) and isinstance(block.ls2, nn.Identity)
        assert block.mlp.fc1.out_features == 4 * 384
    modules = list(model.modules())
    assert {m.eps for m in modules if isinstance(m, nn.LayerNorm)} == {1e-6}
    assert {m.p for m in modules if isinstance(m, nn.Dropout)} <= {0.0}


def deit_iii(size: str) -> ModelConfig:
    """METHODS 3.10 and trap 41."""
    rate = {"s": 0.05, "b": 0.2}[size]
    changes = {"drop_path": rate, "drop_path_mode": "constant", "layer_scale": 1e-4, "special_positions": False}
    return replace(published(size), **changes)


@pytest.mark.parametrize(("size", "name"), [("b", "deit3_base_patch16_224"), ("s", "deit3_small_patch16_224")])
def test_deit_iii_has_the_parameters_of_timm_s(size, name):
    with torch.device("meta"):
        ours, theirs = build_vit(deit_iii(size), 10, False), timm.create_model(name, num_classes=10)
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    dim = SIZES[size][0]
    assert count(ours) == by_hand(dim, 196, 1, 1, 10) + 12 * 2 * dim  # two vectors of LayerScale a block
    assert ours.pos_embed.shape == (1, 196, dim)


def test_deit_iii_computes_what_timm_s_does():
    ours = build_vit(replace(deit_iii("s"), depth=2, image_size=32), 10, False).eval()
    theirs = timm.create_model("deit3_small_patch16_224", num_classes=10, depth=2, img_size=32).eval()
    state = {name: value + torch.randn_like(value) / 10 for name, value in ours.state_dict().items()}
    for model in (ours, theirs):
        model.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(head_logits(ours, special_tokens(ours, x))["cls"], theirs(x), atol=1e-6)


@pytest.mark.parametrize(("size", "rate"), [("s", 0.05), ("b", 0.2)])
def test_deit_iii_drops_paths_at_one_rate_and_starts_branches_small(size, rate):
    model = build_vit(replace(deit_iii(size), image_size=32), 10, False)
    for block in model.blocks:
        for drop, scale in ((block.drop_path1, block.ls1), (block.drop_path2, block.ls2)):
            assert drop.drop_prob == rate
            assert torch.equal(scale.gamma, torch.full((SIZES[size][0],), 1e-4))
    spared = {id(p) for p in parameter_groups(model, 0.05)[1]["params"]}
    assert all(id(p) in spared for n, p in model.named_parameters() if n.endswith("gamma") or n == "pos_embed")


def test_a_dropped_branch_is_left_out_and_a_kept_one_rescaled():
    """Half of the branches at rate .5, each image by itself; kept ones twice as large, so that the mean stays."""
    torch.manual_seed(0)
    model = build_vit(small(depth=1, drop_path=0.5, drop_path_mode="constant"), 5, False)
    block = model.blocks[0]
    x = torch.randn(1, 10, 16).expand(400, -1, -1)
    branches = transformer.branches(model)
    transformer.use(branches, torch.from_numpy(transformer.draw(branches, 0, 0, np.arange(400))))
    with torch.no_grad():
        branch = block.train().drop_path1(x)
    kept = branch.flatten(1).abs().sum(1) > 0
    assert 150 < kept.sum() < 250 and torch.allclose(branch[kept], 2 * x[kept])
    assert torch.equal(block.eval().drop_path1(x), x)


def test_positions_of_patches_alone():
    model = build_vit(small(special_positions=False), 5, False).eval()
    x = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        special_tokens(model, x)
        patches = model.patch_embed.proj(x).flatten(2).transpose(1, 2)
        assert seen[0].shape == (3, 10, 16)
        assert torch.equal(seen[0][:, 0], model.cls_token[:, 0].expand(3, -1))
        assert torch.allclose(seen[0][:, 1:], patches + model.pos_embed, atol=1e-6)
    with pytest.raises(ValueError, match="special_positions: a model with a DIST token needs true"):
        build_vit(small(special_positions=False), 5, True)


@pytest.mark.parametrize("distilled", [False, True])
def test_deit_s_own_model_starts_as_timm_makes_it(distilled):
    """What DeiT-III added has no part in the other students' first weights."""
    torch.manual_seed(5)
    ours = build_vit(small(drop_path=0.3), 5, distilled).state_dict()
    torch.manual_seed(5)
    kind = VisionTransformerDistilled if distilled else VisionTransformer
    theirs = kind(img_size=12, patch_size=4, embed_dim=16, depth=3, num_heads=2, num_classes=5).state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_results_and_gradients_are_timms_to_the_last_bit(distilled, autocast):
    shape = {"img_size": 24, "patch_size": 6, "embed_dim": 64, "depth": 3, "num_heads": 4, "num_classes": 5}
    ours = build_vit(small(image_size=24, patch_size=6, dim=64, heads=4), 5, distilled)
    theirs = (VisionTransformerDistilled if distilled else VisionTransformer)(**shape)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    for model in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = head_logits(model, special_tokens(model, x))
        torch.stack([z.float() for z in logits.values()]).square().sum().backward()
        model.answer = logits
    assert all(torch.equal(ours.answer[head], theirs.answer[head]) for head in ours.answer)
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert all(torch.equal(p.grad, expected[name]) for name, p in ours.named_parameters())


def test_a_normed_head_gives_cosines_and_keeps_its_own_first_weights():
    """METHODS trap 25: columns of unit norm, no bias; timm's truncated normal would leave them at .02."""
    torch.manual_seed(0)
    model = build_vit(small(dim=64, heads=4), 5, False, "normed").eval()
    weight = model.head.weight
    assert weight.shape == (64, 5) and torch.allclose(weight.norm(dim=0), torch.ones(5))
    assert not any(name == "head.bias" for name, _ in model.named_parameters())
    x = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        cls = special_tokens(model, x)[:, 0].double()
        cosines = head_logits(model, special_tokens(model, x))["cls"]
        expected = (cls @ weight.double()) / (cls.norm(dim=1)[:, None] * weight.double().norm(dim=0))
        assert torch.allclose(cosines.double(), expected, atol=1e-6) and cosines.abs().max() <= 1
        with torch.autocast("cpu", torch.bfloat16):
            assert head_logits(model, special_tokens(model, x))["cls"].dtype == torch.float32
    assert any(p is weight for p in parameter_groups(model, 0.05)[0]["params"])


def test_initial_weights_are_those_of_the_published_model():
    torch.manual_seed(0)
    model = build_vit(small(image_size=32, dim=64, heads=4), 10, distilled=True)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert len(linear) == 4 * 3 + 2  # qkv, proj, fc1, fc2 of each block; head and head_dist
    for layer in linear:
        assert (layer.bias == 0).all()
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15) and abs(layer.weight.mean()) < 0.003
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm):
            assert (layer.weight == 1).all() and (layer.bias == 0).all()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.dist_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert model.cls_token.std().item() == pytest.approx(1e-6, rel=0.3)
    bound = 1 / math.sqrt(3 * 4 * 4)  # torch's default of a convolution: uniform within 1 / sqrt(fan in)
    for values in (model.patch_embed.proj.weight, model.patch_embed.proj.bias):
        assert 0.9 * bound < values.abs().max().item() <= bound
    assert model.patch_embed.proj.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_the_global_generator_decides_the_weights():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_vit(small(), 5, distilled=True).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["blocks.0.attn.qkv.weight"], states[2]["blocks.0.attn.qkv.weight"])


def test_tokens_come_in_the_order_cls_dist_patches_and_each_head_reads_its_own():
    model = build_vit(small(), 5, distilled=True).eval()
    x = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.pos_embed.zero_()
        model.pos_embed[0, 0], model.pos_embed[0, 1] = 1.0, -1.0
        seen = []
        model.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        tokens = special_tokens(model, x)
        patches = model.patch_embed.proj(x).flatten(2).transpose(1, 2)  # row-major
        assert seen[0].shape == (3, 2 + 9, 16)
        assert torch.allclose(seen[0][:, 0], model.cls_token[:, 0].expand(3, -1) + 1)
        assert torch.allclose(seen[0][:, 1], model.dist_token[:, 0].expand(3, -1) - 1)
        assert torch.allclose(seen[0][:, 2:], patches, atol=1e-6)
        logits = head_logits(model, tokens)
        assert tokens.shape == (3, 2, 16) and list(logits) == ["cls", "dist"]
        assert torch.allclose(logits["cls"], tokens[:, 0] @ model.head.weight.T + model.head.bias, atol=1e-6)
        assert torch.allclose(logits["dist"], tokens[:, 1] @ model.head_dist.weight.T + model.head_dist.bias, atol=1e-6)
        assert torch.allclose(tokens.mean(-1), torch.zeros(3, 2), atol=1e-5)  # after the final LayerNorm
        assert torch.allclose(model(x), (logits["cls"] + logits["dist"]) / 2, atol=1e-6)  # timm's own evaluation


def test_a_plain_vit_has_cls_logits_alone():
    model = build_vit(small(), 5, distilled=False).eval()
    x = torch.randn(2, 3, 12, 12)
    logits = head_logits(model, special_tokens(model, x))
    assert list(logits) == ["cls"] and torch.allclose(logits["cls"], model(x), atol=1e-6)


def test_weight_decay_spares_vectors_and_the_three_dimensional_tables():
    """METHODS trap 35: pos_embed, cls_token and dist_token have three dimensions."""
    model = build_vit(small(), 5, distilled=True)
    decay, rest = parameter_groups(model, 0.05)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, spared = ([names[id(p)] for p in group["params"]] for group in (decay, rest))
    assert sorted(decayed + spared) == sorted(names.values())
    per_block = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert set(decayed) == {"patch_embed.proj.weight", "head.weight", "head_dist.weight"} | {
        f"blocks.{i}.{layer}.weight" for i in range(3) for layer in per_block
    }
    assert {"pos_embed", "cls_token", "dist_token", "norm.weight", "head.bias", "patch_embed.proj.bias"} <= set(spared)


def test_the_distance_of_the_tokens_is_one_minus_their_cosine():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [-3.0, 0.0]]])
    assert cls_dist_distance(tokens).tolist() == pytest.approx([1.0, 0.0, 2.0], abs=1e-6)
    tokens = torch.randn(4, 2, 7, generator=torch.Generator().manual_seed(0))
    for (a, b), distance in zip(tokens.double().tolist(), cls_dist_distance(tokens).tolist(), strict=True):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        assert distance == pytest.approx(1 - dot / norms, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image_size": 225}, "recipes.r: image_size 225 is not a multiple of patch_size 16"),
        ({"dim": 190}, "recipes.r: dim 190 is not a multiple of heads 3"),
        ({"heads": 0}, "recipes.r: heads must be at least 1, found 0"),
        ({"drop_path": 1.0}, "recipes.r: drop_path is a probability below 1, found 1.0"),
        ({"layer_scale": 0.0}, "recipes.r: layer_scale is above 0, or null for none, found 0.0"),
        ({"drop_path_mode": "flat"}, "recipes.r.drop_path_mode: 'flat' is not one of linear, constant"),
        ({"depth": "12"}, "recipes.r.depth: expected int, found '12' (str); write 12"),
    ],
)
def test_wrong_shapes_are_refused(change, expected):
    good = params.plain(published("ti"))
    with pytest.raises(UserError) as error:
        params.build(ModelConfig, good | change, "recipes.r")
    assert str(error.value) == expected
