"""A step of training recorded once as a CUDA graph and replayed: one launch where Python would launch a thousand.

A replay repeats the kernels with the addresses and the numbers of the recording; Python does not run again. So a step's
inputs are copied to where those of the recording lay, what it reads and changes besides (weights, momentum, batch
statistics) must stay where it is, and with other numbers (learning rate, SAM's radius) it is recorded anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial

import torch
from torch import Tensor

from longtail.runs.execution import Execution

WARM_UP = 3  # eager calls before a recording: they choose kernels and make the optimizer's buffers


class CudaGraphs:
    """Records functions without arguments. Its graphs share memory, so they must be replayed one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self.forget()

    def forget(self) -> None:
        """To be called when no graph is left: the memory of a pool without graphs cannot be used again."""
        self._pool = torch.cuda.graph_pool_handle()

    def eagerly(self, function: Callable[[], Tensor]) -> Tensor:
        """function() on the stream of the recordings: autograd would make a recording wait for any other stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = function()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """The replay of function(), which is run for its launches alone: nothing is computed here. Other threads may go
        on using the device. Raises RuntimeError where it does what a graph cannot hold."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        with (
            torch.cuda.stream(before),  # some versions of PyTorch keep to the graph's where a recording fails
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


class Steps:
    """Calls steps: eagerly, or the first few of each shape of inputs eagerly and then by replay.

    Its first steps are steps of the run like any other, so no state is touched to warm up.
    """

    def __init__(self, graphs: CudaGraphs | None, say: Callable[[str], None]) -> None:
        """graphs None: eagerly; say: takes the one line on why steps stay or become eager."""
        self._graphs, self._say = graphs, say
        self._numbers: Hashable = None
        self._eager: Counter = Counter()  # calls so far, by shapes
        self._recorded: dict[tuple, tuple[list[Tensor], Callable[[], Tensor]]] = {}

    @property
    def engine(self) -> str:
        """eager or compiled, as steps are called now."""
        return "eager" if self._graphs is None else "compiled"

    def __call__(self, step: Callable[..., Tensor], inputs: tuple[Tensor, ...], numbers: Hashable) -> Tensor:
        """step(*inputs). numbers: all that step depends on besides tensors; inputs: on the device.

        The result of a replay is overwritten by the next one. With the same numbers and shapes `step` may be another
        object from call to call, but must do the same."""
        if self._graphs is None:
            return step(*inputs)
        if numbers != self._numbers:
            self._numbers, self._recorded = numbers, {}
            self._graphs.forget()
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._recorded:
            if self._eager[shapes] < WARM_UP:
                self._eager[shapes] += 1
                return self._graphs.eagerly(partial(step, *inputs))
            places = [x.clone() for x in inputs]
            try:
                self._recorded[shapes] = places, self._graphs.record(partial(step, *places))
            except RuntimeError as error:  # nothing was computed: this step is still to be done
                self._say(f"steps run eagerly from here: no CUDA graph ({str(error).splitlines()[0]})")
                self._graphs, self._recorded = None, {}
                return step(*inputs)
        places, replay = self._recorded[shapes]
        for place, given in zip(places, inputs, strict=True):
            place.copy_(given)
        return replay()


def steps_of(execution: Execution, device: torch.device, say: Callable[[str], None]) -> Steps:
    """By CUDA graphs for engine `compiled` on CUDA, eager for all else; said where that was not asked for."""
    if execution.engine == "compiled" and device.type != "cuda":
        say(f"engine compiled: a teacher's steps run eagerly on device {device.type}, which has no CUDA graphs")
    by_graph = execution.engine == "compiled" and device.type == "cuda"
    return Steps(CudaGraphs(device) if by_graph else None, say)
