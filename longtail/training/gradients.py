"""The gradients of a step that several processes share, summed over them while the backward pass goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from longtail.runs.parallel import Team

BUCKET_BYTES = 32 * 2**20  # a sum of this size hides what it costs to begin one


class _Bucket:
    """Neighbouring parameters whose gradients lie in one buffer."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        first = parameters[0]
        self.parameters = parameters
        self.flat = torch.zeros(sum(p.numel() for p in parameters), dtype=first.dtype, device=first.device)
        for p, part in zip(parameters, self.flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.as_strided(p.shape, p.stride())  # in the parameter's own order: channels_last, say
        self.missing = len(parameters)


class Gradients:
    """Of the parameters that are trained. A process alone keeps its gradients as they come."""

    def __init__(self, parameters: Iterable[nn.Parameter], team: Team) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.team = team
        # a backward pass ends with the first parameters; buckets start in this order in every process
        shared = self.parameters[::-1] if team.backend is not None else []
        self.buckets = [_Bucket(run) for run in _runs(shared)]
        self._last = False
        self._sums: list[Callable[[], None]] = []
        for bucket in self.buckets:
            for p in bucket.parameters:
                p.register_post_accumulate_grad_hook(lambda p, bucket=bucket: self._arrived(bucket))

    def clear(self) -> None:
        """Before a step."""
        self._last, self._sums = False, []
        for bucket in self.buckets:
            bucket.flat.zero_()
            bucket.missing = len(bucket.parameters)
        if not self.buckets:
            for p in self.parameters:
                p.grad = None

    def last_pass(self) -> None:
        """The next backward pass is the step's last in this process."""
        self._last = True

    def finish(self) -> None:
        """After the last backward pass, or where this process has none in this step: all sums are made. The host does
        not wait for a GPU. Raises ValueError where a parameter got no gradient: a process alone would leave it as it
        is, which a sum of zeros does not."""
        if self._last and any(bucket.missing for bucket in self.buckets):
            raise ValueError("a trained parameter has no part in the loss; freeze it")
        while len(self._sums) < len(self.buckets):
            self._begin()
        for wait in self._sums:
            wait()

    def _arrived(self, bucket: _Bucket) -> None:
        if self._last:
            bucket.missing -= 1
            while len(self._sums) < len(self.buckets) and not self.buckets[len(self._sums)].missing:
                self._begin()

    def _begin(self) -> None:
        self._sums.append(self.team.sum_later(self.buckets[len(self._sums)].flat))


def _runs(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Neighbours of one type, up to BUCKET_BYTES together."""
    run: list[nn.Parameter] = []
    size = 0
    for p in parameters:
        own = p.numel() * p.element_size()
        if run and (size + own > BUCKET_BYTES or p.dtype != run[0].dtype):
            yield run
            run, size = [], 0
        run.append(p)
        size += own
    if run:
        yield run
