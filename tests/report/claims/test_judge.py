"""The claims judged on constructed results: numbers, intervals, what is missing and what is damaged."""

from __future__ import annotations

import numpy as np
import pytest

from longtail.base import params
from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.claims.judge import Judged
from longtail.report.claims.measures import Measure
from tests.helpers.claims import AB, GROUPS, LABELS, T2, claim, decided, put, put_predictions
from tests.helpers.reporting import metrics_file

# --- verdicts


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([38, 39, 38], [30, 30, 31], "holds"),
        ([30, 30, 31], [38, 39, 38], "does not hold"),
        ([38, 30, 34], [30, 38, 33], "undecided"),
        ([30, 30, 30], [30, 30, 30], "undecided"),
    ],
)
def test_three_seeds_are_judged_over_seeds_and_images(tmp_path, a, b, verdict):
    """A model right on n of 40 in each class is right on all that a worse one is right on."""
    put_predictions(tmp_path, "a", [[n, n, n] for n in a])
    put_predictions(tmp_path, "b", [[n, n, n] for n in b])
    found = decided(AB, tmp_path)
    assert (found.verdict, found.seeds, found.covers) == (verdict, 3, "training seeds and test images")
    assert found.method == "paired, over 3 seeds and 120 test images" and found.reason == ""
    assert found.values == pytest.approx((100 * np.mean(a) / 40, 100 * np.mean(b) / 40)) and found.unit == "points"
    assert found.difference == pytest.approx(found.values[0] - found.values[1])


def test_the_interval_by_hand(tmp_path):
    """Of class 0, 30 and 20 of 40 right with every seed: d is 1 on 10 images. s^2 = 10/40 * 30/40 * 40/39, half the
    interval 2.022691 (t, 39 degrees of freedom) times s/sqrt(40): 14.0250 points."""
    put_predictions(tmp_path, "a", [[30, 9, 9]] * 3)
    put_predictions(tmp_path, "b", [[20, 9, 9]] * 3)
    head = claim({"entry": "a", "metric": "head"}, {"entry": "b", "metric": "head"})
    assert decided(head, tmp_path).interval == pytest.approx((25 - 14.0250, 25 + 14.0250), abs=1e-3)


def test_seeds_that_agree_on_few_images_decide_nothing(tmp_path):
    """Ours is 2 of 40 above with each of three seeds, without spread: t over seeds alone would call that certain."""
    put_predictions(tmp_path, "a", [[22, 30, 30]] * 3)
    put_predictions(tmp_path, "b", [[20, 30, 30]] * 3)
    found = decided(claim({"entry": "a", "metric": "head"}, {"entry": "b", "metric": "head"}), tmp_path)
    assert (found.verdict, found.told) == ("undecided", "undecided, points the claimed way")


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (38, 30, "points the claimed way"),
        (30, 38, "points the other way"),
        (31, 30, "points the claimed way"),
        (30, 30, "points neither way"),
    ],
)
@pytest.mark.parametrize(("seeds", "verdict"), [(1, "one run"), (2, "two runs")])
def test_fewer_than_three_seeds_have_a_direction_and_no_verdict(tmp_path, a, b, told, seeds, verdict):
    put_predictions(tmp_path, "a", [[a, a, a]] * seeds)
    put_predictions(tmp_path, "b", [[b, b, b]] * seeds)
    found = decided(AB, tmp_path)
    assert found.told == f"{verdict}, {told}" and found.difference == pytest.approx(100 * (a - b) / 40)
    assert found.method == f"paired bootstrap over 120 test images, {seeds} seed{'s' * (seeds > 1)}"
    assert (found.reason, found.covers) == ("other training seeds are not in the interval", "test images")
    low, high = found.interval
    assert low <= found.difference <= high and found.p is None


def test_groups_by_test_images(tmp_path):
    """Better on the head, worse on the tail: each group is judged by its own classes, one of each here."""
    put_predictions(tmp_path, "a", [[40, 20, 5], [38, 20, 5], [39, 20, 5]])
    put_predictions(tmp_path, "b", [[20, 20, 25], [22, 20, 25], [21, 20, 25]])
    found = {}
    for metric in ("head", "tail", "top1"):
        judged = decided(claim({"entry": "a", "metric": metric}, {"entry": "b", "metric": metric}), tmp_path)
        found[metric] = (judged.verdict, round(judged.difference, 4))
        assert judged.method == f"paired, over 3 seeds and {120 if metric == 'top1' else 40} test images"
    assert found == {"head": ("holds", 45.0), "tail": ("does not hold", -50.0), "top1": ("undecided", -1.6667)}


