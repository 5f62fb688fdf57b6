"""What an entry of params.yaml's `teachers` holds: every number of a CNN teacher's training.

A weak teacher makes every student weak, and nothing downstream would say so: it is said where a teacher is put to use.
The teacher's own result is kept. LONGTAIL_ALLOW_WEAK_TEACHER=1 in the environment lets it teach all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from longtail.base import environment, rng
from longtail.base.errors import UserError, nearest
from longtail.base.files import npz
from longtail.base.params import later
from longtail.losses.losses import PaCoWeights
from longtail.losses.ride import Diversity
from longtail.models.build import ARCHITECTURES, CnnParts
from longtail.models.paco import PaCoSizes
from longtail.training.experts_config import Router, check_experts
from longtail.training.sources_config import NONE, Distillation, Start, check_sources
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

    select: which of the saved sets of logits belongs to the weights in use.
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


@dataclass(frozen=True)
class TeacherConfig:
    """One entry of `teachers` (CIFAR values: METHODS §2.3 to §2.6): a CNN that teaches, or that is itself taught by
    other entries (`sources`, `distil`: METHODS §6, §7), or that goes on from their weights (`sources`, `start`)."""

    study: str
    dataset: str  # entry of `datasets`
    arch: str  # name in longtail.models.build.ARCHITECTURES: resnet32, resnet50
    loss: Literal["ce", "ldam", "balanced_softmax", "focal", "paco", "none"]  # none: with `distil`, no label term
    max_margin: float | None  # LDAM only: .5 CIFAR, .3 ImageNet-LT and iNat
    # of a cosine classifier, LDAM 30, CBD 20; inside the loss, the model exports raw cosines; null = a linear one
    scale: float | None
    drw_epoch: int | None  # 0-based epoch from which class weights act; null = never
    drw_beta: float | None  # .9999
    paco: PaCoConfig | None  # PaCo only: its loss, queue and views
    epochs: int  # 0 where `start` trains nothing
    batch_size: int  # images
    drop_last: bool  # leave out the images that fill no batch; false: the last batch of an epoch is smaller
    lr: float
    momentum: float
    weight_decay: float  # on all parameters
    schedule: Literal["step", "cosine", "cosine_steps"]  # cosine: to 0, once an epoch, or with every step
    warmup_epochs: int
    milestones: tuple[int, ...]  # step only: the lr is lr·factors[i] once epoch + 1 > milestones[i]
    factors: tuple[float, ...]  # of the base lr, not of one another
    # SAM: radius of its ascent; or steps [epoch, radius], each up to and with its epoch, counted from 1, and the last
    # one, [null, radius], to the end; null = plain SGD
    sam_rho: float | tuple[tuple[int | None, float], ...] | None
    crop_padding: int | None  # zero pixels on each side before the random crop; null where there is `views`
    hflip: float | None  # probability; null where there is `views`
    normalization: str  # name in longtail.views.normalize.NORMALIZATION
    # weights used as the teacher; published: best (on the test set); validation: of the epoch chosen on validation
    # images, where the dataset has some
    select: Literal["last", "best", "validation"]
    eval_every: int  # epochs between evaluations on the test set; published: 1; the last epoch is always evaluated
    must_reach: Floor | None  # below it nothing is distilled; null = no floor
    views: LargeViewRecipe | None = None  # of images of any size; null = the padded crop of small ones, as they are
    eval_resize: int | None = None  # with views: shorter side of a test image before the central crop of views.size
    seeds: tuple[int, ...] = ()  # of the entry; a result is of one seed and its config.yaml names none
    # entries of `teachers` that this one learns from, and none in the places that are left: dvc.yaml names each place
    sources: tuple[str, str, str, str, str] = later(NONE)
    distil: Distillation | None = later(None)  # noqa: RUF009 (frozen); how it learns from them
    start: Start | None = later(None)  # noqa: RUF009 (frozen); how it goes on from their weights
    focal_gamma: float | None = later(None)  # focal only: 1 in LDAM:losses.py
    warmup_from: float | None = later(None)  # share of lr that the warm-up begins with (BBN: 1/3); null = by lr/epochs
    # ce only: images of the author rule's head classes give this much of their label to the other classes (DiVE Fig. 3)
    head_smoothing: float = later(0.0)
    # class_balanced: every class equally likely, then an image of it; balanced_copies: each image as often as makes the
    # classes equal on average (CBD's code); either way an epoch has N images (longtail/views/epoch.py)
    sampler: Literal["shuffle", "class_balanced", "balanced_copies"] = later("shuffle")
    projection: int | None = later(None)  # width of ReLU(linear(feature)), which the classifier reads; null = none
    init: Literal["own", "glorot"] = later("own")  # first weights: the architecture's, or Keras'
    zero_gamma: bool = later(False)  # each block begins as its shortcut: the scale of its last norm is 0
    # families of draws are independent, first weights among them, with one seed too: teachers of one student, and it
    # itself, must not be the same network (longtail/base/rng.py)
    family: int = later(0)
    nesterov: bool = later(False)  # momentum looks ahead (RIDE)
    # RIDE: so many experts of one network, three quarters as wide in its last two stages; the mean of them answers
    experts: int = later(1)
    diversity: Diversity | None = later(None)  # noqa: RUF009 (frozen); rewards experts that differ
    router: Router | None = later(None)  # noqa: RUF009 (frozen); with start.train: router, how many experts an image needs

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch: '{self.arch}' is unknown{nearest(self.arch, ARCHITECTURES)}")
        self._check_loss()
        self._check_distillation()
        check_experts(self)
        self._check_schedule()
        self._check_views()
        least = self.warmup_epochs, self.crop_padding or 0
        if (self.start is not None and self.start.train == "nothing") != (self.epochs == 0):
            raise ValueError(f"epochs: {self.epochs}; 0 goes with start.train: nothing, and nothing else does")
        if self.nesterov and self.momentum <= 0:
            raise ValueError(f"nesterov: true needs a momentum above 0, found {self.momentum}")
        if self.family < 0:
            raise ValueError(f"family: {self.family} must not be negative")
        if min(self.epochs or 1, self.batch_size, self.eval_every) < 1 or min(least) < 0:
            raise ValueError("at least 1: epochs, batch_size, eval_every; at least 0: warmup_epochs, crop_padding")
        if self.normalization not in NORMALIZATION:
            raise ValueError(f"normalization: '{self.normalization}'{nearest(self.normalization, NORMALIZATION)}")

    def _check_loss(self) -> None:
        if self.loss == "ldam" and not (self.max_margin and self.scale):
            raise ValueError("loss ldam needs max_margin and scale above 0 (0.5 and 30 on CIFAR)")
        if self.loss != "ldam" and self.max_margin is not None:
            raise ValueError(f"max_margin belongs to loss ldam; with {self.loss} write null")
        if self.scale is not None and (self.scale <= 0 or self.loss == "paco"):
            raise ValueError(f"scale: {self.scale}; above 0, of a cosine classifier (CBD: 20), which loss paco has not")
        if self.projection is not None and (self.projection < 1 or self.loss == "paco"):
            raise ValueError(
                f"projection: {self.projection}; at least 1 (CBD: teachers x 2048), and not with loss paco"
            )
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
        check_sources(self.sources, self.distil, self.start, self.loss, self.drw_epoch)
        if self.start is not None and self.start.classifier == "class_means" and self.scale is None:
            raise ValueError("a classifier of class_means compares by cosine: give scale (CBD: 20)")
        if self.start is not None and self.start.train == "scales" and self.scale is not None:
            raise ValueError(
                f"scale: {self.scale} is of a cosine classifier; train: scales is of a linear one, write null"
            )

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
        if self.schedule != "step" and (self.milestones or self.warmup_epochs >= max(self.epochs, 1)):
            raise ValueError(f"schedule {self.schedule} has no milestones, and more epochs than warmup_epochs")
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
        alone = {"sources": NONE, "distil": None, "start": None, "router": None}
        return replace(self, **alone, epochs=max(self.epochs, 1), loss=loss)

    def key(self, seed: int) -> int:
        """The seed of all that a run of one seed draws."""
        return rng.of_family(seed, self.family)

    @property
    def logit_scale(self) -> float:
        """What exported logits must be multiplied by before any softmax: 30 or 20 for cosines, else 1."""
        return 1.0 if self.scale is None else self.scale

    @property
    def source_dataset(self) -> str | None:
        """Entry of `datasets` that the sources were trained on, where it is another one."""
        if self.distil is not None:
            return self.distil.teacher_dataset
        return None if self.start is None else self.start.dataset

    @property
    def parts(self) -> CnnParts:
        """Its network: a cosine classifier where there is a scale, an ensemble of as many as it starts from."""
        members = sum(name != "none" for name in self.sources) if self.start is not None else 1
        head = "linear" if self.scale is None else "normed"
        scaled = self.start is not None and self.start.train == "scales"
        own = self.arch, head, self.projection, members, self.init == "glorot", self.zero_gamma, scaled, self.experts
        return CnnParts(*own) if self.router is None else CnnParts(*own, self.router, self.logit_scale)
