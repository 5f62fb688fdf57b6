from __future__ import annotations

import numpy as np
import pytest
import timm.layers
import torch
from timm.models.vision_transformer import VisionTransformer

from longtail.base import rng
from longtail.models import transformer
from longtail.models.transformer import DropPath
from longtail.models.vit import ModelConfig, build_vit

CONFIG = ModelConfig(image_size=8, patch_size=4, dim=16, depth=3, heads=2, mlp_ratio=2.0, drop_path=0.5)
POSITIONS = np.arange(20_000)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_vit(CONFIG, 10, distilled=True).train()


def test_branches_are_where_timm_has_them(model):
    of = transformer.branches(model)
    assert [(branch.branch, branch.drop_prob) for branch in of] == [(2, 0.25), (3, 0.25), (4, 0.5), (5, 0.5)]
    theirs = VisionTransformer(img_size=8, patch_size=4, embed_dim=16, depth=3, num_heads=2, drop_path_rate=0.5)
    drops = [m.drop_prob for m in theirs.modules() if isinstance(m, timm.layers.DropPath)]
    assert drops == [branch.drop_prob for branch in of]


def test_a_branch_is_kept_where_its_word_is_below_its_rate(model):
    """Each branch has its own word, also where an earlier block skips nothing."""
    of, positions = transformer.branches(model), np.array([7, 0, 2**31])
    factors = transformer.draw(of, 3, 11, positions)
    words = rng.draws(3, "drop_path", 11, positions, 8).astype(np.float64) / 2**32
    for row, (branch, rate) in zip(factors, [(2, 0.25), (3, 0.25), (4, 0.5), (5, 0.5)], strict=True):
        assert row.tolist() == [np.float32(1 / (1 - rate)) if u < 1 - rate else 0.0 for u in words[:, branch]]


def test_the_distribution_is_timms(model):
    """Kept with 1 - rate, the mean factor 1, branches and views independent."""
    factors = transformer.draw(transformer.branches(model), 0, 5, POSITIONS).astype(np.float64)
    assert factors.shape == (4, len(POSITIONS)) and np.unique(factors).tolist() == [0, np.float32(4 / 3), 2]
    kept = factors > 0
    np.testing.assert_allclose(kept.mean(1), [0.75, 0.75, 0.5, 0.5], atol=4 * 0.5 / len(POSITIONS) ** 0.5)
    np.testing.assert_allclose(factors.mean(1), 1, atol=4 / len(POSITIONS) ** 0.5)
    with_the_next_view = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in kept]
    between = np.corrcoef(kept)[np.triu_indices(4, 1)]
    assert max(map(abs, [*with_the_next_view, *between])) < 4 / len(POSITIONS) ** 0.5


def test_draws_belong_to_the_view(model):
    of = transformer.branches(model)
    whole = transformer.draw(of, 0, 5, POSITIONS[:100])
    some = np.array([40, 3, 17])
    np.testing.assert_array_equal(transformer.draw(of, 0, 5, some), whole[:, some])
    for other in (transformer.draw(of, 1, 5, POSITIONS[:100]), transformer.draw(of, 0, 6, POSITIONS[:100])):
        assert not np.array_equal(other, whole)


def test_a_branch_in_training_and_at_test():
    branch, x = DropPath(0.2, 0), torch.randn(3, 5, 4, requires_grad=True)
    transformer.use([branch], torch.tensor([[1.25, 0.0, 1.25]]))
    out = branch(x)
    assert torch.equal(out, x * torch.tensor([1.25, 0.0, 1.25])[:, None, None])
    out.sum().backward()
    assert x.grad[:, 0, 0].tolist() == [1.25, 0.0, 1.25]
    assert branch(x.detach().bfloat16()).dtype == torch.bfloat16
    assert branch.eval()(x) is x


def test_training_without_factors_for_these_views_is_refused():
    for factors in (None, torch.ones(2)):
        branch = DropPath(0.2, 0)
        branch.factors = factors
        with pytest.raises(RuntimeError, match="no factors for a batch of 3 views"):
            branch(torch.zeros(3, 4))


def test_a_view_that_skips_both_branches_of_a_block_passes_it_unchanged(model):
    of, x = transformer.branches(model), torch.randn(2, 3, 8, 8)
    transformer.use(of, torch.tensor([[0.0, 1.0]] * 2 + [[1.0, 1.0]] * 2))  # of the second block, by the first view
    seen = {}
    handles = [
        block.register_forward_hook(lambda _, given, out, i=i: seen.update({i: (given[0], out)}))
        for i, block in enumerate(model.blocks)
    ]
    model.forward_features(x)
    for handle in handles:
        handle.remove()
    assert torch.equal(*(part[0] for part in seen[1])) and not torch.equal(*(part[1] for part in seen[1]))
    assert not torch.equal(*(part[0] for part in seen[2]))


def test_without_stochastic_depth_nothing_is_drawn():
    still = build_vit(ModelConfig(**{**vars(CONFIG), "drop_path": 0.0}), 10, distilled=False)
    assert transformer.branches(still) == []
    assert transformer.draw([], 0, 0, POSITIONS[:5]).shape == (0, 5)
