from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from longtail.losses.targets import soft_targets
from longtail.views import mix


def recipe(**changes):
    values = dict(mixup_alpha=0.8, cutmix_alpha=1.0, mix_prob=1.0, switch_prob=0.5, mix_until=10, size=24)
    return SimpleNamespace(**values | changes)


def many(n=4000, **changes) -> list[mix.Mix]:
    return mix.draw(recipe(**changes), 0, 0, list(range(n)))


def test_targets_are_91_and_1_percent():
    target = soft_targets(torch.tensor([3]), torch.tensor([7]), torch.tensor([1.0]), 10, 0.1)
    expected = np.full(10, 0.01)
    expected[3] = 0.91
    np.testing.assert_allclose(target[0].numpy(), expected, atol=1e-7)


def test_targets_are_timms():
    from timm.data.mixup import mixup_target

    y = torch.tensor([0, 2, 2, 4, 1, 0])
    ours = soft_targets(y, y.flip(0), torch.full((6,), 0.3), 5, 0.1)
    torch.testing.assert_close(ours, mixup_target(y, 5, 0.3, 0.1), rtol=0, atol=1e-7)
    torch.testing.assert_close(ours.sum(1), torch.ones(6))


def test_mixup_equals_timms_batch_mode(monkeypatch):
    from timm.data.mixup import Mixup

    monkeypatch.setattr(mix, "_CACHE_FLOATS", 3 * 24 * 24 * 2)  # several chunks
    x = torch.randn(10, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    timms = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0)
    monkeypatch.setattr(timms, "_params_per_batch", lambda: (0.3, False))
    theirs, ours = x.clone(), x.clone()
    timms._mix_batch(theirs)
    mix.apply_(ours, mix.Mix(0.3))
    assert torch.equal(ours, theirs)


BOXES = [  # lam, y, x, size; box and lam by hand, with the rule of the timm that made the released checkpoints
    ((0.5580415439288628, 0, 7, 8), (0, 2, 5, 8), 1 - 6 / 64),  # side 5.3: two pixels each way of the corner
    ((0.3, 12, 12, 24), (2, 22, 2, 22), 1 - 400 / 576),  # 20.1, even: nothing lost
    ((0.7, 0, 23, 24), (0, 6, 17, 24), 1 - 42 / 576),  # 13.1: six each way
    ((0.05, 20, 2, 24), (9, 24, 0, 13), 1 - 195 / 576),  # 23.4: eleven each way
    ((0.996, 5, 5, 24), (5, 5, 5, 5), 1.0),  # 1.5: none
    ((0.4, 100, 60, 224), (14, 186, 0, 146), 1 - 172 * 146 / 50176),  # 173.5, at the published size
]


@pytest.mark.parametrize(("drawn", "box", "lam"), BOXES)
def test_cutmix_boxes_end_half_a_side_rounded_down_from_the_centre(drawn, box, lam):
    assert mix.cutmix_box(*drawn) == mix.Mix(pytest.approx(lam, abs=1e-12), box)


def rand_bbox_0_8_15(shape, lam, margin=0.0, count=None):
    """The rule of timm 0.8.15, which timm 1.0 changed; for one box and no margin."""
    (height, width), ratio = shape[-2:], np.sqrt(1 - lam)
    halves = int(height * ratio) // 2, int(width * ratio) // 2
    centre = np.random.randint(0, height, size=count), np.random.randint(0, width, size=count)
    ends = [np.clip((c - h, c + h), 0, n) for c, h, n in zip(centre, halves, (height, width), strict=True)]
    return *ends[0], *ends[1]


def test_timm_with_its_old_rule_has_our_boxes_and_lam(monkeypatch):
    """What timm makes of a box is unchanged: the order of its ends and the corrected lam."""
    from timm.data import mixup

    monkeypatch.setattr(mixup, "rand_bbox", rand_bbox_0_8_15)
    random, odd = np.random.default_rng(0), 0
    for size in (8, 24, 224):
        for _ in range(50):
            lam, (y, x) = random.beta(1.0, 1.0), random.integers(0, size, 2).tolist()
            centre = iter([y, x])
            monkeypatch.setattr(mixup.np.random, "randint", lambda *_, centre=centre, **__: next(centre))
            box, corrected = mixup.cutmix_bbox_and_lam((8, 3, size, size), lam)
            ours = mix.cutmix_box(lam, y, x, size)
            assert ours.box == tuple(box) and ours.lam == pytest.approx(corrected, abs=1e-12)
            odd += int(size * np.sqrt(1 - lam)) % 2
    assert 50 < odd < 100  # half of all boxes tell the rules apart


def test_cutmix_pastes_the_flipped_box_and_lam_is_what_is_left():
    x = torch.arange(6.0)[:, None, None, None].expand(6, 3, 24, 24).clone()
    what = mix.cutmix_box(0.6, 3, 20, 24)
    mix.apply_(x, what)
    for row in range(6):
        own = (x[row, 0] == row).float().mean().item()
        assert own == pytest.approx(what.lam, abs=1e-6)
        assert set(x[row].unique().tolist()) == {float(row), 5.0 - row}


def test_an_odd_group_is_refused():
    with pytest.raises(ValueError, match="pairs"):
        mix.apply_(torch.zeros(3, 3, 4, 4), mix.Mix(0.5))


def test_draws_switch_half_and_half_and_lam_has_the_beta_moments():
    mixes = many()
    cut = np.array([m.box is not None for m in mixes])
    assert cut.mean() == pytest.approx(0.5, abs=0.032)
    lam = np.array([m.lam for m in mixes])[~cut]
    assert lam.mean() == pytest.approx(0.5, abs=0.03)
    assert lam.var() == pytest.approx(1 / (4 * 2.6), abs=0.01)  # Beta(.8, .8)


@pytest.mark.parametrize(
    ("changes", "cut"), [({"cutmix_alpha": 0.0}, 0.0), ({"mixup_alpha": 0.0}, 1.0), ({"switch_prob": 0.0}, 0.0)]
)
def test_one_alpha_alone_switches_off_the_other(changes, cut):
    mixes = [m for m in many(300, **changes) if m.lam < 1]
    assert len(mixes) > 280
    assert np.mean([m.box is not None for m in mixes]) == cut


def test_mix_prob_leaves_groups_alone():
    assert np.mean([m.lam == 1.0 for m in many(mix_prob=0.3)]) == pytest.approx(0.7, abs=0.03)


def test_mix_until_is_the_first_epoch_without():
    assert mix.draw(recipe(), 0, 9, [0])[0].lam < 1.0
    assert mix.draw(recipe(), 0, 10, [0, 1]) == [mix.Mix(1.0)] * 2
    assert mix.draw(recipe(mixup_alpha=0.0, cutmix_alpha=0.0), 0, 0, [0]) == [mix.Mix(1.0)]


def test_groups_epochs_and_seeds_draw_differently_and_alone_as_together():
    cases = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    drawn = [mix.draw(recipe(), seed, epoch, [group])[0] for seed, epoch, group in cases]
    assert len({m.lam for m in drawn}) == 4
    assert mix.draw(recipe(), 0, 0, [0, 1]) == drawn[:2]
