"""What a student sees and what its teacher says of it: a training image, a view of it, the teacher's label."""

from __future__ import annotations

import numpy as np
import torch

from longtail.data.long_tail import LongTail
from longtail.training.labeller import Labeller
from longtail.views.batch import teacher_input
from longtail.views.normalize import constants
from longtail.views.student_views import ViewRecipe, Views

KEYS = ("images", "views", "labels", "partners", "shares", "answers", "probabilities")


@torch.no_grad()
def taught(labeller: Labeller, views: Views, data: LongTail, device: torch.device) -> dict[str, np.ndarray] | None:
    """Of the most frequent, the middle and the rarest class the image that is shown first, as the student sees it then.

    {images: uint8 [K, H, W, 3]; views: uint8 [K, S, S, 3], augmented and mixed, of the first epoch, clipped to what a
    screen shows; labels: int64 [K]; partners: int64 [K], class of the image that is mixed in, the own where none is;
    shares: float64 [K], weight of the own label; answers: int64 [K], the class that the teacher names; probabilities:
    float64 [K], how sure it is}. K is 3, fewer where an epoch shows no image of a class. None where the images are of
    several sizes.
    """
    if not isinstance(data.train_images, np.ndarray):
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
    return {key: np.asarray(column) for key, column in zip(KEYS, columns, strict=True)} if found else None


def pixels(x: torch.Tensor, recipe: ViewRecipe) -> np.ndarray:
    """A normalized view, float [3, S, S], as uint8 [S, S, 3]; what lies outside of 0 to 255, as erased parts may, is
    clipped."""
    mean, std = constants(recipe.normalization)
    return ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
