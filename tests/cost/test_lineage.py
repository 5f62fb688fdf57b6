"""What a run takes with all that it needs: by hand on the cross-paper studies."""

from __future__ import annotations

import pytest

from longtail.base.errors import UserError
from longtail.cost.lineage import cost, needed, own
from longtail.cost.workload import Workload
from tests.helpers.root import params_table

TABLE = params_table()
FULL = Workload(TABLE)


def test_a_student_of_an_ensembles_student_goes_back_to_every_teacher():
    found = list(needed(TABLE, ("train_student", "common-digits-deit_lt_cbd_ens")))
    four = [f"{kind}-digits_if20" for kind in ("instance", "instance_2", "instance_aug", "instance_aug_2")]
    teachers = [("train_teacher", name) for name in (*four, "cbd_ens-digits_if20", "common_cbd_ens-digits_if20-again")]
    made = [("cache_logits", "cbd_ens-common-digits"), ("train_student", "common-digits-deit_lt_cbd_ens")]
    assert found == [*teachers, *made]


def test_who_is_needed_twice_counts_once():
    """Fine-tuning of the NCM classifier's network; CBD's teacher is among the ensemble's."""
    table = {
        "teachers": {
            "a": {"sources": ["none"] * 5},
            "b": {"sources": ["a", "none", "none", "none", "none"]},
            "c": {"sources": ["a", "b", "none", "none", "none"], "start": {"train": "nothing"}},
        }
    }
    assert [name for _, name in needed(table, ("train_teacher", "c"))] == ["a", "b", "c"]
    assert [name for _, name in own(table, ("train_teacher", "c"))] == ["c", "a", "b"]
    assert [name for _, name in own(table, ("train_teacher", "b"))] == ["b"]  # a teaches it, its weights are its own


def test_the_budget_of_the_transformers_is_one():
    """120 epochs of 384 views, LiVT's in 80 of pretraining and 40; the same but for DIST's token, position and head."""
    costs = {
        name: cost(FULL, "train_student", f"common-digits-{name}")
        for name in ("vit", "livt", "deit_lt", "deit_lt_dive", "deit_lt_cbd_ens")
    }
    assert {found.views for found in costs.values()} == {46_080}
    more = costs["deit_lt"].params - costs["vit"].params
    assert more == 64 + 64 + 64 * 10 + 10 and costs["livt"].params == costs["vit"].params
    assert costs["vit"].total == costs["vit"].flop
    made = [("pretrain", "common-digits-mgp"), ("train_student", "common-digits-livt")]
    assert costs["livt"].flop == costs["livt"].total == sum(FULL.of(*each).flop for each in made)
    alone = [costs[name].flop for name in ("deit_lt", "deit_lt_dive", "deit_lt_cbd_ens")]
    assert len(set(alone)) == 1 and costs["deit_lt_cbd_ens"].total > costs["deit_lt_dive"].total > alone[0]


def test_the_total_is_the_sum_of_what_is_made():
    found = cost(FULL, "train_student", "common-digits-deit_lt_dive")
    parts = [("train_teacher", f"{name}-digits_if20") for name in ("balanced_softmax", "dive")]
    parts += [("train_teacher", "common_dive-digits_if20-again"), ("cache_logits", "dive-common-digits")]
    assert found.total == found.flop + sum(FULL.of(*part).flop for part in parts)


def test_a_network_that_is_tested_again_was_trained_as_long_as_it_was():
    """50 epochs of 438 images; CBD's of 13 batches of 32; SAM goes there and back twice."""
    views = {
        name: cost(FULL, "train_teacher", f"common_{name}-digits_if20-again").views
        for name in ("ldam_drw_sam", "balanced_softmax", "dive", "cbd", "cbd_ens")
    }
    assert views == {
        "ldam_drw_sam": 43_800,
        "balanced_softmax": 21_900,
        "dive": 21_900,
        "cbd": 20_800,
        "cbd_ens": 20_800,
    }


@pytest.mark.parametrize(("student", "teachers"), [("cbd", 1), ("cbd_ens", 4)])
def test_the_passes_of_every_teacher_are_in_a_students_own_training(student, teachers):
    """Which an entry's `start: null` does not hide: 200 epochs of 84 batches of 128."""
    alone, taught = (cost(FULL, "train_teacher", f"{name}-cifar100_if100").flop for name in ("instance", student))
    passes = teachers * 200 * 84 * 128 * 2 * FULL.teacher_shape("instance-cifar100_if100").macs
    assert taught - alone == pytest.approx(passes, rel=0.02)  # the projection of the ensemble's student among it


def test_an_entry_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"experiments\.common-digits-vitt: no such entry"):
        cost(FULL, "train_student", "common-digits-vitt")
