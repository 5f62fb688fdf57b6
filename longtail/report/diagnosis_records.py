"""The formats of the long-tail evaluation in reports/, as types: diagnostics.json and the experts' files."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from longtail.report.records import (
    AUTHOR,
    BY_GROUP,
    COUNT,
    ByGroup,
    ConfigHash,
    Dataset,
    Entry,
    Groups,
    Indices,
    Kind,
    Number,
    OverSeeds,
    Percent,
    Positive,
    Text,
    TrainCounts,
    Weight,
    Whole,
    each,
)

BINS = {"min_length": 15, "max_length": 15}


class Curve(TypedDict):
    """Over seeds, a value a point."""

    mean: list[Number | None]
    stderr: list[Positive | None]


class Confusions(TypedDict):
    true: Whole
    predicted: Whole
    images: Annotated[int, Field(ge=1)]


class Confusion(TypedDict):
    counts: Annotated[
        list[Indices] | None,
        Field(
            description="[i][j]: test images of class i predicted as j, of all seeds. null of more than 100 classes; "
            "predictions.npz has what it takes."
        ),
    ]
    frequent: Annotated[
        list[Confusions],
        Field(max_length=20, description="The 20 most frequent confusions, class indices, most images first."),
    ]


AuthorFlow = each("AuthorFlow", AUTHOR, Percent, "Share of each predicted group; sums to 100.")
AuthorFlows = each("AuthorFlows", AUTHOR, AuthorFlow | None, "By true group.")
CountFlow = each("CountFlow", COUNT, Percent, "Share of each predicted group; sums to 100.")
CountFlows = each("CountFlows", COUNT, CountFlow | None, "By true group.")


class Flows(TypedDict):
    """{group: {predicted group: %}}, unweighted means over the group's classes and over seeds; null without images."""

    author: AuthorFlows
    count: CountFlows


class Bins(TypedDict):
    """Of one group's images."""

    ece: Annotated[OverSeeds, Field(description="A seed's ECE, over seeds.")]
    count: Annotated[Indices, Field(**BINS, description="Images of all seeds in each bin.")]
    confidence: Annotated[
        list[Percent | None], Field(**BINS, description="Their mean confidence; null in an empty bin.")
    ]
    accuracy: Annotated[list[Percent | None], Field(**BINS)]


Reliability = each(
    *("Reliability", BY_GROUP, Bins),
    "Predictions by confidence: 15 equal bins with right-closed edges, (0, 1/15] to (14/15, 1]; softmax of logit_scale "
    "times the logits.",
)


class Shift(TypedDict):
    """Expected accuracy on a test set of other class shares pi_t; pi_s: class shares of the training set."""

    direction: Literal["forward", "uniform", "backward"]
    factor: Annotated[
        Literal[1, 2, 5, 10, 25, 50], Field(description="Largest over smallest class of the shifted test set.")
    ]
    raw: Annotated[OverSeeds, Field(description="Logits as they are.")]
    from_train_prior: Annotated[OverSeeds, Field(description="z - log pi_s + log pi_t.")]
    from_uniform: Annotated[OverSeeds, Field(description="z + log pi_t.")]


class Head(TypedDict):
    """One head's answers."""

    accuracy: Annotated[ByGroup, Field(description="Top-1; groups are unweighted means of their classes.")]
    per_class: Annotated[Curve, Field(description="Accuracy of each class over seeds; null without test images.")]
    confusion: Confusion
    flows: Flows
    reliability: Reliability
    shifts: Annotated[
        list[Shift],
        Field(
            min_length=11,
            max_length=11,
            description="From forward 50 over uniform to backward 50: sum over classes of pi_t times their accuracy.",
        ),
    ]


class DiagnosedHeads(TypedDict):
    """cls, dist (distilled students only) and avg, of the mean of their raw logits."""

    avg: Head
    cls: Head
    dist: NotRequired[Head]


Curves = each("Curves", BY_GROUP, Curve, "At each weight.")


class Oracle(TypedDict):
    """The weight that turns out best on the test images: an upper bound, never a result."""

    weight: Weight
    accuracy: Percent


class TestFusion(TypedDict):
    """Raw logits w CLS + (1 - w) DIST."""

    weights: list[Weight]
    accuracy: Curves
    oracle_on_test: Oracle


class Routing(TypedDict):
    """The more confident head answers each image."""

    accuracy: Annotated[ByGroup, Field(description="Of the more confident head's answer.")]
    to_dist: Annotated[ByGroup, Field(description="Share of images answered by DIST.")]
    either_right: Annotated[
        ByGroup,
        Field(description="Images that at least one head has right: no choice between the two exceeds it."),
    ]


