"""What the `sources` of an entry of `teachers` are for: to learn from (`distil`) or to go on from (`start`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from longtail.losses.cbd import FeatureDistillation
from longtail.losses.dive import SoftDistillation

Distillation = SoftDistillation | FeatureDistillation

NONE = ("none",) * 5  # `sources` of an entry that learns from labels alone
OWN_LABELS = ("ce", "balanced_softmax", "focal")  # losses that can be the label term of a distillation


@dataclass(frozen=True)
class Start:
    """The weights of the entry's `sources` are what it begins with. One source, or several as one network: the mean of
    their logits, of which nothing is trained further."""

    # classifier: the rest stays as it is, batch statistics too; scales: so does the classifier, and of its logits each
    # class' is multiplied by a number that is learnt, 1 at first (LWS, METHODS 2.8); router: all of the source stays,
    # and what chooses among its experts is learnt (RIDE)
    train: Literal["all", "classifier", "scales", "router", "nothing"]
    # new: first weights; class_means: of the training images' features, the nearest one by cosine is the answer (NCM)
    classifier: Literal["kept", "new", "class_means"]
    dataset: str | None = None  # entry of `datasets` that the sources were trained on, where it is another one

    def __post_init__(self) -> None:
        if self.classifier == "class_means" and self.train != "nothing":
            raise ValueError("a classifier of class_means is not trained; write train: nothing")
        if self.classifier == "new" and self.train in ("nothing", "scales", "router"):
            raise ValueError("a new classifier that is not trained answers at random; write train: classifier or all")


def check_sources(
    sources: Sequence[str], distil: Distillation | None, start: Start | None, loss: str, drw_epoch: int | None
) -> None:
    """Raises ValueError where an entry's keys of these names contradict one another."""
    named = [name for name in sources if name != "none"]
    if distil is not None and start is not None:
        raise ValueError("distil and start both say what `sources` are for; write null for one of them")
    if (distil is None and start is None) != (not named):
        raise ValueError("sources and distil go together: name who teaches and how, or write none and null")
    first = list(sources[: len(named)])
    if isinstance(distil, SoftDistillation) and (first != named or len(named) > 1):
        raise ValueError(f"sources: {list(sources)}; distil soft has one teacher, in the first place")
    if first != named:
        raise ValueError(f"sources: {list(sources)}; name them in the first places, none after them")
    if len(set(named)) < len(named):
        raise ValueError(f"sources: {named} names one twice; give each teacher an entry and a seed of its own")
    if distil is not None:
        _check_distillation(distil, named, loss, drw_epoch)
    elif loss == "none" and (start is None or start.train != "router"):
        raise ValueError(
            "loss none is for an entry with `distil`, which learns from its teacher alone, or for a router"
        )
    if start is not None and loss == "paco":
        raise ValueError("start goes with a loss on labels, not with paco")
    if start is not None and len(named) > 1 and (start.train, start.classifier) != ("nothing", "kept"):
        raise ValueError(f"sources name {len(named)}, an ensemble: write train: nothing and classifier: kept")


def _check_distillation(distil: Distillation, named: list[str], loss: str, drw_epoch: int | None) -> None:
    if loss not in (*OWN_LABELS, "none"):
        raise ValueError(f"distil {distil.kind} goes with loss {', '.join(OWN_LABELS)} or none, found {loss}")
    if isinstance(distil, FeatureDistillation):
        if distil.teachers != len(named):
            raise ValueError(f"distil.teachers is {distil.teachers}, sources name {len(named)}: {', '.join(named)}")
        if loss == "none":
            raise ValueError(f"distil feature has a label term; write loss {', '.join(OWN_LABELS)}")
        return
    if distil.targets == "mixed" and loss != "none":
        raise ValueError(f"mixed targets hold the label already; with them loss is none, found {loss}")
    if loss == "none" and drw_epoch is not None:
        raise ValueError("loss none has no class weights; write null for drw_epoch and drw_beta")
