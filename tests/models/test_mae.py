"""The masked autoencoder, against the authors' arithmetic (METHODS 5.2) done the long way in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from longtail.losses.losses import masked_patch_loss
from longtail.models.mae import (
    DecoderConfig,
    MaskedAutoencoder,
    mae_parameter_groups,
    normalized_patches,
    patchify,
    picked,
    split_state,
    unpatchify,
)
from longtail.models.shapes import autoencoder
from longtail.models.transformer import resized_positions, sincos_positions
from longtail.models.vit import ModelConfig, build_vit, parameter_groups, special_tokens
from longtail.views.draws import patch_orders

SHAPE = ModelConfig(
    image_size=12, patch_size=3, dim=16, depth=2, heads=2, mlp_ratio=2.0, drop_path=0.0, positions="sincos"
)
DECODER = DecoderConfig(dim=8, depth=2, heads=2)
SEEN = 4  # of 16 patches


def made(seed: int = 0) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    return MaskedAutoencoder(SHAPE, DECODER).double()


def test_positions_are_the_authors():
    """D = 8 on 2 x 2: token 1 stands in row 0, column 1; first half column, sines before cosines."""
    table = sincos_positions(8, 2)
    assert table.shape == (1, 5, 8) and not table[0, 0].any()
    expected = [0.841470985, 0.009999833, 0.540302306, 0.999950000, 0.0, 0.0, 1.0, 1.0]
    assert table[0, 2].tolist() == pytest.approx(expected, abs=1e-7)
    row = [math.sin(2.0), math.sin(2.0 / 100), math.cos(2.0), math.cos(2.0 / 100)]  # of row 2, column 1 on 3 x 3
    assert sincos_positions(8, 3)[0, 1 + 3 * 2 + 1, 4:].tolist() == pytest.approx(row, abs=1e-7)
    with pytest.raises(ValueError, match="dim 6 is not a multiple of 4"):
        sincos_positions(6, 2)


def test_positions_of_another_grid_are_bicubic_and_leave_cls():
    """8 x 8 to 14 x 14 and 14 x 14 to 4 x 4, each axis with the cubic kernel of a = -.75, edges repeated."""

    def weights(old: int, new: int) -> np.ndarray:
        out, a = np.zeros((new, old)), -0.75
        for i in range(new):
            at = (i + 0.5) * old / new - 0.5
            for k in range(math.floor(at) - 1, math.floor(at) + 3):
                d = abs(at - k)
                near = (a + 2) * d**3 - (a + 3) * d**2 + 1
                far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
                out[i, min(max(k, 0), old - 1)] += near if d <= 1 else far
        return out

    for old, new in ((8, 14), (14, 4)):
        table = torch.randn(1, 1 + old**2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        square = table[0, 1:].reshape(old, old, 4).numpy()
        expected = np.einsum("ip,jq,pqd->ijd", weights(old, new), weights(old, new), square).reshape(-1, 4)
        got = resized_positions(table, new, special=1)
        assert torch.equal(got[:, :1], table[:, :1])
        np.testing.assert_allclose(got[0, 1:].numpy(), expected, atol=1e-12)
    with pytest.raises(ValueError, match="15 positions are no square grid"):
        resized_positions(torch.zeros(1, 16, 4), 4, special=1)


def test_patches_lie_row_by_row_and_come_back():
    x = torch.arange(3 * 6 * 6).reshape(1, 3, 6, 6)
    patches = patchify(x, 3)
    assert patches.shape == (1, 4, 27)
    assert patches[0, 1, :6].tolist() == [3, 39, 75, 4, 40, 76]  # row 0, columns 3 and 4, each with its channels
    assert torch.equal(unpatchify(patches, 3), x)
    with pytest.raises(ValueError, match="6 px are not a multiple of a patch of 4"):
        patchify(x, 4)


def test_masks_are_the_sorted_noise_of_each_view_alone():
    """The quarter with the smallest numbers is seen; other positions, epochs and seeds have other masks."""
    orders = patch_orders(3, 5, np.array([7, 2, 40]), 16)
    assert np.array_equal(np.sort(orders, 1), np.tile(np.arange(16), (3, 1)))
    assert np.array_equal(orders[1], patch_orders(3, 5, np.array([2]), 16)[0])
    for other in (patch_orders(4, 5, [2], 16), patch_orders(3, 6, [2], 16), patch_orders(3, 5, [3], 16)):
        assert not np.array_equal(orders[1], other[0])
    many = patch_orders(0, 0, np.arange(4000), 16)[:, :SEEN]
    share = np.bincount(many.ravel(), minlength=16) / 4000
    assert np.abs(share - 0.25).max() < 4 * math.sqrt(0.25 * 0.75 / 4000)  # each patch as often as any other


def authors(model: MaskedAutoencoder, x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """LIVT:models/mae.py: all patches embedded, gathered, decoded in the image's order, the loss over the mask."""
    keep, restore = order[:, :SEEN], order.argsort(1)
    tokens = model.patch_embed(x) + model.pos_embed[:, 1:]
    tokens = torch.stack([t[k] for t, k in zip(tokens, keep, strict=True)])
    cls = (model.cls_token + model.pos_embed[:, :1]).repeat(len(x), 1, 1)
    tokens = torch.cat([cls, tokens], 1)
    for block in model.blocks:
        tokens = block(tokens)
    tokens = model.decoder_embed(model.norm(tokens))
    whole = torch.cat([tokens[:, 1:], model.mask_token.repeat(len(x), 16 - SEEN, 1)], 1)
    whole = torch.stack([t[r] for t, r in zip(whole, restore, strict=True)])
    tokens = torch.cat([tokens[:, :1], whole], 1) + model.decoder_pos_embed
    for block in model.decoder_blocks:
        tokens = block(tokens)
    predicted = model.decoder_pred(model.decoder_norm(tokens))[:, 1:]
    target = torch.einsum("nchpwq->nhwpqc", x.reshape(len(x), 3, 4, 3, 4, 3)).reshape(len(x), 16, 27)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    mask = torch.ones(len(x), 16, dtype=x.dtype)
    for row, k in zip(mask, keep, strict=True):
        row[k] = 0
    losses = ((predicted - target) ** 2).mean(-1)
    return (losses * mask).sum() / mask.sum()


