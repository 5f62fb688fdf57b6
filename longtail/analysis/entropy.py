"""Entropy of a teacher's predictions, in and out of its training distribution (METHODS 4.5, P0 Fig. 3); and some of the
images that it labels, as they are shown to it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from longtail.data.long_tail import LongTail
from longtail.training.labeller import Labeller
from longtail.training.supervised import supervised_views
from longtail.training.teacher_config import TeacherConfig
from longtail.views.batch import teacher_input
from longtail.views.normalize import constants, normalize
from longtail.views.student_views import ViewRecipe, Views

BATCH = 500  # images
TAUGHT = ("images", "views", "labels", "partners", "shares", "answers", "probabilities")


def softmax_entropy(logits: Tensor | np.ndarray, scale: float = 1.0) -> Tensor:
    """-sum p log p in nats of p = softmax(scale * logits). logits: [n, C]. Returns float64 [n], between 0 and log C.

    scale: 30 for LDAM, whose logits are cosines; without it every image has close to log C (METHODS trap 24).
    """
    logp = (scale * torch.as_tensor(logits).double()).log_softmax(-1)
    return -(logp.exp() * logp.clamp(min=torch.finfo(torch.float64).min)).sum(-1)  # 0 * -inf is 0


def entropy_histogram(entropies: Tensor | np.ndarray, classes: int, bins: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Counts on equal bins from 0 to log(classes). Returns edges float64 [bins + 1], counts int64 [bins].

    Bins depend on the number of classes alone, so that histograms of different teachers and domains line up.
    """
    edges = np.linspace(0.0, np.log(classes), bins + 1)
    inside = np.clip(np.asarray(entropies, np.float64), 0.0, edges[-1])  # log C can come out an ulp too large
    return edges, np.histogram(inside, edges)[0].astype(np.int64)


@torch.no_grad()
def entropy_in(teacher: nn.Module, config: TeacherConfig, data: LongTail, seed: int, device: torch.device) -> Tensor:
    """Entropy on every training image once, as the teacher was trained on it. float64 [N], on the CPU.

    In distribution: the views of its entry (PaCo's on large images: the query's recipe), else random crop and flip at
    native resolution; drawn as in a first epoch of this seed, in the teacher's own normalisation.
    """
    order = np.arange(len(data.train_labels))
    views = supervised_views(config, data, seed, device)
    mean, std = constants(config.normalization, device)
    entropies = []
    for start in range(0, len(order), BATCH):
        (pixels,) = views.batch(0, slice(start, min(start + BATCH, len(order))), order)
        entropies.append(softmax_entropy(teacher(normalize(pixels, mean, std)), config.logit_scale).cpu())
    return torch.cat(entropies)


@torch.no_grad()
def entropy_own_views(teacher: nn.Module, views: Views, device: torch.device) -> Tensor:
    """Entropy on every view of the first epoch of a student's own training. float64 [views.positions_per_epoch], CPU.

    In distribution for a CNN that was trained as a student is: views at full size, whatever a teacher of theirs sees.
    """
    steps = (views.step(0, step).x.to(device) for step in range(views.steps_per_epoch))
    return torch.cat([softmax_entropy(teacher(x)).cpu() for x in steps])


@torch.no_grad()
def entropy_out(teacher: nn.Module, views: Views, logit_scale: float, device: torch.device) -> Tensor:
    """Entropy on every view of the student's first epoch. float64 [views.positions_per_epoch], on the CPU.

    Out of distribution: strongly augmented and mixed, in the student's normalisation, brought to the teacher's size by
    the same slice as for its labels (METHODS 3.3). Weak views where those are what it labels.
    """
    entropies = []
    for batch in views.steps(0):
        seen = teacher_input(batch.shown.to(device), views.recipe)
        entropies.append(softmax_entropy(teacher(seen), logit_scale).cpu())
    return torch.cat(entropies)


@torch.no_grad()
def taught(labeller: Labeller, views: Views, data: LongTail, device: torch.device) -> dict[str, np.ndarray] | None:
    """Of the most frequent, the middle and the rarest class the image that is shown first, as the student sees it then.

    {images: uint8 [K, H, W, 3]; views: uint8 [K, S, S, 3], augmented and mixed, of the first epoch, clipped to what a
    screen shows; labels: int64 [K]; partners: int64 [K], class of the image that is mixed in, the own where none is;
    shares: float64 [K], weight of the own label; answers: int64 [K], the class that the teacher names; probabilities:
    float64 [K], how sure it is}. K is 3, fewer where an epoch shows no image of a class. None where the images are of
    several sizes, and where the teacher labels weak views, which are not those that the student sees.
    """
    if not isinstance(data.train_images, np.ndarray) or views.recipe.teacher_view == "weak":
        return None
    ranked = np.argsort(-np.bincount(data.train_labels, minlength=data.num_classes), kind="stable")
    classes = [int(c) for c in ranked[[0, len(ranked) // 2, -1]]]
    found: dict[int, tuple] = {}
    for batch in views.steps(0):
        labels = data.train_labels[batch.index.numpy()]
        for own in [c for c in classes if c not in found and c in labels]:
            row = int(np.flatnonzero(labels == own)[0])
            seen = teacher_input(batch.shown[row : row + 1].to(device), views.recipe)
            sure = (labeller.logit_scale * labeller.network(seen)[0].double()).softmax(-1).cpu()
            answer, partner = int(sure.argmax()), int(data.train_labels[int(batch.partner[row])])
            image, shown = data.train_images[int(batch.index[row])], pixels(batch.x[row].cpu(), views.recipe)
            found[own] = (image, shown, own, partner, float(batch.lam[row]), answer, float(sure[answer]))
        if len(found) == len(classes):
            break
    columns = zip(*(found[own] for own in classes if own in found), strict=True)
    return {key: np.asarray(column) for key, column in zip(TAUGHT, columns, strict=True)} if found else None


def pixels(x: torch.Tensor, recipe: ViewRecipe) -> np.ndarray:
    """A normalized view, float [3, S, S], as uint8 [S, S, 3]; what lies outside of 0 to 255, as erased parts may, is
    clipped."""
    mean, std = constants(recipe.normalization)
    return ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
