"""What a figure says of the runs that it shows: their data, networks, epochs and seeds, in a sentence of its caption;
the names of classes, and what was predicted for the images that it shows. From reports/runs and reports/metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from longtail.base import csv_file
from longtail.evaluation.metrics import AUTHOR_GROUPS
from longtail.report.figures.rollout import Said
from longtail.report.reading import diagnostics, network, run_record, top1
from longtail.report.results import Results
from longtail.report.study import Item, StudyConfig

MANY = 6  # entries; more that are alike are not named one by one


def sentence(
    study: StudyConfig,
    figure: str,
    labels: Collection[str],
    results: Results,
    titles: Mapping[str, str],
    analysis: Path | None = None,
) -> str:
    """`Data: …. <labels>: network, epochs, seeds. …` of the entries that the figure shows, as far as it is recorded;
    empty where nothing is.

    labels: what the drawing's rows begin with; entries that are not among them are left out, unless none is (panels of
    several). titles: {data set: what it is called}. analysis: of the study, where pretrainings have their curves.
    """
    shown = study.shown(figure)
    drawn = tuple(item for item in shown if item.label in labels) or shown
    runs = {**results.teachers, **results.experiments}
    facts: dict[str, list[str]] = {}
    data: dict[str, None] = {}
    for item in drawn:
        name = results.caches[item.name]["teacher"] if item.name in results.caches else item.name
        if name in runs:
            data[_data(runs[name], titles)] = None
            facts.setdefault(_facts(name, runs[name], results), []).append(item.label)
        elif text := _pretrained(name, results, analysis):
            facts.setdefault(text, []).append(item.label)
    if not data:  # of pretrainings: what the study's own runs have been trained on
        data = dict.fromkeys(_data(found, titles) for found in runs.values())
    most = max(facts.values(), key=len, default=[])
    named = {text: "; ".join(names) for text, names in facts.items()}
    if len(most) > MANY:
        (text,) = (text for text, names in facts.items() if names is most)
        named = {key: names for key, names in named.items() if key != text} | {text: "All others"}
    told = [f"{names}: {text}." if len(facts) > 1 else f"{text}." for text, names in named.items()]
    return " ".join([f"Data: {'; '.join(data)}."] * bool(data) + told)


def _data(metrics: Mapping, titles: Mapping[str, str]) -> str:
    counts = metrics["class_counts"]
    called = titles.get(metrics["dataset"], metrics["dataset"])
    return f"{called} ({sum(counts):,} training images, from {max(counts):,} to {min(counts):,} a class)"


def _facts(name: str, metrics: Mapping, results: Results) -> str:
    """E.g. `ViT of 3 blocks, width 64, 120 epochs, 3 seeds`."""
    found = []
    teacher = metrics["kind"] == "teacher"
    record = run_record(results.runs / "teachers" / name if teacher else results.runs / name) if results.runs else None
    if record:
        config = record["config"]
        if called := network(config):
            found.append(called)
        epochs = config.get("epochs", (config.get("train") or {}).get("epochs"))
        if epochs is not None:
            found.append(f"{epochs} epochs" if epochs else _weights(config))
    number = len(metrics["seeds"])
    return ", ".join([*found, f"{number} seed{'s' * (number > 1)}"])


def _weights(config: Mapping) -> str:
    """Where a network that is not trained has its weights from."""
    number = sum(source != "none" for source in config.get("sources") or ())
    of = "another run" if number == 1 else f"{number} other runs"
    return f"weights of {of}" if number else "no training of its own"


def _pretrained(name: str, results: Results, analysis: Path | None) -> str:
    """As _facts, of a pretraining: the network as the first run tells it that starts from it, epochs and seeds from
    its curves; empty where neither is recorded."""
    records = (run_record(results.runs / run) for run in results.experiments) if results.runs else ()
    started = (record["config"] for record in records if record and record["config"].get("start") == name)
    found = [network({"model": next(started, {}).get("pretrained")})]
    if analysis and (path := analysis / "pretrainings" / name / "curves.csv").is_file():
        rows = csv_file.read(path, ("seed", "epoch"))
        number = len({row["seed"] for row in rows})
        found += [f"{1 + max(int(row['epoch']) for row in rows)} epochs", f"{number} seed{'s' * (number > 1)}"]
    return ", ".join(filter(None, found))


def said(items: Sequence[Item], pictures: Mapping[str, Mapping[str, np.ndarray]], runs: Path | None) -> Said:
    """Of the images of a rollout, by stages/analyse.py: class names, and what each output of the first seed predicts at
    the last epoch. pictures: {label: rollout.npz}. What is not recorded, or is of other images, is left out."""
    classes, predicted = (), {}
    for item in items if runs else ():
        classes = classes or tuple((diagnostics(runs / item.name) or {}).get("class_names", ()))
        found, labels = top1(runs / item.name), pictures.get(item.label, {}).get("labels")
        if found is None or labels is None:
            continue
        at = in_turn(found["labels"], found["groups_author"], len(labels))
        if np.array_equal(found["labels"][at], labels):
            first = next(name.partition("_")[0] for name in found if name.startswith("seed"))
            outputs = {head: found.get(f"{first}_last_{head}") for head in ("cls", "dist", "avg")}
            outputs["cls"] = outputs["avg"] if outputs["cls"] is None else outputs["cls"]  # a network of one head
            predicted[item.label] = {head: of[at] for head, of in outputs.items() if of is not None}
    return Said(classes, predicted)


def in_turn(labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Places of test images of tail classes, the first of each class, then the second: those that stages/analyse.py
    shows. labels: int [M]; groups: of the classes, int [C]."""
    tail = np.flatnonzero(groups[labels] == AUTHOR_GROUPS.index("tail"))
    turn = [np.count_nonzero(labels[tail[:i]] == labels[place]) for i, place in enumerate(tail)]
    return tail[np.lexsort((labels[tail], turn))[:count]]
