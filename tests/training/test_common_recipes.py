"""The studies that put every method on one long tail: what they share with a paper is held to it, number by number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtail.base import params
from longtail.cost.workload import Workload
from longtail.training.entry_probe import check_sources
from longtail.training.experiment import resolve
from longtail.training.labeller import check_shown
from longtail.training.pretraining_config import resolve_pretraining
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import epoch_size, learning_rate
from longtail.views.recipe import ViewRecipe
from tests.helpers.root import ROOT, params_table

TABLE = params_table()
FULL = Workload(TABLE)
STUDIES = ("common-digits", "common-cifar100_if100")


def views(name: str) -> ViewRecipe:
    return params.build(ViewRecipe, TABLE["views"][name], name)


def teacher(name: str) -> TeacherConfig:
    return params.build(TeacherConfig, TABLE["teachers"][name], name)


@pytest.mark.parametrize(
    ("ours", "theirs", "changed"),
    [
        ("common-digits", "digits", {}),
        ("common-digits-mix_always", "digits-mix_always", {}),
        ("common-digits-mgp", "digits", {"rand_ops": 0, "erase_prob": 0.0, "repeats": 1, "mix_prob": 0.0}),
        ("common-digits-livt", "digits", {"repeats": 1, "mix_until": 40}),
        ("common-digits-cbd", "digits", {"teacher_normalization": "none", "teacher_renormalize": True}),
        ("common-cifar", "cifar", {}),
        ("common-cifar-mix_always", "cifar-mix_always", {}),
        ("common-cifar-cbd", "cifar", {"teacher_normalization": "none", "teacher_renormalize": True}),
        ("common-cifar-mgp", "livt-mgp-imagenet_lt", {"normalization": "imagenet"}),
        ("common-cifar-livt", "livt-imagenet_lt", {"normalization": "imagenet", "mix_until": 400}),
    ],
)
def test_views_are_a_papers_but_for_what_is_said(ours, theirs, changed):
    assert views(ours) == replace(views(theirs), **changed)


@pytest.mark.parametrize(
    ("ours", "theirs", "model", "train"),
    [
        ("common-digits", "digits", {}, {}),
        ("common-b", "cifar-b", {}, {}),
        ("common-mgp-b", "livt-mgp-b", {}, {"lr": 6e-4}),  # at batch 1024, as imagenet_lt-mgp-b
        ("common-livt-b", "livt-b", {}, {"epochs": 400, "eval_every": 25}),
        ("common-digits-mgp", "digits-mgp", {"image_size": 24, "patch_size": 6}, {"epochs": 80}),
        (
            *("common-digits-livt", "digits-livt"),
            {"image_size": 24, "patch_size": 6, "drop_path": 0.1},
            {"eval_resize": 24},
        ),
    ],
)
def test_recipes_are_a_papers_but_for_what_is_said(ours, theirs, model, train):
    blocks = TABLE["recipes"][theirs]
    assert TABLE["recipes"][ours] == {"model": blocks["model"] | model, "train": blocks["train"] | train}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("common-digits-vit", "digits-vit"),
        ("common-digits-deit_lt", "digits-deit_lt"),
        ("common-cifar100_if100-vit-b", "cifar100_if100-vit-b"),
        ("common-cifar100_if100-deit_lt_paco_sam-b", "cifar100_if100-deit_lt_paco_sam-b"),
    ],
)
def test_an_experiment_is_the_papers_under_another_name(ours, theirs):
    """And with other seeds; its cache is of the same teacher, or, of the digits, of that one's last epoch."""
    a, b = (resolve(TABLE, name)[0] for name in (ours, theirs))
    assert (a.method, a.loss, a.model, a.train, a.views) == (b.method, b.loss, b.model, b.train, b.views)
    if "cifar" in ours:
        assert a.dataset == b.dataset
    if a.cache != "none":
        mine, its = (TABLE["caches"][name] for name in (a.cache, b.cache))
        renamed = {key: mine[key] for key in ("study", "dataset", "seeds", "views", "teacher")}
        assert its | renamed == mine and mine["teacher"] in (its["teacher"], f"common_{its['teacher']}-again")


def test_the_students_of_a_study_differ_in_their_teacher_alone():
    for names in (
        [f"common-digits-deit_lt{kind}" for kind in ("", "_dive", "_cbd_ens")],
        [f"common-cifar100_if100-deit_lt_{kind}-b" for kind in ("paco_sam", "dive", "cbd_ens")],
    ):
        found = [resolve(TABLE, name)[0] for name in names]
        plain = [
            replace(
                c,
                experiment="",
                cache="",
                views=replace(c.views, teacher_renormalize=False, teacher_normalization="cifar"),
            )
            for c in found
        ]
        assert plain[0] == plain[1] == plain[2] and len({c.cache for c in found}) == 3