def test_seeds_alone_decide_nothing(tmp_path):
    """Three seeds, 10 points apart, and no predictions: how far another test set would move them is not known."""
    put(tmp_path, "a", [80.0, 81.0, 82.0])
    put(tmp_path, "b", [70.0, 71.0, 73.0])
    found = decided(AB, tmp_path)
    assert (found.told, found.covers) == ("undecided, points the claimed way", "training seeds")
    assert found.interval == pytest.approx((29 / 3 - 4.302653 / 3, 29 / 3 + 4.302653 / 3))  # 10, 10, 9: s = 1/sqrt(3)
    assert found.reason == "no predictions of single test images: the interval covers training seeds alone"


# --- not informative: 3 classes, chance is 33.3 %


def test_two_sides_below_chance_tell_nothing(tmp_path):
    """On the tail 10 and 0 of 40 are right, far apart; guessing gets 13."""
    put_predictions(tmp_path, "a", [[40, 40, 10]] * 3)
    put_predictions(tmp_path, "b", [[40, 40, 0]] * 3)
    tail = claim({"entry": "a", "metric": "tail"}, {"entry": "b", "metric": "tail"})
    found = decided(tail, tmp_path)
    assert (found.verdict, found.told, found.p) == ("not informative", "not informative", None)
    assert found.reason == ("neither side is above chance (33.3333 %); the lower side is never right in 1 of 1 classes")
    assert found.values == (25.0, 0.0) and found.interval[0] > 0
    assert decided(AB, tmp_path).verdict == "holds"  # over all classes both are above chance


def test_one_side_at_zero_and_the_other_well_above_chance_is_a_difference(tmp_path):
    put_predictions(tmp_path, "a", [[40, 40, 30]] * 3)
    put_predictions(tmp_path, "b", [[40, 40, 0]] * 3)
    found = decided(claim({"entry": "a", "metric": "tail"}, {"entry": "b", "metric": "tail"}), tmp_path)
    assert (found.verdict, found.reason) == ("holds", "the lower side is never right in 1 of 1 classes")


def test_two_runs_at_chance_tell_nothing_of_calibration(tmp_path):
    """ECE is no accuracy; both networks guess."""
    for entry in "ab":
        put(tmp_path, entry, [30.0, 33.0, 34.0])
    sides = [{"entry": entry, "metric": "ece"} for entry in "ab"]
    assert decided(claim(*sides), tmp_path).verdict == "not informative"


# --- whose numbers


def test_a_teacher_is_compared_with_the_weights_that_teach(tmp_path):
    put(tmp_path, "a", [80.0] * 3)
    put(tmp_path, "t", [80.0] * 3, "teacher")  # at the best epoch 1 more
    last, best = ({"teacher": "t", "weights": weights} for weights in ("last", "best"))
    assert decided(claim({"entry": "a"}, last), tmp_path).difference == 0
    assert decided(claim({"entry": "a"}, best), tmp_path).difference == -1


