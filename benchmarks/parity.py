"""Every pixel operation, batched in PyTorch, against Pillow: how many of at least 10 million pixels differ.

    python benchmarks/parity.py [--device cuda] [--pixels 10000000]

Images of 24, 96 and 224 pixels: CIFAR-10 where helpers/pictures.py finds it, photographs, digits, noise, flat colors,
gradients; arguments over the whole range with both signs. Writes parity.md and .json where recording.py files them
and exits with 1 if any pixel differs. A pixel differs if any of its three channels does. Cost: 2 minutes on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import recording
import torch
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # for the images of the tests

from longtail.base.errors import run_main  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from longtail.report.machines import place  # noqa: E402
from longtail.runs.seeds import pick_device  # noqa: E402
from longtail.views.ops import randaugment, randaugment_torch  # noqa: E402
from longtail.views.ops.resample_torch import resized_crop  # noqa: E402
from tests.helpers.pictures import digits, pictures, small  # noqa: E402

SHARES = {24: 0.1, 96: 0.4, 224: 0.5}  # of the pixels compared
BATCH = {24: 1024, 96: 128, 224: 16}
FILL = (124, 116, 104)

# (images uint8 [n, S, S, 3], generator, device) -> (ours, Pillow's), uint8 [n, S, S, 3]
Case = Callable[[np.ndarray, np.random.Generator, torch.device], tuple[np.ndarray, np.ndarray]]


def operation(name: str, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """One of the fifteen of RandAugment at random levels."""
    n = len(images)
    levels = zip(rng.uniform(0, 10, n).tolist(), rng.integers(0, 2, n).tolist(), strict=True)
    arguments = [randaugment.level_argument(name, magnitude, bool(negative)) for magnitude, negative in levels]
    theirs = [randaugment.apply(Image.fromarray(i), name, a, FILL) for i, a in zip(images, arguments, strict=True)]
    table = torch.from_numpy(randaugment_torch.arguments(name, arguments, images.shape[1])).to(device)
    fill = torch.tensor(FILL, dtype=torch.uint8, device=device)
    ours = randaugment_torch.apply(
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device), name, table, fill
    )
    return ours.permute(0, 2, 3, 1).cpu().numpy(), np.stack([np.asarray(t) for t in theirs])


def crop(side: int | None, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """Random crops of side x side sources (None: of the images themselves, so smaller or equal), half of them mirrored,
    to the size of `images`."""
    n, size = images.shape[:2]
    source = {8: digits, 32: small}[side](256) if side else images
    source = source[rng.integers(0, len(source), n)]
    height, width = source.shape[1:3]
    w, h = rng.integers(1, width + 1, n), rng.integers(1, height + 1, n)
    boxes = np.stack([rng.integers(0, width - w + 1), rng.integers(0, height - h + 1), w, h], 1)
    flip = rng.integers(0, 2, n).astype(bool)
    theirs = [randaugment.resized_crop(i, *box, size) for i, box in zip(source, boxes.tolist(), strict=True)]
    theirs = [randaugment.flip(t) if f else t for t, f in zip(theirs, flip, strict=True)]
    rows = torch.from_numpy(source).permute(0, 1, 3, 2).contiguous().to(device)
    ours = resized_crop(rows, torch.from_numpy(boxes).to(device), torch.from_numpy(flip).to(device), size)
    return ours.permute(0, 2, 3, 1).cpu().numpy(), np.stack([np.asarray(t) for t in theirs])


def shrink(images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """Whole images of 2.9 by 1.7 times the size, half enlarged and half noise, resized to the size of `images`."""
    n, size = images.shape[:2]
    width, height = int(2.9 * size), int(1.7 * size)
    source = rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    for row in range(0, n, 2):
        source[row] = np.asarray(Image.fromarray(images[row]).resize((width, height)))
    theirs = [np.asarray(randaugment.resized_crop(i, 0, 0, width, height, size)) for i in source]
    rows = torch.from_numpy(source).permute(0, 1, 3, 2).contiguous().to(device)
    boxes = torch.tensor([0, 0, width, height], device=device).expand(n, 4)
    ours = resized_crop(rows, boxes, torch.zeros(n, dtype=torch.bool, device=device), size)
    return ours.permute(0, 2, 3, 1).cpu().numpy(), np.stack(theirs)


CASES: dict[str, Case] = {
    "RandomResizedCrop of 8 px, flip": partial(crop, 8),
    "RandomResizedCrop of 32 px, flip": partial(crop, 32),
    "RandomResizedCrop of the view's size, flip": partial(crop, None),
    "resize to a smaller size": shrink,
    **{name: partial(operation, name) for name in randaugment.OPS},
}


def compare(case: Case, pixels: int, device: torch.device) -> dict:
    """Counts over all sizes: pixels, mismatches, and the largest difference of a channel."""
    rng = np.random.default_rng(0)
    row = {"pixels": 0, "mismatches": 0, "largest_difference": 0}
    for size, share in SHARES.items():
        known, left = pictures(size), int(np.ceil(share * pixels / size**2))
        while left > 0:
            images = known[rng.integers(0, len(known), min(left, BATCH[size]))]
            shift = rng.integers(0, 256, (len(images), 1, 1, 3), dtype=np.uint8)
            images = np.where(rng.random((len(images), 1, 1, 1)) < 0.5, images, images + shift)  # new colors, wrapping
            ours, theirs = case(images, rng, device)
            difference = np.abs(ours.astype(np.int16) - theirs).max(-1)
            row["pixels"] += difference.size
            row["mismatches"] += int((difference > 0).sum())
            row["largest_difference"] = max(row["largest_difference"], int(difference.max()))
            left -= len(images)
    return row


def table(rows: dict[str, dict], where: dict) -> str:
    lines = [
        f"Batched operations against Pillow {where['pillow']}: torch {where['torch']} on {place(where)}.",
        "",
    ]
    found = [(op, f"{r['pixels']:,}", r["mismatches"], r["largest_difference"]) for op, r in rows.items()]
    lines += pipe_table(("operation", "pixels", "mismatches", "largest difference"), "lrrr", found)
    return "\n".join(lines) + "\n"


def main(cases: dict[str, Case] | None = None, name: str = "parity", description: str | None = __doc__) -> None:
    """Compare every case and keep the counts as <name> in the machine's folder; exit code 1 where a pixel differs."""
    parser = recording.parser(description, "cpu")
    parser.add_argument("--pixels", type=int, default=10_000_000, help="of each operation, at least")
    args = parser.parse_args()
    device = pick_device(args.device)
    rows = {}
    for operation, case in (cases or CASES).items():
        rows[operation] = compare(case, args.pixels, device)
        print(
            f"{operation}: {rows[operation]['mismatches']} of {rows[operation]['pixels']:,} pixels differ", flush=True
        )
    where = recording.machine(device)
    recording.write(args.out, name, {"environment": where, "operations": rows}, table(rows, where))
    sys.exit(any(row["mismatches"] for row in rows.values()))


if __name__ == "__main__":
    run_main(main)
