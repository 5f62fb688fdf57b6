"""What stands in for CUDA graphs on a CPU: a recording of tensor operations that is played back without Python."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}  # the host would wait


class _Log(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        aliases = [value.alias_info is not None for value in func._schema.returns]
        if not all(aliases) or any(value.alias_info and value.alias_info.is_write for value in func._schema.arguments):
            kept = lambda tree: tree_map(lambda leaf: leaf, tree)  # noqa: E731 (lists may change later, tensors stay)
            self.calls.append((func, kept(args), kept(kwargs), made, aliases))
        return made


class RecordedGraphs:
    """Has the methods of training.step_graph.CudaGraphs and holds what a CUDA graph holds: the tensors themselves, and
    numbers as they were. Unlike one it computes while it records, so the first replay has nothing left to do."""

    def __init__(self) -> None:
        self.forgets = self.eager = self.recordings = self.replays = 0

    def forget(self) -> None:
        self.forgets += 1

    def eagerly(self, function):
        self.eager += 1
        return function()

    def record(self, function):
        self.recordings += 1
        with _Log() as log:
            result = function()
        done = [True]

        def replay():
            self.replays += 1
            if done:
                done.pop()
            else:
                with torch.no_grad():
                    _play(log.calls)
            return result

        return replay


def _play(calls) -> None:
    for func, args, kwargs, made, aliases in calls:
        again = func(*args, **kwargs)
        parts = ((made,), (again,)) if len(aliases) == 1 else (made, again) if aliases else ((), ())
        for old, new, alias in zip(*parts, aliases, strict=True):
            for place, value in zip(tree_leaves(old), tree_leaves(new), strict=True):
                if isinstance(place, torch.Tensor) and not alias:
                    place.data.copy_(value)