@pytest.mark.parametrize("study", STUDIES)
def test_every_student_is_shown_to_a_teacher_that_can_bear_it(study):
    """Of its seeds, its epochs, its data set and its normalisation; CBD's alone is brought back to pixels / 255."""
    for name, block in TABLE["experiments"].items():
        if block["study"] != study or block["cache"] == "none":
            continue
        cache = TABLE["caches"][block["cache"]]
        of = teacher(cache["teacher"])
        check_shown(ROOT / name, of.normalization, views(cache["views"]))
        assert views(cache["views"]).teacher_renormalize == ("cbd" in cache["teacher"])
        assert (cache["views"], cache["dataset"], cache["seeds"]) == (block["views"], block["dataset"], block["seeds"])
        assert of.dataset == block["dataset"] and set(block["seeds"]) <= set(of.seeds)
        assert cache["epochs"] == resolve(TABLE, name)[0].train.epochs


@pytest.mark.parametrize("name", [n for n, block in TABLE["teachers"].items() if block["study"] in STUDIES])
def test_what_is_tested_again_has_the_network_of_its_source(name):
    config = teacher(name)
    check_sources(TABLE, name, config)
    assert config.select == "last"
    assert (config.epochs == 0) == ("again" in name and "ldam" not in name)
    if config.epochs:
        return
    first, source = config.sources[0], teacher(config.sources[0])
    assert name in (f"common_{first}-again", first.replace("-", "_again-", 1))
    for key in ("arch", "scale", "projection", "normalization", "loss"):
        assert getattr(config, key) == getattr(source, key), key


def test_the_miniatures_teacher_is_the_roots_at_its_last_epoch():
    ours, root = teacher("common_ldam_drw_sam-digits_if20-again"), teacher("ldam_drw_sam-digits_if20")
    assert ours == replace(root, study="common-digits", dataset="digits_if20-again", select="last", seeds=(0, 1, 2, 3))
    a, b = (params.plain(TABLE["datasets"][name]) for name in ("digits_if20-again", "digits_if20"))
    assert a == b


def test_cbd_on_cifar_is_its_miniature_with_the_other_networks_batch_and_epochs():
    """84 whole batches of 128 an epoch, half a cosine from .1 = .2 x 128 / 256 over all 16,800 steps."""
    for kind in ("instance", "instance_2", "instance_aug", "instance_aug_2", "cbd", "cbd_ens"):
        ours, mini = teacher(f"{kind}-cifar100_if100"), teacher(f"{kind}-cifar10_if100-mini")
        sources = tuple(s.replace("cifar10_if100-mini", "cifar100_if100") for s in mini.sources)
        changed = {"study": ours.study, "dataset": "cifar100_if100", "epochs": 200, "batch_size": 128, "lr": 0.1}
        assert ours == replace(mini, **changed, seeds=(0,), sources=sources)
    config = teacher("cbd_ens-cifar100_if100")
    assert epoch_size(config, 10_847) == (84, 84 * 128)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1, rel=1e-12)
    assert learning_rate(config, 100, 0.0) == pytest.approx(0.05, rel=1e-12)
    assert (config.distil.alpha, config.distil.beta, config.projection) == (0.4, 100.0, 4 * 64)


def test_one_transformer_and_one_budget():
    """Width, depth, patches and epochs; LiVT's are 80 + 40 of 120 in miniature, 800 + 400 of 1,200."""
    for study, tail, split, steps in (
        ("common-digits", "", (80, 40), {"mgp": (6, 64), "livt": (6, 64), "vit": (6, 64)}),
        ("common-cifar100_if100", "-b", (800, 400), {"mgp": (10, 1024), "livt": (21, 512), "vit": (11, 1024)}),
    ):
        mgp, _ = resolve_pretraining(TABLE, f"{study}-mgp{tail}")
        found = {kind: resolve(TABLE, f"{study}-{kind}{tail}")[0] for kind in ("vit", "livt")} | {"mgp": mgp}
        sizes = {
            tuple(getattr(c.model, k) for k in ("image_size", "patch_size", "dim", "depth", "heads"))
            for c in found.values()
        }
        assert len(sizes) == 1 and (mgp.train.epochs, found["livt"].train.epochs) == split
        assert sum(split) == found["vit"].train.epochs
        for kind, (number, batch) in steps.items():
            section = "pretrainings" if kind == "mgp" else "experiments"
            layout = FULL.layout(TABLE[section][f"{study}-{kind}{tail}"]["views"], found[kind].dataset)
            of = found[kind].views
            assert (layout.steps, of.mix_group * of.virtual_world * of.accumulate) == (number, batch), kind
    livt, mgp = found["livt"], found["mgp"]
    assert (livt.train.lr, mgp.train.lr, livt.train.layer_decay, livt.loss.loss) == (1e-3, 6e-4, 0.75, "bal_bce")
    assert mgp.train.lr == pytest.approx(1.5e-4 * 1024 / 256) and livt.loss.smoothing == 0.1
