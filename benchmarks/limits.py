"""What the device can do at most: copying memory, matrix products of the ViT's shapes, attention by each kernel.

The fastest of several blocks, as other work on the machine can only slow one down; a CPU runs in as many threads as
torch was told.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer

TOKENS = 198  # of a ViT/16 at 224 px with CLS and DIST
HEADS = {192: 3, 384: 6, 768: 12}  # of the width: DeiT-Ti, -S, -B
HEAD_DIM = 64
LEAST = 0.25  # seconds of all blocks
KERNELS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH")  # of SDPBackend


def seconds_of(work: Callable[[], object]) -> float:
    """Of one call of work, on whatever device."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=LEAST).times)


def copy_rate(device: torch.device, size: int) -> float:
    """Bytes a second, read and written both counted, of tensors of `size` bytes."""
    source = torch.empty(size // 4, device=device).fill_(1.0)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source))


def matmul_rate(device: torch.device, images: int, width: int, dtype: torch.dtype) -> float:
    """FLOP a second of the MLP's first product, [images x tokens, width] by [width, 4 width]."""
    x = torch.randn(images * TOKENS, width, device=device, dtype=dtype)
    w = torch.randn(width, 4 * width, device=device, dtype=dtype)
    return 2 * x.shape[0] * width * 4 * width / seconds_of(lambda: x @ w)


def attention_seconds(device: torch.device, images: int, width: int, dtype: torch.dtype) -> dict[str, float]:
    """Of both passes, by kernel; those that the device does not have are left out."""
    shape = images, HEADS[width], TOKENS, HEAD_DIM
    q, k, v = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    found = {}

    def both() -> None:
        F.scaled_dot_product_attention(q, k, v).sum().backward()

    for name in KERNELS:
        try:
            with warnings.catch_warnings(action="ignore"), sdpa_kernel(getattr(SDPBackend, name)):
                found[name.lower()] = seconds_of(both)
        except RuntimeError:  # and warned at length why it cannot
            continue
    return found


def measure(device: torch.device, short: bool = False) -> dict:
    """copy: bytes/s; matmul: {precision: {width: FLOP/s}}; attention: {width: {kernel: seconds}}."""
    cuda = device.type == "cuda"
    images = 1024 if cuda else 1 if short else 8
    widths = [192] if short else list(HEADS)
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {
        "images": images,
        "copy": copy_rate(device, 2**32 if cuda else 2**22 if short else 2**28),
        "matmul": {n: {str(w): matmul_rate(device, images, w, dtype) for w in widths} for n, dtype in types.items()},
        "attention": {
            str(w): attention_seconds(device, images, w, torch.bfloat16 if cuda else torch.float32) for w in widths
        },
    }


def peak(limits: dict, precision: str) -> float:
    """FLOP/s of the fastest of the products in a precision; fp16's are taken to be bf16's."""
    return max(limits["matmul"]["fp32" if precision == "fp32" else "bf16"].values())
