"""Images that stay in their files: paths under a folder, decoded one at a time when asked for."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from longtail.base.errors import UserError
from longtail.base.images import scaled


@dataclass(frozen=True)
class FileImages:
    """A base.images.Images. Arrays and texts only, so that worker processes get it cheaply, forked or spawned."""

    root: str  # as the entry writes it: relative to the folder that stages run in
    files: np.ndarray  # bytes [N]: path of each under root, UTF-8
    file_sizes: np.ndarray  # int64 [N, 2]: height and width in the file
    file_bytes: np.ndarray  # int64 [N]
    short_side: int  # shorter side resized to this, bicubic; 0 = as in the file

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Height and width of what is decoded, int64 [N, 2]."""
        return scaled(self.file_sizes, self.short_side) if self.short_side else self.file_sizes

    def __getitem__(self, index):
        """An integer: RGB uint8 [H, W, 3]. A slice or an integer array: those images, not decoded.

        Raises UserError for a file that is missing, damaged, or not of the size that the dataset file remembers."""
        if isinstance(index, slice | np.ndarray | list):
            return self.subset(index)
        return self.pixels(index)

    def subset(self, index) -> FileImages:
        names = ("files", "file_sizes", "file_bytes")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def path(self, index: int) -> Path:
        return Path(self.root) / self.files[index].decode()

    def pixels(self, index: int) -> np.ndarray:
        path, (height, width) = self.path(index), self.file_sizes[index].tolist()
        image = read_rgb(path)
        if image.size != (width, height):
            raise UserError(
                f"{path}: {image.width}x{image.height} pixels, {width}x{height} when the dataset file was made;"
                " put the image back or make it again with stages/subsample.py"
            )
        if self.short_side:
            height, width = self.sizes[index].tolist()
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image)

    def content(self) -> dict[str, np.ndarray]:
        """What decides the pixels, as far as it is known without decoding; not where the files lie."""
        names = ("files", "file_sizes", "file_bytes", "short_side")
        return {name: np.asarray(getattr(self, name)) for name in names}

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, for a dataset file."""
        return {"root": np.asarray(self.root), **self.content()}

    @cached_property
    def digest(self) -> str:
        """sha256 of the content: of the list of files with their sizes."""
        sha = hashlib.sha256()
        for name, value in self.content().items():
            sha.update(f"{name} {value.dtype.str} {value.shape}".encode())
            sha.update(np.ascontiguousarray(value).tobytes())
        return sha.hexdigest()


def read_rgb(path: Path) -> Image.Image:
    """The whole image as RGB, as torchvision reads it (no EXIF rotation). Raises UserError where that fails."""
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # a damaged file makes Pillow raise many kinds
        raise UserError(f"{path}: not a readable image, or cut short ({error})") from None


def read_header(path: str | Path) -> tuple[int, int, int]:
    """Height, width and bytes of a file, from its header alone. Raises UserError where there is none."""
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            return image.height, image.width, os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:
        raise UserError(f"{path}: not a readable image ({error})") from None
