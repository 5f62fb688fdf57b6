"""A committed run as a model card: Markdown with the front matter that model hubs read (model-index), from its records.

What it is, what it is for, how it was trained and tested, what it took, what it is not for, how to get its weights.
Nothing is typed by hand but the sentences on use; numbers are those of reports/metrics, runs and machines.
"""

from __future__ import annotations

from typing import Any

from longtail.base import yaml_file
from longtail.base.text import pipe_table, plain
from longtail.report.machines import places
from longtail.report.pages.run_page import Run, sentence
from longtail.report.pages.sections import estimate
from longtail.report.study import COLUMN_LABELS

GROUPS = ("top1", "head", "mid", "tail", "balanced", "ece")
HEADS = {"cls": "CLS", "dist": "DIST", "avg": "average"}
MINIATURE = (
    "A miniature: small data, a small network or a reduced schedule. It shows whether a pattern appears; its numbers "
    "are not comparable with the paper's."
)
FULL = "Trained with the published recipe, as far as paper and code tell it (docs/deviations.md)."


def card(run: Run, comparable: bool, known: str | None, place: str, stored: bool = False) -> str:
    """The card; ends in a newline. run: with record, diagnosis and metrics.

    comparable: of a study of full recipes. known: what to know of its images. place: what DVC wants before a stage.
    stored: weights of its first seed stand in reports/weights.
    """
    front = yaml_file.dump(front_matter(run))
    parts = [f"---\n{front}---", f"# {plain(run.label)}", sentence(run), FULL if comparable else MINIATURE]
    parts += ["## Use", _use(run), "## Training", *_training(run), "## Evaluation", *_evaluation(run)]
    parts += ["## Limits", _limits(run, known), "## Weights", _weights(run, place, stored)]
    return "\n\n".join(parts) + "\n"


def front_matter(run: Run) -> dict[str, Any]:
    """What hubs read: licence, tags, and each seed-averaged accuracy as a result."""
    last = run.metrics["summary"]["last"]
    metrics = [
        {"type": "accuracy", "name": f"top-1, {HEADS[head]}, last epoch, %", "value": values["top1"]["mean"]}
        for head, values in last.items()
        if head != "avg" or len(last) > 1
    ]
    dataset = {"name": run.metrics["dataset"], "type": run.metrics["dataset"]}
    task = {"type": "image-classification", "name": "Long-tailed image classification"}
    results = [{"task": task, "dataset": dataset, "metrics": metrics}]
    return {
        "license": "mit",
        "library_name": "longtail",
        "tags": ["image-classification", "long-tailed-recognition", run.kind],
        "datasets": [run.metrics["dataset"]],
        "model-index": [{"name": run.entry, "results": results}],
    }


def _use(run: Run) -> str:
    data = run.called.get(run.metrics["dataset"], run.metrics["dataset"])
    return (
        "For comparing methods of long-tailed recognition, and for making a table of the study "
        f"`{run.study}` again. Not for deciding anything about a person or a thing: classes outside "
        f"{data} are given one of its names, and rare classes are often taken for frequent ones."
    )


def _training(run: Run) -> list[str]:
    """Where the recipe stands, seeds, and what a seed took."""
    config = run.record["config"]
    epochs = config.get("train", config).get("epochs")
    seeds = ", ".join(run.metrics["seeds"])
    told = f"{epochs} epochs; seeds {seeds}; settings `{run.metrics['config_hash'][:8]}`, all of them in `run.json`."
    spent = [facts["seconds"] for facts in run.made.values()]
    if not spent:
        return [told, "Time and machine are not recorded."]
    mean = sum(spent) / len(spent)
    memory = max(facts["peak_memory_mb"] or 0 for facts in run.made.values())
    return [told, f"A seed took {mean:,.0f} s and at most {memory:,} MB on {places(run.made.values())}."]


def _evaluation(run: Run) -> list[str]:
    """Accuracy of each head at the last epoch, by the authors' groups, and at the epoch best on the test set."""
    counts = run.diagnosed["class_counts"]
    rows = []
    for epoch, name in (("last", "last epoch"), ("best", "best on test")):
        heads = run.metrics["summary"][epoch]
        shown = heads if len(heads) > 1 else {"": heads["avg" if "avg" in heads else next(iter(heads))]}
        rows += [
            (f"{HEADS.get(head, 'model')}, {name}", *(estimate(values.get(column)) for column in GROUPS))
            for head, values in shown.items()
        ]
    lines = pipe_table(("%", *(COLUMN_LABELS[column] for column in GROUPS)), "l" + "r" * len(GROUPS), rows)
    tests = sum(run.diagnosed["test_counts"])
    note = (
        f"{tests:,} test images; training images a class from {max(counts):,} to {min(counts):,}. Mean ± standard "
        "error over seeds. The last epoch is the result; best on test picks the epoch on the test set, as DeiT-LT and "
        "LiVT do, which makes it too high."
    )
    return ["\n".join(lines), note]


def _limits(run: Run, known: str | None) -> str:
    told = [known] if known else []
    told.append("One subset of images: seeds change weights and order, not which images are rare.")
    if run.kind == "teacher" and run.record["config"].get("select") == "best":
        told.append(
            "Its weights are of the epoch that was best on the test set, so that what learns from it has seen that set."
        )
    return " ".join(told)


def up(run: Run) -> str:
    """From the card to reports/."""
    return "../" * (2 + run.folder.count("/"))


def _weights(run: Run, place: str, stored: bool) -> str:
    kind = "teacher" if run.kind == "teacher" else "student"
    folder = f"data/{kind}s/{run.entry}"
    here = (
        "Those of the first seed at its last epoch stand in git: "
        f"[{run.entry}.safetensors]({up(run)}weights/{run.folder}.safetensors). To test them and have them as a run "
        f"(docs/checkpoints.md): `python stages/import_checkpoint.py reports/weights/{run.folder}.safetensors "
        f"--kind {kind} --like {run.entry} --dataset data/datasets/{run.metrics['dataset']}.npz "
        f"--out /tmp/{run.entry}`.\n\n"
    )
    return here * stored + (
        f"`dvc repro {place}{run.stage}` makes them, one safetensors file a seed, in `{folder}/seed<k>/`; "
        "`stages/export_checkpoint.py` writes students and plain CNNs for other code (docs/checkpoints.md)."
    )
