"""What `experts`, `diversity` and `router` of an entry of `teachers` may say together (RIDE, METHODS 2.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longtail.base.errors import UserError
from longtail.losses.cbd import FeatureDistillation
from longtail.models.experts import RouterSizes

if TYPE_CHECKING:
    from longtail.training.teacher_config import TeacherConfig


@dataclass(frozen=True)
class Router(RouterSizes):
    """The block `router`: RIDE's expert assignment, trained alone on top of a finished network (`start`)."""

    pos_weight: float  # of "a further expert helps" in its loss; published 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pos_weight <= 0:
            raise ValueError(f"pos_weight: {self.pos_weight} must be above 0; published 100")


def check_experts(config: TeacherConfig) -> None:
    """Raises ValueError where an entry's keys of these names contradict one another, or others of it."""
    if config.experts < 1:
        raise ValueError(f"experts: {config.experts}; at least 1, the plain network (RIDE: 2 to 6)")
    routes = config.start is not None and config.start.train == "router"
    if routes != (config.router is not None):
        raise ValueError("router and start.train: router go together: give both, or another start and null")
    if config.router is not None and config.experts == 1:
        raise ValueError("router: it chooses among experts; write experts: 4 (RIDE-DiVE), as its source has them")
    if routes and config.loss != "none":
        raise ValueError(f"start.train: router has a loss of its own; write loss: none, found {config.loss}")
    if config.diversity is not None and (config.experts == 1 or config.start is not None):
        raise ValueError("diversity is among experts that are trained; write experts above 1 and no start, or null")
    if config.experts == 1:
        return
    if config.loss == "paco" or config.projection is not None:
        raise ValueError(f"experts: {config.experts} go with losses on logits; not with loss paco or a projection")
    if isinstance(config.distil, FeatureDistillation):
        raise ValueError(f"experts: {config.experts} have no one feature; write distil of kind soft")
    start = config.start
    if start is not None and (start.train not in ("router", "nothing") or start.classifier != "kept"):
        raise ValueError(
            f"experts: {config.experts} that go on from weights: write start.train: router (or nothing, of an ensemble)"
            " and classifier: kept"
        )


def check_router(config: TeacherConfig, classes: int) -> None:
    """Raises UserError where the router is to see more logits than there are classes."""
    if config.router is not None and config.router.top > classes:
        raise UserError(f"router.top: {config.router.top} of the logits, of {classes} classes; write at most {classes}")
