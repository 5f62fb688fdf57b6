"""The formats of the JSON files in reports/, as types: what stages write, what readers check, what docs/schema shows.

A file is read as one of FORMATS (base/typed.py) and stays dicts and lists. docs/schema/*.json are made from the
same types by stages/schema.py, docstrings and descriptions with them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from longtail.evaluation.metrics import EXPERTS

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(ge=0)]
Percent = Annotated[Number, Field(ge=0, le=100)]
Weight = Annotated[Number, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0)]
Indices = list[Whole]
Text = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Seed = Annotated[str, Field(pattern="^(0|[1-9][0-9]*)$")]
Kind = Literal["experiment", "teacher"]
Entry = Annotated[Text, Field(description="Name in params.yaml.")]
Dataset = Annotated[Text, Field(description="Entry of datasets in params.yaml.")]
ConfigHash = Annotated[Digest, Field(description="sha256 of the resolved configuration without the seed.")]
TrainCounts = Annotated[Indices, Field(description="Training images of each class.")]

AUTHOR, COUNT = ("head", "mid", "tail"), ("many", "medium", "few")
BY_GROUP = ("all", *AUTHOR, *COUNT)


def each(name: str, keys: tuple[str, ...], of: Any, doc: str) -> Any:
    """A block with the same type under every key."""
    block = TypedDict(name, dict.fromkeys(keys, of))
    block.__doc__ = doc
    return block


class OverSeeds(TypedDict):
    """Over seeds: mean, standard error std(ddof=1)/sqrt(n), number of seeds with a value. The error of one is null."""

    mean: Number | None
    stderr: Positive | None
    n: Whole


AuthorGroups = each("AuthorGroups", AUTHOR, Indices, "By class index (the papers' cuts).")
CountGroups = each("CountGroups", COUNT, Indices, "By training images: more than 100, 20 to 100, fewer than 20.")
ByGroup = each("ByGroup", BY_GROUP, OverSeeds, "Over all test images and by group of the true class.")


class Groups(TypedDict):
    """Class indices of each group, by both rules."""

    author: AuthorGroups
    count: CountGroups


# --- reports/metrics


class HeadMetrics(TypedDict):
    """One head of one seed, in %, nll in nats; a group is the unweighted mean of its classes; null without images."""

    top1: Percent
    top5: Percent
    balanced: Percent | None
    macro_f1: Percent
    ece: Percent
    mce: Percent
    classwise_ece: Percent
    nll: Positive
    head: Percent | None
    mid: Percent | None
    tail: Percent | None
    many: Percent | None
    medium: Percent | None
    few: Percent | None
    per_class: list[Percent | None]
    experts: NotRequired[
        Annotated[Positive, Field(description="Of a network of several: how many answered, mean over test images.")]
    ]


SCALARS = tuple(key for key in HeadMetrics.__annotations__ if key not in ("per_class", EXPERTS))
Summary = TypedDict("Summary", dict.fromkeys(SCALARS, OverSeeds) | {EXPERTS: NotRequired[OverSeeds]})
Summary.__doc__ = "One head, over seeds."


class Phase(TypedDict):
    """cls, dist (distilled students only) and avg, of the mean of their raw logits, at one epoch (from 0)."""

    epoch: Whole
    avg: HeadMetrics
    cls: HeadMetrics
    dist: NotRequired[HeadMetrics]


class Heads(TypedDict):
    """cls, dist (distilled students only) and avg, of the mean of their raw logits."""

    avg: Summary
    cls: Summary
    dist: NotRequired[Summary]


class SeedMetrics(TypedDict):
    """last is the last epoch, the result; best the best epoch on the test set, as the papers report; validation the
    one chosen on validation images, of runs on a dataset that has some."""

    last: Phase
    best: Phase
    validation: NotRequired[Phase]


class Summaries(TypedDict):
    last: Heads
    best: Heads
    validation: NotRequired[Heads]


class Metrics(TypedDict):
    """reports/metrics/<study>/<entry>.json and teachers/<entry>.json (stages/evaluate.py)."""

    schema: Literal[1]
    entry: Entry
    kind: Kind
    study: Text
    dataset: Dataset
    config_hash: ConfigHash
    classes: Annotated[int, Field(ge=1)]
    class_counts: TrainCounts
    groups: Groups
    seeds: Annotated[dict[Seed, SeedMetrics], Field(min_length=1)]
    summary: Summaries


class OnViews(TypedDict):
    """% of training views of which the teacher names the dominant label."""

    teacher_top1_on_views: Percent


class OnViewsOverSeeds(TypedDict):
    teacher_top1_on_views: OverSeeds


class CacheMetrics(TypedDict):
    """reports/metrics/<study>/caches/<entry>.json (stages/evaluate_labels.py)."""

    schema: Literal[1]
    entry: Entry
    kind: Literal["cache"]
    study: Text
    teacher: Annotated[Text, Field(description="Entry that labelled the views.")]
    seeds: Annotated[dict[Seed, OnViews], Field(min_length=1)]
    summary: OnViewsOverSeeds


# --- reports/runs: run.json


class Identity(TypedDict):
    """Facts of identity.json, the same for any other run of the same; those that a run does not tell are left out.
    Where and how fast it was made: machines.schema.json."""

    identity: NotRequired[
        Annotated[Digest, Field(description="Of entry, inputs and seed; a finished run with it is kept.")]
    ]
    backend: NotRequired[str | None]
    processes: NotRequired[Annotated[int, Field(ge=1)]]
    precision: NotRequired[
        Annotated[Literal["fp32", "bf16", "fp16"], Field(description="Of the forward passes; weights are float32.")]
    ]
    engine: NotRequired[
        Annotated[Literal["eager", "compiled"], Field(description="How steps were computed: no part of the recipe.")]
    ]
    attention: NotRequired[
        Annotated[
            str | None,
            Field(description="The kernel that a trial on the device found fastest; null: PyTorch's own choice."),
        ]
    ]
    class_order: NotRequired[Digest]
    dataset_digest: Digest
    teacher_digest: NotRequired[str | None]
    start_digest: NotRequired[str | None]
    imported: NotRequired[Annotated[bool, Field(description="Published weights, evaluated here and not trained.")]]
    source: NotRequired[Text]
    source_sha256: NotRequired[Digest]
    source_layout: NotRequired[Text]
    source_weights: NotRequired[Text]
    source_top1: NotRequired[Number | None]


class SeedRun(TypedDict):
    identity: Identity
    curves: Annotated[
        dict[str, list[Number | None]],
        Field(
            description="Columns of history.csv, a value an epoch; null where it was not evaluated or is not finite.",
            json_schema_extra={"required": ["epoch"]},
        ),
    ]


class Run(TypedDict):
    """run.json in reports/runs/<study>/[teachers/]<entry>/ (stages/evaluate.py): what the run was."""

    schema: Literal[1]
    entry: Entry
    kind: Kind
    study: Text
    dataset: Dataset
    config_hash: ConfigHash
    config: Annotated[
        dict[str, Any],
        Field(
            min_length=1,
            description="Resolved configuration, the same for every seed; its shape is that of the method.",
            json_schema_extra={"not": {"required": ["seed"]}},
        ),
    ]
    seeds: Annotated[dict[Seed, SeedRun], Field(min_length=1)]


# --- reports/machines


class Machine(TypedDict):
    """Where and how fast one seed was trained; null: not recorded."""

    seconds: Annotated[Positive, Field(description="Of training, attempts before an interruption included.")]
    device: Annotated[str | None, Field(description="`cpu x2` for two threads, else the name of one GPU.")]
    processor: Annotated[str | None, Field(description="As the system names it, with family and model.")]
    instructions: Annotated[str | None, Field(description="The instruction set that PyTorch's kernels use.")]
    peak_memory_mb: Annotated[Positive | None, Field(description="Of the GPU, or of the process on a CPU.")]
    git_commit: Annotated[
        Annotated[str, Field(pattern="^[0-9a-f]{7,40}(-dirty)?$")] | None,
        Field(description="Of the code that trained the run."),
    ]
    python: str | None
    torch: str | None
    numpy: str | None
    pillow: str | None
    timm: str | None


class RunMachines(TypedDict):
    config_hash: Annotated[Digest, Field(description="Of the run that is told of, as in its metrics file.")]
    seeds: Annotated[dict[Seed, Machine], Field(min_length=1)]


class StudyMachines(TypedDict):
    """reports/machines/<study>.json (stages/machines.py): where and how fast the committed runs of a study were made.
    No stage of the pipeline writes or reads it."""

    schema: Literal[1]
    study: Text
    experiments: dict[str, RunMachines]
    teachers: dict[str, RunMachines]


AnyMetrics = Annotated[Metrics | CacheMetrics, Field(discriminator="kind")]
