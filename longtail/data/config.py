"""What an entry of `datasets` in params.yaml may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longtail.base.params import later

LISTED = ("list", "inat", "csv")  # sources whose images stay in files named by lists; they are long-tailed as they come


@dataclass(frozen=True)
class FilesConfig:
    """Lists of images that stay on disk, and what they must hold. A number that is null is not checked."""

    train: str  # list in the folder `raw`; list: a line is `path label`; inat: official json; csv: path,label[,class]
    val: str | None  # read by the doctor alone; ImageNet-LT's is made of training images and is no test set (trap 13)
    test: str
    images: str  # folder the paths start from; not tracked by DVC, the dataset file remembers every file's size
    labels: Literal["natural", "frequency_rank"]  # as listed, or 0 for the class with most training images
    short_side: int | None  # shorter side resized to this when decoded: not the published pixels; null = as in the file
    pack: str | None  # folder of stages/pack.py with the same pixels, decoded once; null = decode the files every time
    classes: int | None
    train_images: int | None
    val_images: int | None
    test_images: int | None
    largest: int | None  # training images of the largest class
    smallest: int | None
    # training images taken of each class: its paths sorted, then drawn with subset_seed; null = all. The numbers above
    # are of the lists as they are (ImageNet-BAL, METHODS 1.5)
    per_class: int | None = None

    def __post_init__(self):
        if self.test in (self.train, self.val):
            raise ValueError(f"files.test {self.test} is the {'train' if self.test == self.train else 'val'} list too")
        counted = ("classes", "train_images", "val_images", "test_images", "largest", "smallest", "per_class")
        for name in ("short_side", *counted):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"files.{name} {getattr(self, name)} is below 1; write null to leave it out")


@dataclass(frozen=True)
class ValidationConfig:
    """Images on which runs choose the epoch that stands beside the last and the best on the test set: either kind."""

    # a hold-out: so many images of each class leave the training set, at most half of what the class has, so that a
    # single one stays. Class counts, and with them weights and priors, are of what is left
    per_class: int | None = None
    listed: bool = False  # `files.val`, of lists: the training set stays as it is

    def __post_init__(self):
        if self.listed == (self.per_class is not None):
            raise ValueError("validation: per_class (a hold-out of the training images) or listed: true, one of them")
        if self.per_class is not None and self.per_class < 1:
            raise ValueError(f"validation.per_class {self.per_class} is below 1; leave `validation` out for none")


@dataclass(frozen=True)
class DatasetConfig:
    """One long-tailed dataset: a source, how its tail is cut, and how its classes are grouped."""

    source: Literal["digits", "cifar10", "cifar100", "imagefolder", "list", "inat", "csv"]
    raw: str  # where the source lies (DVC depends on it); data/none for digits, which scikit-learn embeds
    imbalance_factor: float | None  # n_max / n_min, e.g. 100.0; null for lists, which are long-tailed as they come
    n_max: int | None  # images of the largest class; null = all images / classes, as published
    subset_seed: int  # of the legacy RandomState; published: 0, apart from any training seed
    cuts: tuple[int, int]  # author rule on the class index: head < cuts[0] <= mid < cuts[1] <= tail
    test_per_class: int | None  # held out per class where the source has no test set of its own
    image_size: int | None  # imagefolder: shorter side resized, centre cropped to this; null = files are all one size
    download: bool  # cifar10/cifar100: let torchvision fetch the archive into `raw`
    files: FilesConfig | None = None  # list, inat, csv
    # of a source whose tail is cut: the classes to take, by their number there, in this order; null = all. Of two
    # imbalance_factor is the ratio of their counts, and cuts [1, 1] make them head and tail (DiVE Figs 3 and 7)
    classes: tuple[int, ...] | None = later(None)
    validation: ValidationConfig | None = later(None)  # noqa: RUF009 (frozen); null = no epoch is chosen on validation

    def __post_init__(self):
        if self.validation is not None and self.validation.listed and (self.files is None or self.files.val is None):
            raise ValueError("validation.listed: takes the list `files.val`, which there is none of; write per_class")
        if (self.source in LISTED) != (self.files is not None):
            need = "needs a block `files`" if self.files is None else "takes no block `files`"
            raise ValueError(f"source {self.source} {need}; {', '.join(LISTED)} have one")
        if (self.source in LISTED) != (self.imbalance_factor is None):
            raise ValueError(
                f"imbalance_factor {self.imbalance_factor}: a number for sources whose tail is cut, e.g. 100.0;"
                f" null for {', '.join(LISTED)}, which are long-tailed as they come"
            )
        if self.imbalance_factor is not None and self.imbalance_factor < 1:
            raise ValueError(f"imbalance_factor {self.imbalance_factor} is below 1; it is n_max / n_min, e.g. 100.0")
        self._check_classes()
        if not (0 < self.cuts[0] < self.cuts[1] or (self.classes is not None and self.cuts == (1, 1))):
            raise ValueError(f"cuts {list(self.cuts)} must rise from above 0, e.g. [3, 7]")
        if not 0 <= self.subset_seed < 2**32:
            raise ValueError(f"subset_seed {self.subset_seed} is not in 0 to 2^32 - 1")
        for name in ("n_max", "test_per_class", "image_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1; write null to leave it out")
            if getattr(self, name) is not None and self.source in LISTED:
                raise ValueError(f"{name} {getattr(self, name)}: {self.source} takes what its lists name; write null")
        if self.image_size is not None and self.source != "imagefolder":
            raise ValueError(f"image_size {self.image_size}: {self.source} has images of one size; write null")
        if self.test_per_class is not None and self.source in ("cifar10", "cifar100"):
            raise ValueError(f"test_per_class {self.test_per_class}: {self.source} has a test set; write null")

    def _check_classes(self):
        if self.classes is None:
            return
        if self.source in LISTED:
            raise ValueError(f"classes: {self.source} takes the classes that its lists name; leave it out")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes) or min(self.classes) < 0:
            raise ValueError(f"classes {list(self.classes)}: at least two numbers from 0 on, each once, e.g. [0, 5]")
