"""How many virtual examples a teacher makes of each class, and the temperature that DiVE would take (METHODS 6.2).

V_k = sum over the training images x of T_k(x), T the teacher's softmax at a temperature, with or without a power: as
many as there are images in all, spread over the classes. From saved logits, in float64; no network is needed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

TAUS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)  # those that the rule tries
MORE_TAUS = (20.0,)  # drawn in Fig. 5 beside them
POWERS = (1.0, 0.5)  # none, and the paper's
GROUPS = ("many", "medium", "few")  # of the count rule, in its order


def virtual_examples(logits: np.ndarray, tau: float, power: float = 1.0, logit_scale: float = 1.0) -> np.ndarray:
    """V, float64 [C], which sums to the number of images. logits: float [N, C] of the training images, unaugmented."""
    z = logit_scale * np.asarray(logits, np.float64) / tau
    shares = np.exp(z - z.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    if power != 1:
        shares **= power
        shares /= shares.sum(1, keepdims=True)
    return shares.sum(0)


def group_averages(values: np.ndarray, groups: np.ndarray) -> tuple[float | None, ...]:
    """Mean over the classes of each of GROUPS; None for a group without a class. groups: int64 [C], its number."""
    return tuple(float(values[groups == g].mean()) if (groups == g).any() else None for g in range(len(GROUPS)))


def smoothed(values: np.ndarray, class_counts: np.ndarray, width: int) -> np.ndarray:
    """V of the classes from the most frequent to the rarest, float64 [C], each the mean of the `width` classes around
    it, or of those that there are at the ends (Figs 4 and 5). Raises ValueError for an even width."""
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be odd, found {width}")
    ordered = values[np.argsort(-np.asarray(class_counts), kind="stable")]
    sums = np.convolve(ordered, np.ones(width), "same")
    return sums / np.convolve(np.ones(len(ordered)), np.ones(width), "same")


def rule_of_thumb(averages: Mapping[tuple[float, float], tuple[float | None, ...]]) -> dict[float, float | None]:
    """{power: tau}: the smallest temperature at which few-shot classes have more virtual examples on average than
    many-shot ones; None where none of those that were tried does. The paper asks for slightly more, and for a small
    temperature: averages cross once, so the first above is both.

    averages: {(tau, power): many, medium, few}. Raises ValueError where there is no few-shot or no many-shot class.
    """
    found: dict[float, float | None] = {}
    for (tau, power), (many, _, few) in sorted(averages.items()):
        if many is None or few is None:
            raise ValueError("the rule compares many-shot with few-shot classes; a group has none")
        found.setdefault(power, None)
        if found[power] is None and few > many:
            found[power] = tau
    return found
