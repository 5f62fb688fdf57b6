"""Worker processes of one thread each: results in order, and arrays made before they are asked for.

Arrays that worker processes make before they are asked for, in order: the input of a loop that is busy elsewhere.

The workers are forked and fill buffers of shared memory, so nothing is pickled or copied on the way but the news that a
buffer is full; anonymous memory, because /dev/shm is small in many containers. For the CPU alone: CUDA does not survive
a fork, and `fill` must not touch it. A fork takes the locks of other threads along and not the threads: so those of
PyTorch end before it (`alone`) and what writes checkpoints is waited for (runs/saver.py). Those of CUDA and of a team's
network stay, and hold no lock that `work` or `fill` asks for.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from multiprocessing import get_context
from typing import Any

import numpy as np

from longtail.base.errors import UserError, killed


def cores() -> int:
    """Processor cores this process may use; of several that torchrun or runs/launch.py started here, its share."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def makers() -> int:
    """Processes that make views of images that are decoded one by one: one for each thread this process was given, its
    share of the cores; 0 where there is one alone, which makes them itself."""
    import torch

    threads = torch.get_num_threads()
    return threads if threads > 1 else 0


def set_threads(count: int) -> None:
    """PyTorch's threads of this process. At the first call, one first: by that number it makes a second pool of threads
    (QNNPACK's) that it never ends, and `alone` could not."""
    import torch

    torch.set_num_threads(1)
    torch.set_num_threads(count)


@contextmanager
def one_thread() -> Iterator[None]:
    """One of PyTorch's threads meanwhile: several add up in another order, and roundings follow."""
    import torch

    before = torch.get_num_threads()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(before)


def in_order(work: Callable[[Any], Any], items: Sequence, workers: int) -> Iterator:
    """work(item) of each item, in order, from `workers` forked processes; with 1, in this process.

    For the CPU alone: CUDA does not survive a fork. An exception of `work` is raised here. The workers end with the
    iterator, or when this process dies."""
    if workers <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    context, parent = get_context("fork"), os.getpid()
    readers, processes = [], []
    with ended(processes):
        with alone():
            for number in range(min(workers, len(items))):
                reader, writer = context.Pipe(duplex=False)
                readers.append(reader)
                process = context.Process(target=_work, args=(work, items[number::workers], writer, readers, parent))
                process.start()
                processes.append(process)
                writer.close()
        for number in range(len(items)):
            try:
                result, error = readers[number % workers].recv()
            except EOFError:
                raise _lost(processes[number % workers]) from None
            if error is not None:
                raise error
            yield result


def _lost(process) -> UserError:
    process.join(1)
    code = process.exitcode
    how = killed(-code) if code is not None and code < 0 else f"ended with code {code}"
    return UserError(f"a worker process was {how}; start again, it goes on from here")


@contextmanager
def alone() -> Iterator[None]:
    """Around forks: the threads of PyTorch in this process end, where it is loaded, and begin anew when needed. NumPy
    ends its own by itself."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)  # OpenMP 5.0; torch makes its library's visible
    if pause is not None:
        pause(2)  # omp_pause_hard: idle threads end
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def ended(processes: list) -> Iterator[None]:
    """Processes that are in the list when the block is left, or when the interpreter ends within it, are killed; the
    interpreter would otherwise wait for them."""

    def end() -> None:
        for process in processes:
            process.kill()
            process.join()

    atexit.register(end)
    try:
        yield
    finally:
        atexit.unregister(end)
        end()


def deaf() -> None:
    """In a worker: no signal but SIGKILL ends it, since the parent saves its state first; and one thread."""
    for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    if torch := sys.modules.get("torch"):  # who reads and packs images works without it
        torch.set_num_threads(1)


def _work(work, items, writer, readers, parent: int) -> None:
    deaf()
    for reader in readers:  # with a reader open here, a write after the parent's death would block instead of failing
        reader.close()
    for item in items:
        try:
            answer = work(item), None
        except Exception as error:
            answer = None, error
        if os.getppid() != parent:
            return
        try:
            writer.send(answer)
        except BrokenPipeError:
            return


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
        with alone():
            for number in range(min(workers, len(items))):
                ours, theirs = context.Pipe()
                rings = np.frombuffer(mmap.mmap(-1, depth * prod(shape)), np.uint8).reshape(depth, *shape)
                mine = items[number::workers]
                process = context.Process(target=_fill_ahead, args=(fill, mine, rings, theirs, parent))
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
                raise _lost(processes[worker]) from None
            if error is not None:
                raise error
            yield buffers[worker][nth % depth]
            if nth + depth < -(-(len(items) - worker) // workers):  # the worker has another item for this buffer
                pipes[worker].send(None)


def _fill_ahead(fill, items: Sequence, rings: np.ndarray, pipe, parent: int) -> None:
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