def test_loss_and_gradients_are_the_authors():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64, generator=generator)
    order = torch.stack([torch.randperm(16, generator=generator) for _ in range(3)])
    theirs, ours = made(), made()
    authors(theirs, x, order).backward()
    patches = patchify(x, 3)
    predicted = ours(patches, order[:, :SEEN], order[:, SEEN:])
    loss = masked_patch_loss(predicted, normalized_patches(picked(patches, order[:, SEEN:]))[0]).mean()
    loss.backward()
    assert loss.item() == pytest.approx(authors(theirs, x, order).item(), rel=1e-12)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12, msg=name)
        else:
            assert name in ("pos_embed", "decoder_pos_embed")


def test_only_what_is_visible_goes_through_the_encoder():
    """Hidden pixels do not reach it, and its blocks are given CLS and the visible patches, no more."""
    model, widths = made(), []
    model.blocks[0].register_forward_pre_hook(lambda _, given: widths.append(given[0].shape[1]))
    patches, order = torch.randn(2, 16, 27, dtype=torch.float64), torch.arange(16).expand(2, -1)
    seen = model.encode(patches, order[:, :SEEN])
    patches[:, SEEN:] = torch.nan
    assert torch.equal(model.encode(patches, order[:, :SEEN]), seen) and widths == [1 + SEEN] * 2


def test_the_target_is_normalised_by_the_unbiased_variance():
    """Worked by hand: of (.1, .4, .4, .7, -.2, 1) the mean square is 5/6 of 1, less for the 1e-6."""
    patch = torch.tensor([[[0.1, 0.4, 0.4, 0.7, -0.2, 1.0]]], dtype=torch.float64)
    target, mean, divisor = normalized_patches(patch)
    expected = [-0.707104817, 0, 0, 0.707104817, -1.414209634, 1.414209634]
    assert target[0, 0].tolist() == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(target * divisor + mean, patch)
    assert masked_patch_loss(torch.zeros_like(patch), target).item() == pytest.approx(0.833328704, abs=1e-9)
    assert masked_patch_loss(target, target).item() == 0
    flat, _, _ = normalized_patches(torch.full((1, 1, 6), 0.3))
    assert flat.abs().max().item() < 1e-3  # a blank patch is all zeros, not noise
    two = torch.cat([target, torch.zeros_like(target)], 1)
    assert masked_patch_loss(torch.zeros_like(two), two).item() == pytest.approx(0.833328704 / 2, abs=1e-9)


def test_first_weights_are_the_authors():
    """Xavier-uniform on all linear layers and the flattened patches, CLS and mask token N(0, .02), biases zero."""
    torch.manual_seed(0)
    big = MaskedAutoencoder(replace(SHAPE, dim=192, heads=3), DecoderConfig(128, 1, 4))
    for name, p in big.named_parameters():
        if name.endswith("bias"):
            assert not p.any() or name == "patch_embed.proj.bias", name  # that one is torch's own
        elif "norm" in name:
            assert (p == 1).all(), name
        elif "pos_embed" in name:
            width = p.shape[2]
            assert torch.equal(p, sincos_positions(width, 4)), name
        elif "token" in name:
            assert p.std().item() == pytest.approx(0.02, rel=0.2), name
        else:
            flat = p.flatten(1)
            bound = math.sqrt(6 / sum(flat.shape))
            assert flat.abs().max() <= bound and flat.abs().max() > 0.98 * bound, name
            assert flat.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05), name


