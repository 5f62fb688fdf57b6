"""What makes a ViT's step fast on the device at hand: the attention kernel found by trial, blocks compiled one by one.

Neither changes what is computed but for the order of float sums. On a CPU attention stays PyTorch's own choice, so that
a run gives the same bytes again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

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
    blocks = list(getattr(model, "blocks", ()))
    if not blocks:
        return "no blocks to compile"
    scratch = Path(os.environ.get("LONGTAIL_SCRATCH", "scratch"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((scratch / "compiled").absolute()))
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
