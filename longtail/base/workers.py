"""Independent work items on several processes of one thread each, results in order."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

from longtail.base.errors import UserError


def cores() -> int:
    """Processor cores this process may use; of several that torchrun or runs/launch.py started here, its share."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def makers() -> int:
    """Processes that make views of images that are decoded one by one: one for each thread this process was given, its
    share of the cores; 0 where there is one alone, which makes them itself."""
    threads = torch.get_num_threads()
    return threads if threads > 1 else 0


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
                raise UserError(
                    "a worker process was killed (out of memory?); start again, it goes on from here"
                ) from None
            if error is not None:
                raise error
            yield result


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
