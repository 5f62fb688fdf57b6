import numpy as np
import pytest
import torch

from longtail.analysis.attention import (
    attention_probabilities,
    attention_rollout,
    block_tokens,
    mean_attention_distance,
    rollout_rows,
)
from longtail.models.vit import ModelConfig, build_vit, special_tokens

CONFIG = ModelConfig(image_size=24, patch_size=8, dim=32, depth=3, heads=4, mlp_ratio=2.0, drop_path=0.5)


def tiny(distilled=True):
    torch.manual_seed(0)
    model = build_vit(CONFIG, 5, distilled)
    for block in model.blocks:  # trained weights are larger: make the attention far from uniform
        block.attn.qkv.weight.data *= 20
        block.attn.qkv.bias.data.normal_()
    return model, torch.randn(4, 3, 24, 24)


def slow_distance(probs, grid, patch, special):
    """Mean over images, then queries, of sum_j a_ij d_ij, one element at a time."""
    images, heads, tokens, _ = probs.shape
    total = np.zeros(heads)
    for b in range(images):
        for h in range(heads):
            for i in range(special, tokens):
                for j in range(special, tokens):
                    (r0, c0), (r1, c1) = divmod(i - special, grid), divmod(j - special, grid)
                    total[h] += probs[b, h, i, j] * patch * ((r0 - r1) ** 2 + (c0 - c1) ** 2) ** 0.5
    return total / (images * grid**2)


@pytest.mark.parametrize("special", [1, 2])
def test_distance_is_the_loop_over_queries_and_keys(special):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(special + 9, 0.3), (3, 2, special + 9))
    ours = mean_attention_distance(torch.from_numpy(probs), 3, 8, special)
    np.testing.assert_allclose(ours.numpy(), slow_distance(probs, 3, 8, special), rtol=1e-12)


def test_uniform_attention_on_the_papers_grid():
    patches_only = torch.full((2, 3, 196, 196), 1 / 196)
    assert mean_attention_distance(patches_only, 14, 16, 0).tolist() == pytest.approx([116.5] * 3, abs=0.05)
    with_special = torch.full((2, 3, 198, 198), 1 / 198)  # not renormalised: 196/198 of the above
    assert mean_attention_distance(with_special, 14, 16, 2).tolist() == pytest.approx([115.3] * 3, abs=0.05)


def test_farthest_patch_is_the_diagonal():
    probs = torch.zeros(1, 1, 198, 198)
    probs[0, 0, 2, 197] = 1.0  # first patch attends to the last: with DIST, patches start at token 2
    assert mean_attention_distance(probs, 14, 16, 2).item() * 196 == pytest.approx(294.2, abs=0.05)
    probs = torch.zeros(1, 1, 198, 198)
    probs[0, 0, :2] = probs[0, 0, :, :2] = 0.5  # only rows and columns of the special tokens
    assert mean_attention_distance(probs, 14, 16, 2).item() == 0.0


def test_wrong_number_of_special_tokens_is_refused():
    with pytest.raises(ValueError, match="1 special tokens and 14 x 14"):
        mean_attention_distance(torch.zeros(1, 1, 198, 198), 14, 16, 1)


@pytest.mark.parametrize("distilled", [True, False])
def test_recomputed_probabilities_give_the_models_own_attention_output(distilled):
    """probs @ v through proj equals what the (fused) attention of each block returned during a real forward pass."""
    model, x = tiny(distilled)
    seen = []
    hooks = [b.attn.register_forward_hook(lambda m, i, o: seen.append((m, i[0], o))) for b in model.blocks]
    with torch.no_grad():
        model.eval().forward_features(x)
    for hook in hooks:
        hook.remove()
    probs = attention_probabilities(model, x)
    assert len(probs) == len(seen) == 3
    for p, (attn, inputs, output) in zip(probs, seen, strict=True):
        assert p.dtype == torch.float32 and p.shape == (4, 4, 9 + 1 + distilled, 9 + 1 + distilled)
        assert p.max() > 0.5  # far from uniform, or the comparison would say little
        v = attn.qkv(inputs)[..., 64:].reshape(4, -1, 4, 8).transpose(1, 2)
        ours = attn.proj((p @ v).transpose(1, 2).reshape(4, -1, 32))
        torch.testing.assert_close(ours, output, rtol=1e-4, atol=1e-5)


