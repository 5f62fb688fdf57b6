"""Checkpoint files of other people, read as tensors and plain values without running anything in them.

A .pth file is a pickle, which may call any function while it is opened; torch.load(weights_only=True) lets no such call
through. The official files also hold what the training script had at hand: arguments in a Namespace, a path, NumPy
numbers. Those few types, which do nothing but hold values, are let through; every other is refused by its name.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.base.what_file import really


class Values:
    """Stands in for argparse.Namespace: takes attributes and does nothing."""


CONTAINERS = ("state_dict", "model", "model_ema")  # the first that a file has; EMA weights alone where it has no other
CLAIMS = ("best_acc1", "best_acc_avg")  # Saddle-LongTail, LDAM-DRW and PaCo; DeiT-LT
WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_NUMPY = {"scalar": np._core.multiarray.scalar, "_reconstruct": np._core.multiarray._reconstruct}
HARMLESS = [  # types and functions, some with the name under which a file asks for them
    (Values, "argparse.Namespace"),
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((call, f"{core}.multiarray.{name}") for core in ("numpy.core", "numpy._core") for name, call in _NUMPY.items()),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds that is of use: the weights of one model, and what is known of them."""

    path: Path
    digest: str  # sha256 of the file
    state: dict[str, Tensor]  # without wrappers' prefixes; floating point as float32
    container: str  # key under which the weights stood, or `bare`
    epoch: int  # 0-based; -1 where the file does not tell
    claim: float | None  # best test accuracy that the file records, in %
    about: dict | None  # dataset, class_order, class_names of a file written by this project


def read_checkpoint(path: Path) -> Checkpoint:
    """A .safetensors file, or anything torch.save wrote. Raises UserError where it is missing, damaged, needs more than
    tensors and plain values, or holds no weights."""
    digest = file_digest(path)
    found = really(path, ("a zip archive", "a tar archive"))  # which torch.save makes, and made once
    if found and "safetensors" not in found:
        raise UserError(f"{path}: no checkpoint, or cut short: {found}")
    if path.suffix == ".safetensors" or found:
        values, about = _read_safetensors(path)
    else:
        values, about = _read_pickle(path), None
    container, state = _weights(values, path)
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    claims = (float(values[key]) for key in CLAIMS if isinstance(values.get(key), float) or _is_number(values.get(key)))
    return Checkpoint(path, digest, state, container, _epoch(values, container), next(claims, None), about)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict | None]:
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get("longtail")
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return values, json.loads(about) if about else None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: no safetensors file, or cut short ({error})") from None


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of a pickle's protocol is told below, in one line
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: opening it would call {found[1]}, which weights do not need; nothing of it was run. "
                "If you trust it, open it elsewhere and save the weights alone: torch.save(model.state_dict(), FILE)"
            ) from None
        raise UserError(f"{path}: {_other_pickle(path)}no checkpoint, or cut short{_said(error)}") from None
    except Exception as error:  # a damaged file makes zipfile, pickle and torch raise many kinds
        raise UserError(f"{path}: no checkpoint, or cut short{_said(error)}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def _other_pickle(path: Path) -> str:
    """What is to be known of a pickle that torch.save did not write: it is never opened, for it may run anything."""
    with open(path, "rb") as file:
        bare = file.read(1) == b"\x80"
    return "a pickle of something else than weights, of which nothing was run; " if bare else ""


def _said(error: Exception) -> str:
    """The first line of what PyTorch says, without its advice to open such a file unsafely."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    if "TorchScript" in line:
        return " (a TorchScript archive: save its state_dict alone)"
    return "" if "weights_only" in line or "Weights only" in line else f" ({line.strip()})"


def _weights(values: Any, path: Path) -> tuple[str, dict[str, Tensor]]:
    """(container, named tensors). Raises UserError where there are none."""
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: holds a {type(values).__name__}; expected a dict of tensors, or one under {_listed()}"
        )
    found = {key: values[key] for key in CONTAINERS if isinstance(values.get(key), dict)}
    container, state = next(iter(found.items()), ("bare", values))
    if not state:
        raise UserError(f"{path}: holds no weights, '{container}' is empty")
    for name, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            where = (
                f"expected a dict of tensors, or one under {_listed()}" if container == "bare" else f"in {container}"
            )
            raise UserError(f"{path}: '{name}' is a {type(value).__name__}, not a named tensor; {where}")
    return container, dict(state)


def _listed() -> str:
    return f"{', '.join(CONTAINERS[:-1])} or {CONTAINERS[-1]}"


def _epoch(values: dict, container: str) -> int:
    """The CNN trainers store the number of epochs done (`state_dict`), DeiT and DeiT-LT the epoch itself (`model`)."""
    epoch = values.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        return -1
    return epoch - 1 if container == "state_dict" else epoch
