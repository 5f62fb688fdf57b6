"""Sections of a run's page that tell how classes of different size fare, from diagnostics.json and the metrics file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from longtail.evaluation.metrics import AUTHOR_GROUPS, COUNT_GROUPS
from longtail.report.figures import charts
from longtail.report.pages.sections import Section, Table, chart, estimate, table

HEADS = {"cls": "CLS", "dist": "DIST", "avg": "Average"}
MOST_FREQUENT = 5
LARGEST_TABLE = 12  # classes up to which a confusion matrix is also a table
SCALARS = {"top1": "Top-1", "ece": "ECE"}  # the others are in the metrics file
SHIFTS = {
    "raw": "as trained",
    "from_train_prior": "train → test prior",
    "from_uniform": "uniform → test prior",
}


def heads(found: Mapping[str, object]) -> dict[str, str]:
    """{key: name} of the heads to show; a network with one head has no CLS and no average."""
    return HEADS if "dist" in found else {"cls": "Classifier"}


def accuracy(diagnosed: dict, metrics: dict | None) -> Section:
    """Bars by group (author rule), points by class, and tables with both rules, last and best epoch apart."""
    named = heads(diagnosed["heads"])
    summary = {g: {n: diagnosed["heads"][h]["accuracy"][g] for h, n in named.items()} for g in ("all", *AUTHOR_GROUPS)}
    seeds, tables = {}, []
    if metrics is not None:
        keys = {"all": "top1", **{g: g for g in AUTHOR_GROUPS}}
        per_seed = [seed["last"] for seed in metrics["seeds"].values()]
        seeds = {g: {n: [s[h][key] for s in per_seed] for h, n in named.items()} for g, key in keys.items()}
        tables = [_metrics(metrics, "last", "Last epoch: the result."), _metrics(metrics, "best", _best(metrics))]
        if "validation" in metrics["summary"]:
            chosen = (
                f"Epoch chosen on validation images (epoch {_epochs(metrics, 'validation')}), not by any test image."
            )
            tables.append(_metrics(metrics, "validation", chosen))
    rule = ", ".join(f"{g} {len(classes)}" for g, classes in diagnosed["groups"]["author"].items())
    classes = {n: diagnosed["heads"][h]["per_class"] for h, n in named.items()}
    by_size = charts.per_class(diagnosed["class_names"], diagnosed["class_counts"], classes)
    caption = "By class group, last epoch. Bars: mean over seeds, with one standard error; dots: seeds."
    drawn = [
        chart("groups-chart", caption, charts.groups(summary, seeds)),
        chart(
            "classes-chart", "Each class against its number of training images, last epoch, mean over seeds.", by_size
        ),
    ]
    return Section(
        "groups",
        "Accuracy by class size",
        f"Head, mid and tail are the authors' split by class index (classes: {rule}); many, medium and few are split "
        "by training images (over 100, 20 to 100, under 20). A group's accuracy is the mean of its classes'.",
        drawn,
        tables,
    )


def _epochs(metrics: dict, phase: str) -> str:
    return ", ".join(str(seed[phase]["epoch"] + 1) for seed in metrics["seeds"].values())


def _best(metrics: dict) -> str:
    epochs = _epochs(metrics, "best")
    return f"Best epoch on the test set (epoch {epochs}): the protocol of DeiT-LT and LiVT, not the result."


def _metrics(metrics: dict, phase: str, caption: str) -> Table:
    columns = {**SCALARS, **{g: g.capitalize() for g in (*AUTHOR_GROUPS, *COUNT_GROUPS)}}
    found = metrics["summary"][phase]
    rows = [(name, *(estimate(found[h][c]) for c in columns)) for h, name in heads(found).items()]
    return table(caption, ("Output", *columns.values()), rows)


def flows(diagnosed: dict) -> Section:
    """Where the test images of head, mid and tail go; the most frequent confusions."""
    named, names = heads(diagnosed["heads"]), diagnosed["class_names"]
    missing = dict.fromkeys(AUTHOR_GROUPS, np.nan)
    drawn = []
    for head, name in named.items():
        found = diagnosed["heads"][head]["flows"]["author"]
        shares = np.array([[(found[g] or missing)[other] for other in AUTHOR_GROUPS] for g in AUTHOR_GROUPS], float)
        caption = _of(name, named, "group predicted, % of the true group.")
        drawn.append(chart(f"flows-{head}", caption, charts.matrix(AUTHOR_GROUPS, shares, 2.0)))
    rows = [
        (names[c["true"]], names[c["predicted"]], c["images"], _images(diagnosed, c["true"]))
        for c in diagnosed["heads"][list(named)[-1]]["confusion"]["frequent"][:MOST_FREQUENT]
    ]
    caption = _of(list(named.values())[-1], named, "most frequent confusions, all seeds together.")
    listed = table(caption, ("True class", "Predicted", "Test images", "of"), rows)
    text = (
        "How much of the tail is taken for the head: the lower left of a matrix is tail lost to the head. Test images "
        "of all seeds together; a group is the mean of its classes."
    )
    return Section("flows", "Tail into head", text, drawn, [listed])


def confusion(diagnosed: dict) -> Section | None:
    """A heat map for each head; None of so many classes that diagnostics.json keeps no matrix."""
    named, names = heads(diagnosed["heads"]), diagnosed["class_names"]
    drawn = []
    for head, name in named.items():
        counts = diagnosed["heads"][head]["confusion"]["counts"]
        if counts is None:
            return None
        images = np.array(counts, float)
        total = images.sum(1, keepdims=True)
        shares = np.divide(100.0 * images, total, out=np.full_like(images, np.nan), where=total > 0)
        caption = _of(name, named, "class predicted, % of the true class.")
        drawing = charts.matrix(names, shares)
        drawn.append(chart(f"confusion-{head}", caption, drawing, numbers=len(names) <= LARGEST_TABLE))
    text = "Classes in the dataset's order. Test images of all seeds together."
    return Section("confusion", "Confusion of classes", text, drawn)


def _images(diagnosed: dict, true: int) -> int:
    """Test images of a class, times the seeds."""
    return diagnosed["test_counts"][true] * len(diagnosed["seeds"])


def _of(name: str, named: Mapping[str, str], text: str) -> str:
    """A caption that names the head where there are several."""
    return f"{name}: {text}" if len(named) > 1 else text[0].upper() + text[1:]


def reliability(diagnosed: dict) -> Section:
    named, shown_groups = heads(diagnosed["heads"]), ("all", *AUTHOR_GROUPS)
    drawn = []
    for group in shown_groups:
        bins = {name: diagnosed["heads"][head]["reliability"][group] for head, name in named.items()}
        caption = f"{'All classes' if group == 'all' else group.capitalize()}: accuracy by confidence, 15 bins."
        drawn.append(chart(f"reliability-{group}", caption, charts.reliability(bins)))
    rows = [
        (name, *(estimate(diagnosed["heads"][head]["reliability"][group]["ece"]) for group in shown_groups))
        for head, name in named.items()
    ]
    listed = table(
        "Expected calibration error in %, mean over seeds.", ("Output", *(g.capitalize() for g in shown_groups)), rows
    )
    text = "Below the diagonal a head is more confident than right. A marker's area grows with its bin's images."
    return Section("reliability", "Reliability by class group", text, drawn, [listed])


def shifts(diagnosed: dict) -> Section:
    drawn = []
    named = heads(diagnosed["heads"])
    for head, name in named.items():
        found = diagnosed["heads"][head]["shifts"]
        tests = [t["direction"] if t["factor"] == 1 else f"{t['direction'][0].upper()}{t['factor']}" for t in found]
        series = {text: {of: [t[key][of] for t in found] for of in ("mean", "stderr")} for key, text in SHIFTS.items()}
        drawing = charts.lines(tests, series, "Test distribution", "Top-1 (%)")
        drawn.append(chart(f"shifts-{head}", _of(name, named, "expected accuracy."), drawing))
    return Section(
        "shifts",
        "Shifted test distributions",
        "F50 is as long-tailed as a training set of imbalance factor 50, B50 its reverse. Expected accuracy over all "
        "such test sets drawn from the test images: each class's accuracy, weighted by its share. A correction "
        "knows the test prior; coming from the training prior it suits plain cross-entropy, from a uniform one a loss "
        "that balances.",
        drawn,
    )
