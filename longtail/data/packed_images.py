"""The pixels of FileImages, decoded once by stages/pack.py into one file that is mapped into memory.

A pack saves the decoding and changes nothing: it holds the bytes that FileImages gives, and says of which list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError
from longtail.base.files import npz
from longtail.data.file_images import FileImages


@dataclass(frozen=True)
class PackedImages(FileImages):
    """FileImages whose pixels come from a pack; `files` and sizes are those of the images themselves."""

    pack: str  # folder of stages/pack.py, as the entry writes it
    split: str  # train, test
    whole: str  # digest of the split the pack was made of, of which these may be a part
    rows: np.ndarray  # int64 [N]: place of each in the pack

    def subset(self, index) -> PackedImages:
        return replace(super().subset(index), rows=self.rows[index])

    def pixels(self, index: int) -> np.ndarray:
        values, offsets = self._opened
        start = offsets[self.rows[index]]
        height, width = self.sizes[index].tolist()
        return values[start : start + 3 * height * width].reshape(height, width, 3)

    def arrays(self) -> dict[str, np.ndarray]:
        return super().arrays() | {"pack": np.asarray(self.pack), "split": np.asarray(self.split)}

    @cached_property
    def _opened(self) -> tuple[np.ndarray, np.ndarray]:
        """The mapped bytes, and int64 [N + 1] offsets. Raises UserError where there is no pack, or one of others."""
        index, values = Path(self.pack) / f"{self.split}.npz", Path(self.pack) / f"{self.split}.bin"
        if not index.is_file() or not values.is_file():
            raise UserError(f"{self.pack}: no pack of the {self.split} images; make it with stages/pack.py")
        with npz(index, "cut short or damaged", f"remove {self.pack} and pack again") as file:
            source, offsets = file["source"].item(), file["offsets"]
        if source != self.whole:
            raise UserError(f"{index}: made of other files or sizes ({source[:12]}, not {self.whole[:12]}); pack again")
        if values.stat().st_size != offsets[-1]:
            raise UserError(f"{values}: {values.stat().st_size} bytes instead of {offsets[-1]}; pack again")
        return np.asarray(np.memmap(values, np.uint8, "r")), offsets  # a plain array over the mapped file

    def __getstate__(self) -> dict:
        """Without the mapped file: a copy of its bytes would travel to worker processes."""
        return {key: value for key, value in self.__dict__.items() if key != "_opened"}


def packed(images: FileImages, pack: str, split: str) -> PackedImages:
    """A split's images, taken from the pack instead of their files."""
    return PackedImages(**vars_of(images), pack=pack, split=split, whole=images.digest, rows=np.arange(len(images)))


def images_from(arrays: dict[str, np.ndarray]) -> FileImages:
    """Those that arrays() told of."""
    images = FileImages(
        root=arrays["root"].item(),
        files=arrays["files"],
        file_sizes=arrays["file_sizes"],
        file_bytes=arrays["file_bytes"],
        short_side=arrays["short_side"].item(),
    )
    return packed(images, arrays["pack"].item(), arrays["split"].item()) if "pack" in arrays else images


def vars_of(images: FileImages) -> dict:
    """The fields of FileImages."""
    return {name: getattr(images, name) for name in FileImages.__dataclass_fields__}
