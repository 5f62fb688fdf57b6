"""Arrays that worker processes make before they are asked for, in order: the input of a loop that is busy elsewhere.

The workers are forked and fill buffers of shared memory, so nothing is pickled or copied on the way but the news that a
buffer is full; anonymous memory, because /dev/shm is small in many containers. For the CPU alone: CUDA does not survive
a fork, and `fill` must not touch it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from math import prod
from multiprocessing import get_context
from typing import Any

import numpy as np

from longtail.base.errors import UserError
from longtail.base.workers import deaf, ended

_LOOK_S = 5.0  # between looks whether the parent is still alive


def made_ahead(
    fill: Callable[[Any, np.ndarray], None], items: Sequence, shape: tuple[int, ...], workers: int, depth: int
) -> Iterator[np.ndarray]:
    """fill(item, buffer) of each item, in order: the buffer, uint8 of `shape`, good until the next one is asked for.

    Worker k makes items k, k + workers, ... and is at most `depth` of them ahead of the iterator. An exception of
    `fill` is raised here. The workers end with the iterator, at the end of this process, or when it dies."""
    context, parent = get_context("fork"), os.getpid()
    pipes, processes, buffers = [], [], []
    with ended(processes):
        for number in range(min(workers, len(items))):
            ours, theirs = context.Pipe()
            rings = np.frombuffer(mmap.mmap(-1, depth * prod(shape)), np.uint8).reshape(depth, *shape)
            mine = items[number::workers]
            process = context.Process(target=_work, args=(fill, mine, rings, theirs, parent))
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
            buffers.append(rings)
        for number in range(len(items)):
            worker, nth = number % workers, number // workers
            try:
                error = pipes[worker].recv()
            except (EOFError, ConnectionResetError):
                raise UserError(
                    "a worker process was killed (out of memory?); start again, it goes on from here"
                ) from None
            if error is not None:
                raise error
            yield buffers[worker][nth % depth]
            if nth + depth < -(-(len(items) - worker) // workers):  # the worker has another item for this buffer
                pipes[worker].send(None)


def _work(fill, items: Sequence, rings: np.ndarray, pipe, parent: int) -> None:
    """Fill buffer after buffer; say when one is full, and wait until it is free again."""
    deaf()
    for nth, item in enumerate(items):
        if nth >= len(rings):
            while not pipe.poll(_LOOK_S):
                if os.getppid() != parent:
                    return
        try:
            if nth >= len(rings):
                pipe.recv()
            error = _filled(fill, item, rings[nth % len(rings)])
            pipe.send(error)
        except (EOFError, OSError):  # the parent has gone
            return
        if error is not None:
            return


def _filled(fill, item, buffer: np.ndarray) -> Exception | None:
    try:
        fill(item, buffer)
    except Exception as error:
        return error
    return None
