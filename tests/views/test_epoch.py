from __future__ import annotations

import numpy as np
import pytest

from longtail.base import rng
from longtail.views.epoch import Layout


def layout(images, repeats=3, ranks=2, group=128, accumulate=4, round_to=256) -> Layout:
    return Layout(images, repeats, ranks, group, accumulate, round_to)


@pytest.mark.parametrize(
    ("images", "views", "micro_batches", "steps"),
    [(12406, 12288, 48, 12), (13996, 13824, 54, 14), (10847, 10752, 42, 11), (12608, 12544, 49, 13)],
)
def test_published_lengths_on_two_ranks(images, views, micro_batches, steps):
    of = layout(images)
    assert (of.positions, of.views_per_rank, of.micro_batches, of.steps) == (views, views // 2, micro_batches, steps)


def test_last_step_of_cifar100_has_two_micro_batches_a_rank():
    of = layout(10847)
    assert [len(of.groups_of_step(s)) for s in range(11)] == [8] * 10 + [4]


@pytest.mark.parametrize(
    ("images", "options"),
    [(12406, {}), (1001, {"round_to": 0, "group": 64}), (97, {"ranks": 4, "group": 6, "round_to": 0, "repeats": 2})],
)
def test_order_equals_a_literal_walk_through_the_sampler(images, options):
    of = layout(images, **options)
    order, repeats, ranks = of.order(5, 9), of.repeats, of.ranks
    stream = [i for i in rng.permutation(5, "order", 9, images).tolist() for _ in range(repeats)]
    while len(stream) % ranks:
        stream.append(stream[len(stream) - images * repeats])
    per_rank = int(images // 256 * 256 / ranks) if of.round_to else -(-images // ranks)
    per_rank -= (per_rank % of.group) % 2
    queues = [stream[r::ranks][:per_rank] for r in range(ranks)]
    literal = []
    while any(queues):
        for r in range(ranks):
            literal += queues[r][: of.group]
            queues[r] = queues[r][of.group :]
    np.testing.assert_array_equal(order, literal)
    assert len(order) == of.positions


def test_two_ranks_see_two_one_two_one_copies():
    of = layout(12406)
    first = of.order(0, 0)[: of.group]
    runs = np.diff(np.flatnonzero(np.diff(first, prepend=-1, append=-1)))
    assert runs[:6].tolist() == [2, 1, 2, 1, 2, 1]


BY_RANKS = {  # the published step of one, two and four ranks: the first 16 views of the stream aaabbbcccdddeeefff...
    (1, 4): "aaab bbcc cddd eeef",  # positions 0 1 2 3, 4 5 6 7, ...
    (2, 2): "aabc abbc cdee ddef",  # rank 0: 0 2 4 6, rank 1: 1 3 5 7, then 8 10 12 14 and 9 11 13 15
    (4, 1): "abce abde acde bcdf",  # rank 0: 0 4 8 12, rank 1: 1 5 9 13, rank 2: 2 6 10 14, rank 3: 3 7 11 15
}


@pytest.mark.parametrize(("ranks", "accumulate"), BY_RANKS)
def test_what_ranks_do_to_the_copies_by_hand(ranks, accumulate):
    """Groups of 4, 16 views a step. Three copies stand in one group, in two, in three; a step has the same images."""
    of = layout(18, ranks=ranks, group=4, accumulate=accumulate, round_to=16)
    letters = dict(zip(rng.permutation(3, "order", 0, 18).tolist(), "abcdefghijklmnopqr", strict=True))
    order = [letters[image] for image in of.order(3, 0).tolist()]
    assert of.steps == 1
    assert ["".join(order[group]) for group in of.groups_of_step(0)] == BY_RANKS[ranks, accumulate].split()


@pytest.mark.parametrize("images", [12406, 10847])
def test_at_one_batch_the_ranks_change_groups_and_nothing_else(images):
    """Every step of CIFAR-LT has the same views of the same images at 1, 2 and 4 ranks, the incomplete last one too."""
    layouts = [layout(images, ranks=ranks, accumulate=8 // ranks) for ranks in (1, 2, 4)]
    assert len({(of.positions, of.steps) for of in layouts}) == 1
    orders = [of.order(0, 7) for of in layouts]
    for step in range(layouts[0].steps):
        groups = [of.groups_of_step(step) for of in layouts]
        assert len({len(found) for found in groups}) == 1
        shown = [np.sort(order[found[0].start : found[-1].stop]) for order, found in zip(orders, groups, strict=True)]
        assert all(np.array_equal(shown[0], other) for other in shown[1:])
    copies = [np.bincount(order[:128]).max() for order in orders]
    assert copies == [3, 2, 1]


@pytest.mark.parametrize(
    "of", [layout(10847), layout(75, group=16, round_to=0), layout(31, ranks=3, group=4, round_to=0)]
)
def test_groups_tile_the_epoch_in_order_and_are_even(of):
    groups = [g for step in range(of.steps) for g in of.groups_of_step(step)]
    assert [g.start for g in groups] == [0] + [g.stop for g in groups[:-1]]
    assert groups[-1].stop == of.positions
    assert all((g.stop - g.start) % 2 == 0 for g in groups)
    assert [of.group_number(g) for g in groups] == list(range(len(groups)))


def test_an_odd_rank_stream_loses_one_view():
    assert layout(75, round_to=0).views_per_rank == 38  # ceil(75 / 2), even
    assert layout(73, round_to=0).views_per_rank == 36  # ceil(73 / 2) = 37
    assert layout(200).views_per_rank == 100  # fewer images than round_to: no rounding


def test_lr_is_read_at_the_start_of_windows_and_at_the_last_batch():
    assert [layout(12406).lr_fraction(s) * 48 for s in range(12)] == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 47]
    assert layout(10847).lr_fraction(10) == 41 / 42
    assert layout(64, group=32, round_to=0).lr_fraction(0) == 0


def test_a_step_out_of_range_raises():
    with pytest.raises(IndexError):
        layout(12406).groups_of_step(12)
