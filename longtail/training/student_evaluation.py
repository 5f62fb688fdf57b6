"""A student's logits on the test set."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base.device import upload
from longtail.base.images import Images
from longtail.data.long_tail import LongTail
from longtail.models.vit import cls_dist_distance, head_logits, special_tokens
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.training.experiment import StudentConfig
from longtail.training.validation import COLUMN, Chosen, balanced_accuracy
from longtail.views.eval_views import EvalViews
from longtail.views.normalize import constants, normalize

EVAL_BATCH = 256
APART = "distance"  # beside the heads' logits: 1 - cosine of CLS and DIST, [n]


def test_views(config: StudentConfig, data: LongTail, team: Team) -> EvalViews:
    """Those of a process's part of the test set: whole batches, so that sums are the same however many processes."""
    return _views(config, data.test_images, team)


test_views.__test__ = False  # no test of pytest's


def _views(config: StudentConfig, images: np.ndarray | Images, team: Team) -> EvalViews:
    part = team.share(-(-len(images) // EVAL_BATCH))
    images = images[part.start * EVAL_BATCH : part.stop * EVAL_BATCH]
    return EvalViews(images, config.model.image_size, config.train.eval_resize)


class Validation:
    """The evaluator of the validation images of a dataset that has some, and the epoch chosen by it."""

    def __init__(
        self, config: StudentConfig, data: LongTail, device: torch.device, execution: Execution, team: Team
    ) -> None:
        self.chosen, self.evaluate = Chosen(), None
        if data.val_labels is not None:
            views = _views(config, data.val_images, team)
            self.evaluate = Evaluator(views, data.val_labels, config.views.normalization, device, execution, team)

    def close(self, epoch: int, model: nn.Module, tested: dict[str, Tensor]) -> dict[str, float]:
        """Columns of the epoch's row. tested: the epoch's test logits by head, kept where the epoch is chosen: by the
        averaged head, as the best on the test set is."""
        found = {} if self.evaluate is None else self.evaluate(model)
        scores = {head: balanced_accuracy(z, self.evaluate.labels) for head, z in found.items()}
        if scores and self.chosen.better(scores["avg"]):
            self.chosen.take(epoch, scores["avg"], tested)
        return {f"{COLUMN}_{head}": score for head, score in scores.items()}


class Evaluator:
    """Logits of the test set, float32 on the CPU, by head and their average. views: of this process's part; they lie on
    the device for the whole run where they fit.

    In a team the first process has the logits of all parts, the others none: metrics are made once, of the whole set
    (METHODS trap 44).
    """

    cls_dist_distance: float | None = None  # mean 1 - cosine of CLS and DIST over the images of the last call, if any

    def __init__(
        self,
        views: EvalViews,
        labels: np.ndarray,
        normalization: str,
        device: torch.device,
        execution: Execution = Execution(),  # noqa: B008 (frozen)
        team: Team = ALONE,
    ) -> None:
        if views.kept is not None and _fits(views.kept, device):
            views.kept = views.kept.to(device)
        self.views, self.labels, self.device, self.execution, self.team = views, labels, device, execution, team
        self.mean, self.std = constants(normalization, device)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, Tensor]:
        """The model is left in eval mode. Compiled parts of it run as they were written: what is kept of a run does not
        depend on a compiler, nor does it compile for the sizes of test batches. In half precision the heads alone are
        computed in float32: rounded logits tie, and of equals the lower, more frequent class would be named."""
        model.eval()
        parts: dict[str, list[Tensor]] = {}
        compiled = self.execution.engine == "compiled"  # else the compiler, 2 s of a core, is not even loaded
        as_written = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
        with as_written:
            for pixels in self.views.batches(EVAL_BATCH) if len(self.views) else ():  # fewer batches than processes
                pixels = pixels if pixels.device.type == self.device.type else upload(pixels.numpy(), self.device)
                x = normalize(pixels, self.mean, self.std)
                with self.execution.autocast(self.device):
                    tokens = special_tokens(model, x)
                tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
                for head, z in head_logits(model, tokens).items():
                    parts.setdefault(head, []).append(z.float())
                if "dist" in parts:
                    parts.setdefault(APART, []).append(cls_dist_distance(tokens))
        mine = {head: torch.cat(logits).cpu() for head, logits in parts.items()}  # the only wait for the device
        gathered = [part for part in self.team.gather(mine) if part]
        if not gathered:
            return {}
        heads = {head: torch.cat([part[head] for part in gathered]) for head in gathered[0]}
        if (apart := heads.pop(APART, None)) is not None:
            self.cls_dist_distance = float(f"{apart.double().mean().item():.9g}")
        return heads | {"avg": torch.stack(list(heads.values())).mean(0)}  # mean of raw logits (METHODS trap 43)

    def top1(self, logits: Tensor) -> float:
        """Per cent, to four decimals."""
        return round(100 * float(np.mean(logits.argmax(1).numpy() == self.labels)), 4)


def _fits(pixels: Tensor, device: torch.device) -> bool:
    """In a quarter of the memory that the device has free."""
    return device.type == "cuda" and pixels.numel() <= torch.cuda.mem_get_info(device)[0] // 4
