"""Reliability diagrams: how often predictions of a given confidence are right. Sums a bin, so that seeds add up."""

from __future__ import annotations

import numpy as np

from longtail.evaluation.metrics import BINS, DECIMALS


def bin_sums(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> np.ndarray:
    """float64 [3, bins]: images, sum of confidences, images predicted rightly. Bins as metrics.calibration_gaps has
    them (METHODS 5.5): equal, right-closed edges.

    confidence: float64 [M] in [0, 1]; right: 0/1 [M].
    """
    bin_of = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    return np.stack([np.bincount(bin_of, weights, bins) for weights in (np.ones(len(right)), confidence, right)])


def ece(sums: np.ndarray) -> float | None:
    """Expected calibration error in %, from bin_sums; None without images."""
    images, confidence, right = sums
    return round(100.0 * float(np.abs(right - confidence).sum() / images.sum()), DECIMALS) if images.any() else None


def diagram(sums: np.ndarray) -> dict[str, list]:
    """{"count": images a bin, "confidence": mean in %, "accuracy": %}; None in an empty bin."""
    images, confidence, right = sums

    def percent(total: np.ndarray) -> list[float | None]:
        return [round(100.0 * t / n, DECIMALS) if n else None for t, n in zip(total.tolist(), images, strict=True)]

    return {"count": images.astype(int).tolist(), "confidence": percent(confidence), "accuracy": percent(right)}