def test_each_head_has_its_own_predictions(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    path = tmp_path / "runs/s/a/predictions.npz"
    arrays = dict(np.load(path))
    arrays["seed0_last_cls"] = np.where(np.arange(120) % 2, LABELS, (LABELS + 1) % 3).astype(np.uint8)  # half are right
    np.savez(path, **arrays)
    found = metrics_file("a", "experiment", [95.0]) | {"groups": GROUPS}
    found["seeds"]["0"]["last"]["cls"]["top1"] = 50.0
    write_json(tmp_path / "metrics/s/a.json", found)
    judged = decided(claim({"entry": "a", "head": "avg"}, {"entry": "a", "head": "cls"}), tmp_path)
    assert (judged.verdict, judged.difference) == ("one run", 45.0) and judged.interval[0] > 0


def test_a_teacher_and_its_student(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "t", [[30, 30, 30], [9, 9, 9]], under="teachers")  # seed 1 has no student
    found = decided(claim({"entry": "a"}, {"teacher": "t"}), tmp_path)
    assert (found.verdict, found.difference, found.seeds) == ("one run", pytest.approx(20.0), 1)


# --- what is missing


def test_what_was_not_run_is_not_judged(tmp_path):
    put(tmp_path, "a", [80.0] * 3)
    found = decided(AB, tmp_path)
    assert found == Judged(AB, AB.full[0], False, "not yet run", reason="not run: b")
    neither = claim({"printed": {**T2, "method": "ViT"}}, {"printed": {**T2, "method": "DeiT"}}, study=None)
    found = decided(neither, tmp_path)
    assert (found.verdict, found.reason) == ("not yet run", "no run of ours tests it yet")


def test_one_run_without_predictions_has_no_interval(tmp_path):
    put(tmp_path, "a", [80.0, 90.0])
    put(tmp_path, "b", [70.0])
    found = decided(AB, tmp_path)
    assert (found.verdict, found.difference, found.interval) == ("one run", 10.0, None)  # seed 0 alone
    assert found.reason == "1 seed, and no predictions of single test images" and not found.method


def test_no_seed_in_common(tmp_path):
    put(tmp_path, "a", [80.0])
    shifted = metrics_file("b", "experiment", [70.0])
    shifted["seeds"] = {"7": shifted["seeds"]["0"]}
    write_json(tmp_path / "metrics/s/b.json", shifted)
    found = decided(AB, tmp_path)
    assert (found.verdict, found.reason, found.difference) == ("undecided", "no seed has both numbers", None)


def test_an_empty_group_has_no_number(tmp_path):
    for entry in "ab":
        found = metrics_file(entry, "experiment", [80.0] * 3, tail=None)
        write_json(tmp_path / f"metrics/s/{entry}.json", found)
    tail = claim({"entry": "a", "metric": "tail"}, {"entry": "b", "metric": "tail"})
    assert decided(tail, tmp_path).reason == "no seed has both numbers"


def test_a_class_of_one_test_image_is_not_resampled(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]])
    for entry in "ab":
        path = tmp_path / f"runs/s/{entry}/predictions.npz"
        arrays = dict(np.load(path)) | {"labels": np.append(LABELS[:-1], 3).astype(np.uint8)}
        np.savez(path, **arrays)
    assert decided(AB, tmp_path).reason.startswith("1 seed, and a class with a single test image; ")


# --- analyses


RANKS = {"a": (10, 12, 14), "b": (20, 22, 24)}


def put_ranks(reports) -> None:
    for entry, ranks in RANKS.items():
        folder = reports / "analysis/s" / entry
        folder.mkdir(parents=True)
        rows = [
            f"{s},{t},{b},both,{r + b + (50 if t == 'cls' else 0)}"
            for s, r in enumerate(ranks)
            for b in (0, 2)
            for t in ("cls", "dist")
        ]
        (folder / "feature_rank.csv").write_text("\n".join(["seed,token,block,centring,rank", *rows]) + "\n")


def test_an_analysis_is_the_mean_of_the_rows_chosen(tmp_path):
    put_ranks(tmp_path)
    side = {"metric": "feature_rank", "where": {"token": ["dist"]}}
    measure = params.build(Measure, {"entry": "a", **side}, "m")
    assert measure.by_seed("s", tmp_path) == {0: 11.0, 1: 13.0, 2: 15.0}  # blocks add 0 and 2
    found = decided(claim({"entry": "b", **side}, {"entry": "a", **side}), tmp_path)
    assert (found.difference, found.interval, found.unit) == (10.0, (10.0, 10.0), "directions")
    assert (found.told, found.covers) == ("undecided, points the claimed way", "training seeds")
    across = decided(claim({"entry": "a", **side, "where": {"token": ["cls"]}}, {"entry": "b", **side}), tmp_path)
    assert across.difference == 40.0
    absent = decided(claim({"entry": "a", **side, "where": {"block": ["9"]}}, {"entry": "b", **side}), tmp_path)
    assert (absent.verdict, absent.reason) == ("undecided", "no seed has both numbers")


