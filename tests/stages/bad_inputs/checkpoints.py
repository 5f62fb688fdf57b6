"""Bad checkpoint files, for stages/import_checkpoint.py."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

from longtail.base import yaml_file
from longtail.base.params import build
from longtail.data.config import DatasetConfig
from longtail.data.sources import make_longtail
from tests.helpers.stage_processes import TINY
from tests.stages.bad_inputs.lists import LFS, PAGE
from tests.stages.bad_inputs.rows import IMAGES, RAW, made

Make = Callable[[], bytes]
NAME = "ldam_drw_sam-tiny"


class Call:
    """What a hostile pickle asks for."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch called",)


def saved(value: object) -> bytes:
    """torch.save's bytes."""
    import torch

    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def weights(**tensors: object) -> dict:
    import torch

    return {name: torch.zeros(2) for name in ("conv1.weight", "bn1.bias")} | tensors


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.txt"))
    return out.getvalue()


ROWS: dict[str, tuple[Make, str]] = {
    "a web page": (PAGE.encode, "x.pth: no checkpoint, or cut short: a web page was saved in its place"),
    "a pointer": (
        LFS.encode,
        "x.pth: no checkpoint, or cut short: a Git LFS pointer, not the file itself: run git lfs pu",
    ),
    "a pointer of git-annex": (lambda: b"/annex/objects/MD5-s1--x.pth\n", "a git-annex pointer, not the file itself"),
    "an empty file": (bytes, "x.pth: no checkpoint, or cut short: the file is empty"),
    "zeros": (lambda: bytes(4000), "it begins with nothing but zeros: copied in part, or a damaged disk"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(50), "a gzip archive: unpack it"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(50), "x.pth: no checkpoint, or cut short: an HDF5 file"),
    "NumPy": (lambda: b"\x93NUMPY\1\0" + bytes(50), "x.pth: no checkpoint, or cut short: a NumPy array"),
    "an image": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), "x.pth: no checkpoint, or cut short: a PNG image"),
    "text": (lambda: b"see the README\n", "x.pth: no checkpoint, or cut short"),
    "a tar archive": (tar, "x.pth: no checkpoint, or cut short"),
    "cut short": (lambda: saved(weights())[:-200], "x.pth: no checkpoint, or cut short"),
    "safetensors cut short": (lambda: b"\x40\0\0\0\0\0\0\0" + b'{"a":', "x.pth: no safetensors file, or cut short"),
    "a hostile pickle": (
        lambda: saved({"model": Call()}),
        "x.pth: opening it would call posix.system, which weights do n",
    ),
    "a hostile old pickle": (lambda: pickle.dumps(Call(), 2), "which weights do not need; nothing of it was run"),
    "a hostile new pickle": (lambda: pickle.dumps(Call(), 4), "something else than weights, of which nothing was run;"),
    "a list": (lambda: saved([1, 2]), "x.pth: holds a list; expected a dict of tensors"),
    "no weights": (lambda: saved({"state_dict": {}}), "x.pth: holds no weights, 'state_dict' is empty"),
    "a number among them": (lambda: saved(weights(lr=0.1)), "x.pth: 'lr' is a float, not a named tensor"),
    "another model": (
        lambda: saved(weights()),
        "x.pth: no layout known here, its first names are conv1.weight, bn1.bia",
    ),
}


def laid_out(folder: Path, make: Make) -> Path:
    """A dataset file, an entry `like` and the checkpoint, in a folder."""
    block = made(folder, "imagefolder")
    config = build(DatasetConfig, block | {"raw": str(folder / RAW)}, "datasets.own")
    make_longtail("own", config).save(folder / "own.npz")
    teacher = yaml_file.read(TINY)["teachers"][NAME] | {"dataset": "own"}
    (folder / "params.yaml").write_text(yaml_file.dump({"datasets": {"own": block}, "teachers": {"like": teacher}}))
    assert not (folder / IMAGES).exists()
    (folder / "x.pth").write_bytes(make())
    return folder / "x.pth"


def command(file: Path) -> tuple[str, ...]:
    given = {"--kind": "teacher", "--like": "like", "--dataset": "own.npz", "--out": "out", "--device": "cpu"}
    return ("import_checkpoint", file.name, *(word for pair in given.items() for word in pair))
