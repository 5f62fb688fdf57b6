"""Memory that is used again: page faults of a large new array cost more than filling it."""

from __future__ import annotations

import mmap
import os
import sys
from math import prod

import numpy as np


class Reused:
    """Arrays of one dtype. What is asked for lies where an earlier one did that nobody holds any more."""

    def __init__(self, dtype: np.dtype | type, kept: int = 2) -> None:
        """kept: how many are remembered; two are the batch in use and the next one."""
        self._dtype, self._most = np.dtype(dtype), kept
        self._kept: list[np.ndarray] = []
        self._of = os.getpid()

    def empty(self, *shape: int) -> np.ndarray:
        """An array of any content, the caller's for as long as it, a view of it or a tensor made from it is held. In a
        forked process the arrays of its parent are not there."""
        size = prod(shape)
        if self._of != os.getpid():
            self._kept, self._of = [], os.getpid()
        for number in range(len(self._kept)):  # all of these refer to the array, and the list and the call do
            if sys.getrefcount(self._kept[number]) == 2 and len(self._kept[number]) >= size:
                return self._kept[number][:size].reshape(shape)
        self._kept = [*self._kept, self._new(max(1, size))][-self._most :]
        return self._kept[-1][:size].reshape(shape)

    def _new(self, size: int) -> np.ndarray:
        memory = mmap.mmap(-1, size * self._dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_DONTFORK"):  # a page shared with a child would be copied when it is next written to
            memory.madvise(mmap.MADV_DONTFORK)
        return np.frombuffer(memory, self._dtype)