class Diagnostics(TypedDict):
    """diagnostics.json in reports/runs/<study>/[teachers/]<entry>/ (stages/evaluate.py), of the last epoch.

    Accuracies, shares, confidences and calibration errors are in %. fusion, routing and agreement (images for which CLS
    and DIST predict the same class) are null of a run with one head.
    """

    schema: Literal[1]
    entry: Entry
    kind: Kind
    study: Text
    dataset: Dataset
    config_hash: ConfigHash
    phase: Literal["last"]
    seeds: Annotated[Indices, Field(min_length=1, json_schema_extra={"uniqueItems": True})]
    logit_scale: Annotated[
        Number, Field(gt=0, description="Factor of the logits before a softmax: 30 where they are cosines, else 1.")
    ]
    class_names: Annotated[list[str], Field(min_length=1)]
    class_counts: TrainCounts
    test_counts: Annotated[Indices, Field(description="Test images of each class.")]
    groups: Groups
    heads: DiagnosedHeads
    fusion: TestFusion | None
    routing: Routing | None
    agreement: ByGroup | None


# --- reports/experts

Accuracies = each(
    *("Accuracies", ("top1", "balanced", *AUTHOR, *COUNT), OverSeeds),
    "In %: top1 over images; balanced and groups are means of per-class accuracies. Head, mid, tail by class index "
    "(author rule); many, medium, few by training images.",
)


class HeldOut(TypedDict):
    """The labelled images on which w was chosen: neither trained on nor tested on."""

    uses_extra_labels: Annotated[Literal[True], Field(description="A long-tailed learner does not have these labels.")]
    origin: str
    limit: Annotated[int, Field(ge=1, description="Most images taken of a class.")]
    images: Whole
    per_class: Indices
    missing_classes: Annotated[list[str], Field(description="Classes without an image left.")]
    balanced: Annotated[
        list[OverSeeds],
        Field(
            description="Mean of per-class accuracies in % at each weight, over the classes that have images; empty "
            "without images."
        ),
    ]


class Chosen(TypedDict):
    """w of each seed: highest `balanced` of that seed, of equals the nearest to .5, of two as near the smaller."""

    seeds: dict[Annotated[str, Field(pattern="^[0-9]+$")], Weight]
    mean: Number | None
    stderr: Positive | None
    n: Whole


class OnTest(TypedDict):
    """CLS alone, DIST alone, w = .5 and, where there are held-out images, each seed's chosen w and its gain over .5."""

    cls: Accuracies
    dist: Accuracies
    average: Accuracies
    chosen: NotRequired[Accuracies]
    gain: NotRequired[Annotated[Accuracies, Field(description="Percentage points.")]]


class Fusion(TypedDict):
    """w * CLS + (1 - w) * DIST of raw logits, last epoch."""

    weights: Annotated[list[Weight], Field(description="The values of w that were tried.")]
    heldout: HeldOut
    chosen: Chosen
    test: Annotated[OnTest, Field(json_schema_extra={"dependentRequired": {"chosen": ["gain"], "gain": ["chosen"]}})]


class Pairs(TypedDict):
    """Views of all seeds, and in % of a seed's views how often the two name the same class.

    cls, dist: the student's heads; teacher: the label it learnt from; dominant: the dominant image's label.
    """

    views: Whole
    cls_dist: OverSeeds
    cls_teacher: OverSeeds
    cls_dominant: OverSeeds
    dist_teacher: OverSeeds
    dist_dominant: OverSeeds
    teacher_dominant: OverSeeds


PairsByGroup = each("PairsByGroup", BY_GROUP, Pairs, "By the class of the dominant image: the one most of the view is.")


class Kinds(TypedDict, total=False):
    """mixed is mixup and cutmix together; kinds without views are left out."""

    unmixed: PairsByGroup
    mixed: PairsByGroup
    mixup: PairsByGroup
    cutmix: PairsByGroup


class Agreement(TypedDict):
    epoch: Annotated[Whole, Field(description="From 0.")]
    kinds: Annotated[Kinds, Field(json_schema_extra={"minProperties": 1})]


class OneHead(TypedDict):
    """A student without a DIST head."""

    schema: Literal[1]
    entry: str
    study: str
    distilled: Literal[False]


class TwoHeads(TypedDict):
    """The two experts of a distilled student."""

    schema: Literal[1]
    entry: str
    study: str
    distilled: Literal[True]
    fusion: Fusion
    agreement: Annotated[
        Annotated[list[Agreement], Field(min_length=1, max_length=2)] | None,
        Field(
            description="On the first views of an epoch of the student's own training, with the weights of the last "
            "epoch: which two name the same class. The last epoch with mixing, and the last of training. null of "
            "imported runs."
        ),
    ]


Experts = Annotated[OneHead | TwoHeads, Field(discriminator="distilled")]