def test_an_analysis_with_its_spread_over_images_is_judged(tmp_path):
    """Standard errors 3 and 4 over 5 and 6 images: 5 of the difference of 10, which no seed changes; t of 4 degrees."""
    put_ranks(tmp_path)
    side = {"metric": "feature_rank", "where": {"token": ["dist"], "centring": ["both"]}}
    for entry, stderr, n in (("a", 3, 5), ("b", 4, 6)):
        lines = [
            f"{s},feature_rank,,,{t},both,mean,{v},{n}" for s in range(3) for t, v in (("dist", stderr), ("cls", 9))
        ]
        text = "\n".join(["seed,metric,images,block,token,centring,rows,stderr,n", *lines]) + "\n"
        (tmp_path / "analysis/s" / entry / "image_spread.csv").write_text(text)
    pair = claim({"entry": "b", **side}, {"entry": "a", **side})
    found = decided(pair, tmp_path)
    half = 2.776445 * 5
    assert found.interval == pytest.approx((10 - half, 10 + half), abs=1e-4)
    assert (found.verdict, found.covers) == ("undecided", "training seeds and test images")
    one_block = {**side, "where": side["where"] | {"block": ["0"]}}  # of one block no spread is kept
    found = decided(claim({"entry": "b", **one_block}, {"entry": "a", **one_block}), tmp_path)
    assert (found.verdict, found.covers) == ("undecided", "training seeds")
    (tmp_path / "analysis/s/a/image_spread.csv").write_text("seed,metric,rows\n0,feature_rank,mean\n")
    with pytest.raises(UserError, match=r"image_spread\.csv: cut short, or no column"):
        decided(pair, tmp_path)


def test_entropy_and_accuracy_on_views_are_of_a_cache(tmp_path):
    folder = tmp_path / "analysis/s/teachers/c"
    folder.mkdir(parents=True)
    rows = [f"{s},{d},{v}" for s in range(2) for d, v in (("in", 0.1), ("out", 0.4))]
    (folder / "entropy_mean.csv").write_text("\n".join(["seed,domain,mean_nats", *rows]) + "\n")
    sides = [{"cache": "c", "metric": "entropy", "where": {"domain": [d]}} for d in ("out", "in")]
    found = decided(claim(*sides), tmp_path)
    assert found.difference == pytest.approx(0.3) and found.unit == "nats"
    assert (found.verdict, found.reason) == ("two runs", "2 seeds, and no number for single test images")
    values = {"schema": 1, "entry": "c", "kind": "cache", "study": "s", "teacher": "t"}
    seeds = {str(s): {"teacher_top1_on_views": 60.0 + s} for s in range(2)}
    summary = {"teacher_top1_on_views": {"mean": 60.5, "stderr": 0.5, "n": 2}}
    write_json(tmp_path / "metrics/s/caches/c.json", values | {"seeds": seeds, "summary": summary})
    views = Measure(cache="c", metric="teacher_top1_on_views")
    assert views.by_seed("s", tmp_path) == {0: 60.0, 1: 61.0}


def test_entropy_has_the_spread_of_its_images(tmp_path):
    """4 images at .25 and .75 nats, half of each: variance 1/12, of their mean 1/48. Both sides: root of 1/24."""
    folder = tmp_path / "analysis/s/teachers/c"
    folder.mkdir(parents=True)
    rows = [f"{s},{d},{v},4" for s in range(3) for d, v in (("in", 0.5), ("out", 5.0))]
    (folder / "entropy_mean.csv").write_text("\n".join(["seed,domain,mean_nats,n", *rows]) + "\n")
    bins = [f"{s},{d},{left},{left + 0.5},2" for s in range(3) for d in ("in", "out") for left in (0.0, 0.5)]
    (folder / "entropy.csv").write_text("\n".join(["seed,domain,bin_left,bin_right,count", *bins]) + "\n")
    sides = [{"cache": "c", "metric": "entropy", "where": {"domain": [d]}} for d in ("out", "in")]
    found = decided(claim(*sides), tmp_path)
    half = 3.182446 * (1 / 24) ** 0.5  # t, 3 degrees of freedom; no spread over seeds
    assert found.interval == pytest.approx((4.5 - half, 4.5 + half)) and found.verdict == "holds"
    assert (found.method, found.covers) == (
        *("paired, over 3 seeds and the spread of 4 images", "training seeds and test images"),
    )
    (folder / "entropy.csv").write_text("seed,domain\n0,in\n")
    with pytest.raises(UserError, match=r"entropy\.csv: cut short, or no column"):
        decided(claim(*sides), tmp_path)


