"""A network that labels a student's views is trained on views of another family: no random number is shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from longtail.base import params, rng
from longtail.base.errors import UserError
from longtail.base.params import digest, plain
from longtail.views.ops import erase_torch
from longtail.views.student_views import ViewRecipe, Views
from tests.helpers.small import RECIPE, Teacher, digits, recipe
from tests.training.test_student import config_of, train

ALL = recipe(mix_until=9, erase_prob=0.6, rand_prob=1.0)
WEAK = recipe(mix_prob=0.0, teacher_view="weak", teacher_padding=1)
EVEN = recipe(sampler="class_balanced", repeats=1)


@pytest.fixture
def drawn(monkeypatch) -> set[tuple[int, ...]]:
    """Every block of random words that is asked for: (key, stream, block, position, epoch, family)."""
    seen: set[tuple[int, ...]] = set()
    arrays, tensors = rng.philox4x32, erase_torch.philox4x32

    def of_arrays(counter, key):
        seen.update((*key, *row) for row in counter.reshape(-1, 4).tolist())
        return arrays(counter, key)

    def of_tensors(counter, key):
        seen.update((*key, *row) for row in torch.stack(counter, 1).tolist())
        return tensors(counter, key)

    monkeypatch.setattr(rng, "philox4x32", of_arrays)
    monkeypatch.setattr(erase_torch, "philox4x32", of_tensors)
    return seen


def streams(blocks: set[tuple[int, ...]]) -> set[str]:
    names = {number: name for name, number in rng.STREAMS.items()}
    return {names[block[1]] for block in blocks}


def test_nothing_that_a_run_draws_is_drawn_in_another_family(drawn, tmp_path):
    """Order, views, weak views, mixing, erasing and stochastic depth, through the training loop."""
    found = []
    for family in (0, 1):
        for name, of in {"all": ALL, "weak": WEAK, "even": EVEN}.items():
            config = config_of(model={"drop_path": 0.5}, train={"epochs": 1})
            config = replace(config, views=replace(of, family=family))
            train(tmp_path / f"{name}{family}", config, digits(), Teacher(side=8))
        found.append(set(drawn))
        drawn.clear()
    expected = {"order", "view", "mix", "noise", "weak_view", "class_balanced", "drop_path"}
    assert streams(found[0]) == streams(found[1]) == expected
    assert found[0].isdisjoint(found[1])
    assert {block[-1] for block in found[0]} == {0} and {block[-1] for block in found[1]} == {1}
    assert {block[:-1] for block in found[0]} & {block[:-1] for block in found[1]}  # all but the family is alike


def test_the_views_of_two_families_have_nothing_in_common_but_their_distribution():
    data = digits()
    first, second, again = (Views(replace(ALL, family=f), data.train_images, 3) for f in (0, 1, 0))
    assert first.key == first.seed == second.seed == 3 and second.key == 3 + 2**32
    positions = np.arange(first.positions_per_epoch)
    one, other = (views.draws(1, positions) for views in (first, second))
    assert (first.order(1) != second.order(1)).mean() > 0.7
    for name in ("crop", "flip", "op", "magnitude", "negative", "erase"):
        assert not np.array_equal(getattr(one, name), getattr(other, name)), name
    assert abs(np.corrcoef(one.magnitude.ravel(), other.magnitude.ravel())[0, 1]) < 0.3
    a, b, c = (views.step(1, 0, digest=True) for views in (first, second, again))
    assert not torch.equal(a.lam, b.lam) and a.digest != b.digest
    assert torch.equal(a.x, c.x) and a.digest == c.digest
    words = [rng.draws(rng.of_family(0, family), "view", 0, np.arange(4000), 1)[:, 0] for family in (0, 1, 2)]
    assert np.abs(np.corrcoef(np.stack(words))[np.triu_indices(3, 1)]).max() < 0.06  # 1 / sqrt(4000) = .016


def test_the_family_is_the_last_word_of_philox_s_counter():
    counter = np.array([[0, 7, 5, 9]], np.uint32)  # block, position, epoch, family
    expected = rng.philox4x32(counter, (3, rng.STREAMS["mix"]))[0]
    np.testing.assert_array_equal(rng.draws(rng.of_family(3, 9), "mix", 5, [7], 4)[0], expected)
    np.testing.assert_array_equal(rng.draws(rng.of_family(3, 0), "mix", 5, [7], 4), rng.draws(3, "mix", 5, [7], 4))


def test_a_recipe_without_a_family_is_what_it_was():
    """Results and labels made before there were families stay those of their entry."""
    assert "family" not in plain(recipe()) and plain(recipe()) == RECIPE
    assert digest(recipe()) == digest(recipe(family=0)) == digest(RECIPE) != digest(recipe(family=1))
    kept = plain(recipe(family=1))
    assert kept == RECIPE | {"family": 1} and params.build(ViewRecipe, kept, "v") == recipe(family=1)
    with pytest.raises(UserError, match=r"views\.v: family must not be negative, found -1"):
        recipe(family=-1)