def test_probabilities_leave_the_model_as_it_was():
    model, x = tiny()
    model.train()
    first, second = attention_probabilities(model, x), attention_probabilities(model, x)
    assert model.training  # and drop path (.5 here) was off in between
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_probabilities_stay_fp32_under_autocast():
    model, x = tiny()
    exact = attention_probabilities(model, x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        ours = attention_probabilities(model, x)[0]
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.sum(-1).detach().numpy(), 1.0, atol=1e-6)
    assert (ours - exact).abs().max() < 0.2  # only the block's input was rounded


def test_token_order_is_cls_dist_patches():
    """Moving DIST's embedding moves token 1; moving the last patch's pixels moves only the last embedded token."""
    model, x = tiny()
    model.eval()
    with torch.no_grad():
        before = model.embed(x)
        model.dist_token += 1
        after = model.embed(x)
        changed = (before != after).any(-1).any(0).nonzero().flatten().tolist()
        assert changed == [1]
        x2 = x.clone()
        x2[:, :, 16:, 16:] += 1  # bottom right patch
        changed = (model.embed(x2) != after).any(-1).any(0).nonzero().flatten().tolist()
        assert changed == [10]
        x2 = x.clone()
        x2[:, :, :8, 8:16] += 1  # first row, second column: patches are row-major from token 2
        changed = (model.embed(x2) != after).any(-1).any(0).nonzero().flatten().tolist()
        assert changed == [3]


def slow_rollout(probs, token, special):
    """PROBE's loop, one image: joint = A_l joint, l first to last, in numpy."""
    joint = None
    for block in probs:  # [h, N, N]
        a = sum(block[h] for h in range(len(block))) / len(block) + np.eye(block.shape[-1])
        a = a / a.sum(1, keepdims=True)
        joint = a if joint is None else a @ joint
    side = round((joint.shape[0] - special) ** 0.5)
    row = joint[token, special:].reshape(side, side)
    return row / row.max()


@pytest.mark.parametrize(("special", "token"), [(1, 0), (2, 0), (2, 1)])
def test_rollout_is_the_explicit_loop(special, token):
    rng = np.random.default_rng(1)
    probs = [rng.dirichlet(np.full(special + 9, 0.2), (2, 4, special + 9)) for _ in range(3)]
    ours = attention_rollout([torch.from_numpy(p) for p in probs], token, special)
    assert ours.shape == (2, 3, 3)
    for b in range(2):
        np.testing.assert_allclose(ours[b].numpy(), slow_rollout([p[b] for p in probs], token, special), rtol=1e-12)
    reverse = attention_rollout([torch.from_numpy(p) for p in probs[::-1]], token, special)
    assert (ours - reverse).abs().max() > 1e-2  # the order of the blocks matters


def test_rollout_of_a_token_that_is_not_there():
    with pytest.raises(ValueError, match="1 special token"):
        attention_rollout([torch.zeros(1, 1, 10, 10)], 1, 1)


def test_rollout_of_uniform_attention_is_flat():
    uniform = [torch.full((1, 2, 11, 11), 1 / 11)] * 2
    rows = rollout_rows(uniform, 2)  # one block: (1/11) / 2; two blocks: (1 - 1/4) / 11
    torch.testing.assert_close(rows, torch.full((1, 2, 3, 3), 0.75 / 11, dtype=torch.float64), rtol=1e-6, atol=0)


def test_block_tokens_are_the_residual_stream_before_the_final_norm():
    model, x = tiny()
    tokens = block_tokens(model, x)
    assert tokens.shape == (3, 4, 2, 32)
    with torch.no_grad():
        model.eval()
        h = model.embed(x)
        for i, block in enumerate(model.blocks):
            h = block(h)
            torch.testing.assert_close(tokens[i], h[:, :2])
        torch.testing.assert_close(model.norm(tokens[-1]), special_tokens(model, x))