def test_epochs_to_95_percent_by_hand(tmp_path):
    """Of .60 after the last epoch 95 % is .57: reached in epoch 5 (the sixth) by seed 0, in epoch 2 by seed 1."""
    folder = tmp_path / "analysis/s/a"
    folder.mkdir(parents=True)
    values = {0: {2: 50.0, 5: 57.0, 8: 60.0}, 1: {2: 58.0, 5: 40.0, 8: 60.0}}
    rows = [f"{s},{e},1.0,,{values[s].get(e, '')}" for s in (0, 1) for e in range(9)]
    (folder / "curves.csv").write_text("\n".join(["seed,epoch,loss,test_top1_cls,test_top1_avg", *rows]) + "\n")
    measure = Measure(entry="a", metric="epochs_to_95")
    assert measure.by_seed("s", tmp_path) == {0: 6.0, 1: 3.0} and measure.unit == "epochs"


def test_the_smallest_of_the_rows(tmp_path):
    put_ranks(tmp_path)
    side = {"metric": "feature_rank", "where": {"token": ["dist"]}, "rows": "min"}
    assert params.build(Measure, {"entry": "a", **side}, "m").by_seed("s", tmp_path) == {0: 10.0, 1: 12.0, 2: 14.0}


def test_a_gain_beside_a_gain_of_another_study(tmp_path):
    """40 - 20 of 40 in study s against 30 - 25 in study t: 50 points against 12.5, with every seed."""
    for study, a, b in (("s", 40, 20), ("t", 30, 25)):
        put_predictions(tmp_path, "a", [[a, 30, 30]] * 3)
        put_predictions(tmp_path, "b", [[b, 30, 30]] * 3)
        for folder in ("metrics", "runs"):
            (tmp_path / folder / "s").rename(tmp_path / folder / study) if study == "t" else None
        if study == "s":
            for folder in ("metrics", "runs"):
                (tmp_path / folder / "s").rename(tmp_path / folder / "kept")
    for folder in ("metrics", "runs"):
        (tmp_path / folder / "kept").rename(tmp_path / folder / "s")
    for path in (tmp_path / "metrics/t").glob("*.json"):
        path.write_text(path.read_text().replace('"study": "s"', '"study": "t"'))
    side = {"entry": "a", "minus": {"entry": "b"}, "metric": "head"}
    found = decided(claim(side, side | {"study": "t"}), tmp_path)
    assert found.values == (50.0, 12.5) and found.verdict == "holds" and found.reason == ""
    lacking = decided(claim(side, {**side, "study": "t", "minus": {"entry": "c"}}), tmp_path)
    assert lacking.reason == "not run: c"


# --- damaged files


def test_a_damaged_analysis_is_named(tmp_path):
    put_ranks(tmp_path)
    path = tmp_path / "analysis/s/a/feature_rank.csv"
    side = {"metric": "feature_rank", "where": {"token": ["dist"]}}
    pair = claim({"entry": "a", **side}, {"entry": "b", **side})
    for text in (path.read_text()[:-2] + "x\n", "seed,block\n0,1\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"feature_rank\.csv: cut short, or no column"):
            decided(pair, tmp_path)


def test_damaged_predictions_are_named(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]])
    path = tmp_path / "runs/s/a/predictions.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"a/predictions\.npz: cut short or damaged"):
        decided(AB, tmp_path)
    np.savez(path, labels=LABELS)
    with pytest.raises(UserError, match=r"a/predictions\.npz: no 'seed0_last_avg' in it"):
        decided(AB, tmp_path)


def test_predictions_of_another_training_are_refused(tmp_path):
    """Those of `a` were made before it was trained again."""
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]])
    put(tmp_path, "a", [90.0])
    with pytest.raises(UserError, match=r"a and b differ by 20\.00, by their metrics by 15\.00; run stages/evaluate"):
        decided(AB, tmp_path)


def test_predictions_of_another_test_set_are_refused(tmp_path):
    put_predictions(tmp_path, "a", [[38, 38, 38]])
    put_predictions(tmp_path, "b", [[30, 30, 30]], labels=LABELS[::-1])
    with pytest.raises(UserError, match="a and b: predictions of different test sets"):
        decided(AB, tmp_path)


def test_a_head_that_is_not_there(tmp_path):
    put(tmp_path, "a", [80.0])
    with pytest.raises(UserError, match="a has no head 'dist'"):
        decided(claim({"entry": "a", "head": "dist"}, {"entry": "a"}), tmp_path)
