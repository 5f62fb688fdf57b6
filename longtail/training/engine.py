"""What makes a step fast on the device at hand: attention kernel, compiled blocks, recorded CUDA graphs.

Neither changes what is computed but for the order of float sums. On a CPU attention stays PyTorch's own choice, so that
a run gives the same bytes again.

A step of training recorded once as a CUDA graph and replayed: one launch where Python would launch a thousand.

A replay repeats the kernels with the addresses and the numbers of the recording; Python does not run again. So a step's
inputs are copied to where those of the recording lay, what it reads and changes besides (weights, momentum, batch
statistics) must stay where it is, and with other numbers (learning rate, SAM's radius) it is recorded anew.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

from longtail.base import environment
from longtail.runs.execution import Execution

BACKENDS = ("flash", "cudnn", "mem_efficient", "math")  # as in torch.backends.cuda.enable_<name>_sdp
_WARM_UP, _TIMED, _CALLS = 3, 5, 10  # blocks, blocks, calls in a block


def choose_attention(
    batch: int, heads: int, tokens: int, dim: int, dtype: torch.dtype, device: torch.device
) -> str | None:
    """The fastest kernel for softmax(q k') v of [batch, heads, tokens, dim], both passes; this process uses it.

    Takes about a second. Returns its name; None on a CPU, where nothing is tried."""
    if device.type != "cuda":
        return None
    seconds = {}
    for name in BACKENDS:
        _enable(name)
        try:
            seconds[name] = _attention_seconds((batch, heads, tokens, dim), dtype, device)
        except RuntimeError:  # no such kernel for this device, type or size, or no memory for it
            seconds[name] = math.inf
    best = min(seconds, key=seconds.__getitem__)
    _enable(best, "math")  # for inputs of other kinds
    _prefer(best)
    return best


def _enable(*names: str) -> None:
    for name in BACKENDS:
        getattr(torch.backends.cuda, f"enable_{name}_sdp")(name in names)


def _prefer(name: str) -> None:
    """Of several allowed kernels PyTorch takes the first of a list, in which cudnn may come after math."""
    names = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "mem_efficient": "EFFICIENT_ATTENTION"}
    first = int(getattr(SDPBackend, names.get(name, "MATH")))
    torch._C._set_sdp_priority_order([first, *(b for b in torch._C._get_sdp_priority_order() if b != first)])


def _attention_seconds(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> float:
    q, k, v = (torch.zeros(shape, dtype=dtype, device=device, requires_grad=True) for _ in range(3))
    seconds = []
    for _ in range(_WARM_UP + _TIMED):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(_CALLS):
            F.scaled_dot_product_attention(q, k, v).sum().backward()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return median(seconds[_WARM_UP:])


def compile_blocks(model: nn.Module, attempt: Callable[[], Tensor]) -> str | None:
    """Have torch.compile translate the model's blocks, the same code for all of them, and try it: attempt() is a
    forward pass, whose result's backward pass is run too. Gradients are cleared.

    A network without blocks, and a machine that cannot compile, go on as written. Returns why, in a line; None when all
    is well. What the compiler made is kept for later runs in TORCHINDUCTOR_CACHE_DIR (default: `compiled` in the
    scratch folder).
    """
    blocks = [*getattr(model, "blocks", ()), *getattr(model, "decoder_blocks", ())]
    if not blocks:
        return "no blocks to compile"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((environment.scratch() / "compiled").absolute()))
    for block in blocks:
        block.compile(dynamic=False)
    try:
        attempt().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the compiler has many ways to fail: no C++ compiler, no Triton, its own mistakes
        for block in blocks:
            block._compiled_call_impl = None
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    finally:
        for p in model.parameters():
            p.grad = None
    return None


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
