"""What an entry of params.yaml's `teachers` holds: every number of a CNN teacher's training.

A weak teacher makes every student weak, and nothing downstream would say so: it is said where a teacher is put to use.
The teacher's own result is kept. LONGTAIL_ALLOW_WEAK_TEACHER=1 in the environment lets it teach all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from longtail.base import environment
from longtail.base.errors import UserError, nearest
from longtail.base.files import npz
from longtail.base.params import later
from longtail.losses.dive import SoftDistillation
from longtail.losses.losses import PaCoWeights
from longtail.models.build import ARCHITECTURES
from longtail.models.paco import PaCoSizes
from longtail.views.normalize import NORMALIZATION
from longtail.views.recipe import LargeViewRecipe, PaCoViewRecipe

ALLOW = environment.ALLOW_WEAK_TEACHER


@dataclass(frozen=True)
class Floor:
    """Accuracy on the test set in %, at the epoch whose weights are used."""

    top1: float  # the printed one
    tolerance: float  # how far below it is still that result

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= self.top1 <= 100:
            raise ValueError(f"top1 {self.top1}, tolerance {self.tolerance}: 0 <= tolerance <= top1 <= 100 (in %)")


def check_floor(folder: Path, floor: Floor | None, select: str) -> None:
    """Raises UserError where the test logits of a teacher's result folder are below its floor.

    select: `last` or `best`, which of the two saved sets of logits belongs to the weights in use.
    """
    if floor is None or environment.of(ALLOW):
        return
    path = folder / "predictions.npz"
    with npz(path, "missing or unreadable", "train the teacher again") as saved:
        reached = 100 * float((saved[f"logits_{select}_cls"].argmax(1) == saved["labels"]).mean())
    if reached < floor.top1 - floor.tolerance:
        raise UserError(
            f"{folder}: teacher has {reached:.2f} % on the test set ({select} epoch), its entry's must_reach asks for "
            f"{floor.top1 - floor.tolerance:.2f} %; train a better one, or set {ALLOW}=1 to use it as it is"
        )


@dataclass(frozen=True)
class PaCoConfig(PaCoSizes, PaCoWeights):
    """Parametric contrastive learning: loss, queue, projection and views."""

    views: PaCoViewRecipe | None  # of small images; null where the entry has `views`
    key_views: LargeViewRecipe | None = None  # of large images: the key; the entry's `views` are the query's

    def __post_init__(self) -> None:
        _require(min(self.alpha, self.gamma) >= 0, f"alpha {self.alpha} and gamma {self.gamma} must not be negative")
        _require(
            min(self.beta, self.supt, self.temperature) > 0,
            f"above 0: beta, supt, temperature; found {self.beta}, {self.supt}, {self.temperature}",
        )
        _require(min(self.queue, self.dim) >= 1, f"at least 1: queue, dim; found {self.queue}, {self.dim}")
        _require(0 <= self.key_momentum < 1, f"key_momentum: {self.key_momentum} is not in [0, 1); 0.999 published")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


NONE = ("none",) * 5  # `sources` of an entry that learns from labels alone
OWN_LABELS = ("ce", "balanced_softmax", "focal")  # losses that can be the label term of a distillation


@dataclass(frozen=True)
class TeacherConfig:
    """One entry of `teachers` (CIFAR values: METHODS §2.3 to §2.6): a CNN that teaches, or that is itself taught by
    other entries (`sources`, `distil`: METHODS §6)."""

    study: str
    dataset: str  # entry of `datasets`
    arch: str  # name in longtail.models.build.ARCHITECTURES: resnet32, resnet50
    loss: Literal["ce", "ldam", "balanced_softmax", "focal", "paco", "none"]  # none: with `distil`, no label term
    max_margin: float | None  # LDAM only: .5 CIFAR, .3 ImageNet-LT and iNat
    scale: float | None  # LDAM only: 30; inside the loss, the model exports raw cosines
    drw_epoch: int | None  # 0-based epoch from which class weights act; null = never
    drw_beta: float | None  # .9999
    paco: PaCoConfig | None  # PaCo only: its loss, queue and views
    epochs: int
    batch_size: int  # images
    drop_last: bool  # leave out the images that fill no batch; false: the last batch of an epoch is smaller
    lr: float
    momentum: float
    weight_decay: float  # on all parameters
    schedule: Literal["step", "cosine"]  # cosine: to 0, once an epoch
    warmup_epochs: int
    milestones: tuple[int, ...]  # step only: the lr is lr·factors[i] once epoch + 1 > milestones[i]
    factors: tuple[float, ...]  # of the base lr, not of one another
    # SAM: radius of its ascent; or steps [epoch, radius], each up to and with its epoch, counted from 1, and the last
    # one, [null, radius], to the end; null = plain SGD
    sam_rho: float | tuple[tuple[int | None, float], ...] | None
    crop_padding: int | None  # zero pixels on each side before the random crop; null where there is `views`
    hflip: float | None  # probability; null where there is `views`
    normalization: str  # name in longtail.views.normalize.NORMALIZATION
    select: Literal["last", "best"]  # weights used as the teacher; published: best (on the test set)
    eval_every: int  # epochs between evaluations on the test set; published: 1; the last epoch is always evaluated
    must_reach: Floor | None  # below it nothing is distilled; null = no floor
    views: LargeViewRecipe | None = None  # of images of any size; null = the padded crop of small ones, as they are
    eval_resize: int | None = None  # with views: shorter side of a test image before the central crop of views.size
    seeds: tuple[int, ...] = ()  # of the entry; a result is of one seed and its config.yaml names none
    # entries of `teachers` that this one learns from, and none in the places that are left: dvc.yaml names each place
    sources: tuple[str, str, str, str, str] = later(NONE)
    distil: SoftDistillation | None = later(None)  # noqa: RUF009 (frozen); how it learns from them
    focal_gamma: float | None = later(None)  # focal only: 1 in LDAM:losses.py
    warmup_from: float | None = later(None)  # share of lr that the warm-up begins with (BBN: 1/3); null = by lr/epochs
    # ce only: images of the author rule's head classes give this much of their label to the other classes (DiVE Fig. 3)
    head_smoothing: float = later(0.0)

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch: '{self.arch}' is unknown{nearest(self.arch, ARCHITECTURES)}")
        self._check_loss()
        self._check_distillation()
        self._check_schedule()
        self._check_views()
        least = self.warmup_epochs, self.crop_padding or 0
        if min(self.epochs, self.batch_size, self.eval_every) < 1 or min(least) < 0:
            raise ValueError("at least 1: epochs, batch_size, eval_every; at least 0: warmup_epochs, crop_padding")
        if self.normalization not in NORMALIZATION:
            raise ValueError(f"normalization: '{self.normalization}'{nearest(self.normalization, NORMALIZATION)}")

    def _check_loss(self) -> None:
        if self.loss == "ldam" and not (self.max_margin and self.scale):
            raise ValueError("loss ldam needs max_margin and scale above 0 (0.5 and 30 on CIFAR)")
        if self.loss != "ldam" and (self.max_margin is not None or self.scale is not None):
            raise ValueError(f"max_margin and scale belong to loss ldam; with {self.loss} write null")
        if (self.drw_epoch is None) != (self.drw_beta is None):
            raise ValueError("drw_epoch and drw_beta go together: give both, or null for both")
        if self.drw_beta is not None and not 0 <= self.drw_beta < 1:
            raise ValueError(f"drw_beta: {self.drw_beta} is not in [0, 1)")
        if (self.loss == "paco") != (self.paco is not None):
            raise ValueError("loss paco and the block paco go together: give both, or another loss and null")
        if self.paco is None:
            return
        if self.drw_epoch is not None:
            raise ValueError("loss paco has no class weights; write null for drw_epoch and drw_beta")
        if not self.drop_last or self.paco.queue % self.batch_size:
            raise ValueError(
                f"paco: the queue takes whole batches: drop_last must be true and paco.queue ({self.paco.queue}) "
                f"a multiple of batch_size ({self.batch_size})"
            )

    def _check_distillation(self) -> None:
        if (self.loss == "focal") != (self.focal_gamma is not None) or (self.focal_gamma or 0) < 0:
            raise ValueError("loss focal needs focal_gamma from 0 on (LDAM's code: 1.0); other losses have none")
        if not 0 <= self.head_smoothing < 1 or (self.head_smoothing and self.loss != "ce"):
            raise ValueError(f"head_smoothing: {self.head_smoothing}; from 0 to below 1, and only with loss ce")
        named = [name for name in self.sources if name != "none"]
        if (self.distil is None) != (not named):
            raise ValueError("sources and distil go together: name who teaches and how, or write none and null")
        if self.distil is None:
            if self.loss == "none":
                raise ValueError("loss none is for an entry with `distil`, which learns from its teacher alone")
            return
        if self.sources[0] == "none" or len(named) > 1:
            raise ValueError(f"sources: {list(self.sources)}; distil soft has one teacher, in the first place")
        if self.loss not in (*OWN_LABELS, "none"):
            raise ValueError(f"distil soft goes with loss {', '.join(OWN_LABELS)} or none, found {self.loss}")
        if self.distil.targets == "mixed" and self.loss != "none":
            raise ValueError(f"mixed targets hold the label already; with them loss is none, found {self.loss}")
        if self.loss == "none" and self.drw_epoch is not None:
            raise ValueError("loss none has no class weights; write null for drw_epoch and drw_beta")

    def _check_views(self) -> None:
        if self.views is None:
            if self.crop_padding is None or self.hflip is None or self.eval_resize is not None:
                raise ValueError("without views give crop_padding and hflip, and null for eval_resize")
            if not 0 <= self.hflip <= 1:
                raise ValueError(f"hflip: {self.hflip} is not a probability")
        elif self.crop_padding is not None or self.hflip is not None:
            raise ValueError("views has its own crop and flip: write null for crop_padding and hflip")
        elif self.eval_resize is None or self.eval_resize < self.views.size:
            raise ValueError(f"eval_resize: {self.eval_resize}; with views at least their size, {self.views.size}")
        if self.paco is None:
            return
        key = self.paco.key_views
        if (self.paco.views is None) != (self.views is not None) or (key is None) != (self.views is None):
            raise ValueError("loss paco has the entry's views and paco.key_views, or paco.views alone")
        if key is not None and key.size != self.views.size:
            raise ValueError(f"paco.key_views.size: {key.size}; the query's is {self.views.size}")

    def _check_schedule(self) -> None:
        if len(self.milestones) != len(self.factors):
            raise ValueError(f"{len(self.milestones)} milestones but {len(self.factors)} factors; give one factor each")
        if self.warmup_from is not None and (self.schedule != "step" or not 0 <= self.warmup_from <= 1):
            raise ValueError(f"warmup_from: {self.warmup_from}; a share of lr, from 0 to 1, of schedule step")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: {list(self.milestones)} must rise")
        if self.schedule == "cosine" and (self.milestones or self.warmup_epochs >= self.epochs):
            raise ValueError("schedule cosine has no milestones, and more epochs than warmup_epochs")
        if not isinstance(self.sam_rho, tuple):
            if self.sam_rho is not None and self.sam_rho <= 0:
                raise ValueError(f"sam_rho: {self.sam_rho} is not above 0; write null for plain SGD")
            return
        ends = [end for end, _ in self.sam_rho]
        if not ends or ends[-1] is not None or None in ends[:-1] or ends[:-1] != sorted(set(ends[:-1])):
            raise ValueError(
                f"sam_rho: {[list(step) for step in self.sam_rho]} must be [epoch, rho] in rising order, "
                "the last epoch null, e.g. [[5, 0.05], [60, 0.1], [null, 0.5]]"
            )
        if min(rho for _, rho in self.sam_rho) <= 0:
            raise ValueError(f"sam_rho: {[list(step) for step in self.sam_rho]} has a radius that is not above 0")

    def untaught(self) -> TeacherConfig:
        """The same network and views without its teachers."""
        loss = "ce" if self.loss == "none" else self.loss
        return replace(self, sources=NONE, distil=None, loss=loss)

    @property
    def logit_scale(self) -> float:
        """What exported logits must be multiplied by before any softmax: 30 for LDAM's cosines, else 1."""
        return self.scale if self.loss == "ldam" else 1.0