def test_vectors_alone_are_free_of_decay():
    model = made()
    free, decayed = mae_parameter_groups(model, 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    assert free["weight_decay"] == 0 and decayed["weight_decay"] == 0.05
    assert {names[id(p)] for p in decayed["params"]} >= {"cls_token", "mask_token", "patch_embed.proj.weight"}
    assert all(p.ndim == 1 for p in free["params"])
    listed = {names[id(p)] for group in (free, decayed) for p in group["params"]}
    assert set(names.values()) - listed == {"pos_embed", "decoder_pos_embed"}


def test_names_and_shapes_are_those_of_the_published_checkpoint():
    """facebook's MAE ViT-B: 111.9 M parameters with its decoder (their README's mae_vit_base_patch16)."""
    base = ModelConfig(224, 16, 768, 12, 12, 4.0, 0.0, positions="sincos")
    with torch.device("meta"):
        model = MaskedAutoencoder(base, DecoderConfig(512, 8, 16))
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert state["decoder_pred.weight"] == (768, 512) and state["decoder_blocks.7.attn.qkv.weight"] == (1536, 512)
    assert state["mask_token"] == (1, 1, 512) and state["decoder_pos_embed"] == (1, 197, 512)
    encoder, decoder = split_state(model.state_dict())
    with torch.device("meta"):
        vit = build_vit(base, 1000, distilled=False)
    assert set(encoder) == set(vit.state_dict()) - {"head.weight", "head.bias"}
    assert len(decoder) == 2 + 2 + 8 * 12 + 4
    block = 12 * 768**2 + 13 * 768, 12 * 512**2 + 13 * 512
    expected = 12 * block[0] + 769 * 768 + 768 * 198 + 2 * 768
    expected += 8 * block[1] + 769 * 512 + 512 * 198 + 2 * 512 + 768 * 513
    assert sum(p.numel() for p in model.parameters()) == expected


def test_its_operations_are_a_fraction_of_the_whole_encoders():
    """By hand for ViT-B: 50 of 197 tokens through 12 blocks, 197 through the decoder's 8."""
    base = ModelConfig(224, 16, 768, 12, 12, 4.0, 0.0, positions="sincos")

    def blocks(tokens: int, dim: int, depth: int) -> int:
        return depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim)

    shape, whole = (autoencoder(base, DecoderConfig(512, 8, 16), seen) for seen in (49, 195))
    macs = blocks(50, 768, 12) + 49 * 768**2 + 50 * 768 * 512 + blocks(197, 512, 8) + 147 * 512 * 768
    assert shape.macs == macs and shape.train_macs == 3 * macs - 49 * 768**2
    assert 2.2 < whole.macs / shape.macs < 2.5  # "about 2.36 x" where all are seen


def pooled(**changes) -> ModelConfig:
    return replace(SHAPE, **{"pool": "mean", "head_std": 2e-5} | changes)


def test_a_model_that_pools_reads_the_mean_of_the_patches():
    torch.manual_seed(0)
    model = build_vit(pooled(), 5, distilled=False).double()
    assert "norm.weight" not in model.state_dict() and "fc_norm.weight" in model.state_dict()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    tokens = model.blocks(model.embed(x))
    mean = F.layer_norm(tokens[:, 1:].sum(1) / 16, (16,), eps=1e-6)
    torch.testing.assert_close(special_tokens(model, x)[:, 0], mean)
    torch.testing.assert_close(model(x), model.head(mean))
    assert 1e-5 < model.head.weight.std() < 3e-5 and not model.head.bias.any()
    assert torch.equal(model.pos_embed.float(), sincos_positions(16, 4)) and model.pos_embed.requires_grad
    with pytest.raises(ValueError, match="pool: a model with a DIST token"):
        build_vit(pooled(), 5, distilled=True)


@pytest.mark.parametrize(
    ("decay", "patch", "first", "last"),
    [(0.75, 0.023757264, 0.031676352, 0.75), (0.65, 0.003697206, 0.005688009, 0.65)],
)
def test_layers_have_rates_of_their_own(decay, patch, first, last):
    """Depth 12; positions, CLS and patches lowest, head and fc_norm the full rate; no decay on positions and CLS."""
    with torch.device("meta"):
        model = build_vit(pooled(depth=12), 5, distilled=False)
    groups = parameter_groups(model, 0.05, decay)
    of = {id(p): group for group in groups for p in group["params"]}
    scale = {name: of[id(p)]["lr_scale"] for name, p in model.named_parameters()}
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight"):
        assert scale[name] == pytest.approx(patch, abs=1e-9)
    assert scale["blocks.0.mlp.fc1.bias"] == pytest.approx(first, abs=1e-9)
    assert scale["blocks.11.attn.qkv.weight"] == pytest.approx(last, abs=1e-12)
    assert scale["head.weight"] == scale["fc_norm.bias"] == 1.0
    decays = {name: of[id(p)]["weight_decay"] for name, p in model.named_parameters()}
    assert decays["cls_token"] == decays["pos_embed"] == decays["head.bias"] == 0 and decays["head.weight"] == 0.05


def test_trained_parameters_of_the_published_models():
    """LIVT's logs: 86,567,656 at 224 px, 86,859,496 at 384, with 1000 classes."""
    for side, expected in ((224, 86_567_656), (384, 86_859_496)):
        shape = ModelConfig(side, 16, 768, 12, 12, 4.0, 0.1, positions="sincos", pool="mean", head_std=2e-5)
        with torch.device("meta"):
            model = build_vit(shape, 1000, distilled=False)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected
