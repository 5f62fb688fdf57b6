from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from longtail.views import mix


def recipe(**changes):
    values = dict(mixup_alpha=0.8, cutmix_alpha=1.0, mix_prob=1.0, switch_prob=0.5, mix_until=10, size=24)
    return SimpleNamespace(**values | changes)


def many(n=4000, **changes) -> list[mix.Mix]:
    return mix.draw(recipe(**changes), 0, 0, list(range(n)))


def test_targets_are_91_and_1_percent():
    target = mix.soft_targets(torch.tensor([3]), torch.tensor([7]), torch.tensor([1.0]), 10, 0.1)
    expected = np.full(10, 0.01)
    expected[3] = 0.91
    np.testing.assert_allclose(target[0].numpy(), expected, atol=1e-7)


def test_targets_are_timms():
    from timm.data.mixup import mixup_target

    y = torch.tensor([0, 2, 2, 4, 1, 0])
    ours = mix.soft_targets(y, y.flip(0), torch.full((6,), 0.3), 5, 0.1)
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


@pytest.mark.parametrize(("lam", "y", "x"), [(0.3, 12, 12), (0.7, 0, 23), (0.05, 20, 2), (0.999, 5, 5)])
def test_cutmix_equals_timms(lam, y, x, monkeypatch):
    from timm.data import mixup

    centre = iter([y, x])
    monkeypatch.setattr(mixup.np.random, "randint", lambda *_, **__: next(centre))
    (top, bottom, left, right), corrected = mixup.cutmix_bbox_and_lam((8, 3, 24, 24), lam)
    ours = mix.cutmix_box(lam, y, x, 24)
    assert ours.box == (top, bottom, left, right)
    assert ours.lam == pytest.approx(corrected, abs=1e-12)


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
