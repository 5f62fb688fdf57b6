"""What the stages of a recipe have to do, counted from params.yaml alone: views, images through networks, memory, disk.

Nothing is measured here; cost/estimate.py turns the counts into time with rates of a machine. Epochs, steps and views
are those of views/epoch.py, operations those of models/shapes.py. Networks, and torch with them, are imported
where one is counted: a report that has nothing to count loads none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from longtail.base import params as tables
from longtail.base.errors import UserError
from longtail.data.config import DatasetConfig
from longtail.data.long_tail import held_out_counts, longtail_counts
from longtail.views.epoch import Layout

if TYPE_CHECKING:
    from longtail.models.shapes import Shape
    from longtail.training.teacher_config import TeacherConfig

BYTES = 4  # of a float32
SOURCES = {"digits": (10, None, None, 8), "cifar10": (10, 5000, 10_000, 32), "cifar100": (100, 500, 10_000, 32)}
FILE_SIDE = 224  # pixels taken for the side of an image in a file, whose size is not known
EVAL_BATCH = 256  # test images at a time (longtail/training/student.py)


@dataclass(frozen=True)
class Images:
    """How many images a dataset has."""

    classes: int
    train: int
    test: int
    side: int  # pixels
    in_files: bool = False
    validation: int = 0  # on which an epoch is chosen


@dataclass(frozen=True)
class Load:
    """`count` images through one part of a stage, for one seed.

    views: a student's views are made; batch: a teacher's batches are made, PaCo's keys encoded with them; train:
    forward and backward; forward: forward alone.
    """

    part: Literal["views", "batch", "train", "forward"]
    entry: str  # of views the name; else where the network is configured: experiments.x, teachers.x, pretrainings.x
    count: int
    shape: Shape | None = None  # of the network; none for views

    @property
    def flop(self) -> int:
        """2 x multiply-adds; views count none."""
        if self.shape is None:
            return 0
        return 2 * self.count * (self.shape.train_macs if self.part == "train" else self.shape.macs)


@dataclass(frozen=True)
class Work:
    """One seed of one stage."""

    loads: tuple[Load, ...]
    memory: int  # bytes beyond those of a process that has loaded its libraries
    disk: int  # bytes of the result, about

    @property
    def flop(self) -> int:
        return sum(load.flop for load in self.loads)


class Workload:
    """The counts of a whole params.yaml. known: sizes of datasets that were counted; others follow from the entry."""

    def __init__(self, params: dict, known: dict[str, Images] | None = None) -> None:
        self.params, self.known = params, known or {}

    def of(self, stage: str, entry: str) -> Work | None:
        """The work of one seed of a stage; None for a stage that only reads and writes small files, and where a
        released checkpoint stands in the place of a training.

        Raises UserError for an entry that params.yaml does not have or that lacks a key.
        """
        makers = {
            "train_student": self._student,
            "pretrain": self._pretraining,
            "train_teacher": self._teacher,
            "cache_logits": self._cache,
            "teacher_entropy": self._entropy,
            "analyse": self._analyse,
            "virtual_examples": self._virtual_examples,
            "compare_features": self._compare_features,
        }
        released = stage == "train_student" and (self.params.get("experiments") or {}).get(entry, {}).get("released")
        try:
            return makers[stage](entry) if stage in makers and not released else None
        except (KeyError, TypeError) as error:
            raise UserError(f"{stage}@{entry}: params.yaml lacks {error}") from None

    def images(self, name: str) -> Images:
        """Raises UserError where the entry does not say how many there are and nobody counted them."""
        if name in self.known:
            return self.known[name]
        config = tables.build(DatasetConfig, tables.entry(self.params, "datasets", name), f"datasets.{name}")
        if files := config.files:
            if None in (files.classes, files.train_images, files.test_images):
                raise UserError(f"datasets.{name}: how many images there are is not known; make subsample@{name} first")
            train = files.classes * files.per_class if files.per_class else files.train_images
            held = config.validation is not None and config.validation.listed
            if held and files.val_images is None:
                raise UserError(f"datasets.{name}: how many images there are is not known; make subsample@{name} first")
            return Images(files.classes, train, files.test_images, FILE_SIDE, True, files.val_images if held else 0)
        classes, most, test, side = SOURCES.get(config.source, (None,) * 4)
        if config.classes is not None:
            test = test and test // classes * len(config.classes)
            classes = len(config.classes)
        n_max = config.n_max or most
        test = test or (classes and config.test_per_class and classes * config.test_per_class)
        if None in (classes, n_max, test):
            raise UserError(f"datasets.{name}: how many images there are is not known; make subsample@{name} first")
        counts = longtail_counts(n_max, classes, config.imbalance_factor)
        held = held_out_counts(counts, config.validation.per_class).sum() if config.validation else 0
        return Images(classes, int(counts.sum() - held), test, side, validation=int(held))

    def layout(self, views: str, dataset: str) -> Layout:
        """The shape of an epoch of these views."""
        v = tables.entry(self.params, "views", views)
        return Layout(
            images=self.images(dataset).train,
            repeats=v["repeats"],
            ranks=v["virtual_world"],
            group=v["mix_group"],
            accumulate=v["accumulate"],
            round_to=v["round_to"],
        )

    def student_blocks(self, name: str) -> tuple[dict, dict, dict]:
        """The entry of an experiment, and its `model` and `train` blocks with what `set` changes."""
        entry = tables.entry(self.params, "experiments", name)
        recipe = tables.entry(self.params, "recipes", entry["recipe"])
        changes = {key: block for key, block in entry.get("set", {}).items() if key in recipe}
        recipe = tables.merge(recipe, changes, f"experiments.{name}.set")
        return entry, recipe["model"], recipe["train"]

    def _method(self, name: str):
        """What the experiment's method says of itself: see longtail/methods/__init__.py."""
        from longtail.training.experiment import load_method

        return load_method(tables.entry(self.params, "experiments", name)["method"]).Method

    def student_shape(self, name: str) -> Shape:
        from longtail.models import shapes
        from longtail.models.build import network_config

        entry, model, _ = self.student_blocks(name)
        method, config = self._method(name), network_config(model, f"experiments.{name} (its model)")
        return shapes.student(config, self.images(entry["dataset"]).classes, method.distilled, method.head)

    def pretraining_shape(self, name: str) -> Shape:
        from longtail.models import shapes
        from longtail.training.pretraining_config import resolve_pretraining

        config, _ = resolve_pretraining(self.params, name)
        return shapes.autoencoder(config.model, config.decoder, config.visible)

    def _pretraining(self, name: str) -> Work:
        entry, shape = tables.entry(self.params, "pretrainings", name), self.pretraining_shape(name)
        recipe = tables.entry(self.params, "recipes", entry["recipe"])
        train = tables.merge(recipe, entry.get("set") or {}, f"pretrainings.{name}.set")["train"]
        images, layout = self.images(entry["dataset"]), self.layout(entry["views"], entry["dataset"])
        views, pixels = train["epochs"] * layout.positions, 3 * recipe["model"]["image_size"] ** 2
        loads = Load("views", entry["views"], views), Load("train", f"pretrainings.{name}", views, shape)
        together = min(layout.group * layout.accumulate * layout.ranks, layout.positions)
        memory = 16 * shape.params + BYTES * together * shape.activations
        return Work(loads, memory + together * pixels * (BYTES + 1) + self._held(images), BYTES * shape.params)

    def _cnn(self, name: str) -> tuple[TeacherConfig, Images]:
        from longtail.training.teacher_config import TeacherConfig

        config = tables.build(TeacherConfig, tables.entry(self.params, "teachers", name), f"teachers.{name}")
        return config, self.images(config.dataset)

    def teacher_shape(self, name: str, size: int | None = None) -> Shape:
        """size: of what it is shown, where that is not what it is trained on."""
        from longtail.models import shapes

        config, images = self._cnn(name)
        size = size or (config.views.size if config.views else images.side)
        return shapes.teacher(config.parts, images.classes, size)

    def _student(self, name: str) -> Work:
        entry, _, train = self.student_blocks(name)
        shape, images = self.student_shape(name), self.images(entry["dataset"])
        layout = self.layout(entry["views"], entry["dataset"])
        views = train["epochs"] * layout.positions
        tested = evaluations(train["epochs"], train["eval_every"]) * (images.test + images.validation)
        where, method = f"experiments.{name}", self._method(name)
        frozen = method.head_only
        loads = [
            Load("views", entry["views"], views),
            Load("forward" if frozen else "train", where, views, shape),
            Load("forward", where, tested, shape),
        ]
        view = tables.entry(self.params, "views", entry["views"])
        if entry["cache"] == "none" != entry["teacher"]:
            loads.append(Load("forward", f"teachers.{entry['teacher']}", views, self.teacher_shape(entry["teacher"])))
        together = min(layout.group * layout.accumulate * layout.ranks, layout.positions)
        at_once = layout.group if shape.buffers else together  # batch statistics are of a mix group
        pixels = 3 * view["size"] ** 2
        # weights, gradients, two moments
        memory = 16 * shape.params + BYTES * at_once * shape.activations * (not frozen)
        memory += together * pixels * (BYTES + 1) + self._held(images) + images.test * pixels * (not images.in_files)
        heads = 1 + method.distilled
        return Work(tuple(loads), memory, BYTES * shape.params + predictions(images, heads))

    def _teacher(self, name: str) -> Work:
        teacher = tables.entry(self.params, "teachers", name)
        shape, images, batch = self.teacher_shape(name), self.images(teacher["dataset"]), teacher["batch_size"]
        shown = images.train - images.train % batch if teacher["drop_last"] else images.train
        passes, trained = 2 if teacher["sam_rho"] else 1, teacher["epochs"] * shown
        tested = evaluations(max(teacher["epochs"], 1), teacher["eval_every"]) * (images.test + images.validation)
        where, paco, start = f"teachers.{name}", bool(teacher["paco"]), teacher.get("start") or {"train": "all"}
        whole = start["train"] == "all"  # else the network's own pass goes forward alone
        means = images.train if start.get("classifier") == "class_means" else 0
        loads = [
            Load("batch", name, trained, shape if paco else None),
            Load("train" if whole else "forward", where, passes * trained, shape),
            Load("forward", where, tested + means, shape),
        ]
        loads = [load for load in loads if load.count]
        taught = [source for source in teacher.get("sources") or () if source != "none" and not teacher.get("start")]
        loads += [Load("forward", f"teachers.{source}", trained, self.teacher_shape(source)) for source in taught]
        kept = shape.activations if whole else shape.activations // 8  # a few layers' at a time
        memory = BYTES * (3 if whole else 1) * shape.params + BYTES * batch * kept
        memory += BYTES * (paco + (passes == 2)) * shape.params
        memory += self._held(images) + images.test * 3 * images.side**2 * (not images.in_files)
        others = [self.teacher_shape(source) for source in taught]  # asked one after another
        memory += BYTES * sum(other.params for other in others)
        memory += BYTES * (batch * max((other.activations for other in others), default=0) // 8)
        epochs = 2 + (images.validation > 0)  # whose weights are kept
        return Work(tuple(loads), memory, epochs * BYTES * (shape.params + shape.buffers) + predictions(images, 1))

    def _labeller(self, cache: dict) -> tuple[str, Shape]:
        """Who labels, and its shape at the size of what it is shown."""
        view = tables.entry(self.params, "views", cache["views"])
        if cache["teacher_kind"] == "students":
            return f"experiments.{cache['teacher']}", self.student_shape(cache["teacher"])
        size = view["size"] // view["teacher_stride"] if view["teacher_view"] == "same" else None
        return f"teachers.{cache['teacher']}", self.teacher_shape(cache["teacher"], size)

    def _cache(self, name: str) -> Work:
        cache = tables.entry(self.params, "caches", name)
        images, layout = self.images(cache["dataset"]), self.layout(cache["views"], cache["dataset"])
        views, (where, shape) = cache["epochs"] * layout.positions, self._labeller(cache)
        loads = Load("views", cache["views"], views), Load("forward", where, views, shape)
        step = min(layout.group * layout.accumulate * layout.ranks, layout.positions)
        pixels = 3 * tables.entry(self.params, "views", cache["views"])["size"] ** 2
        kept = BYTES * shape.activations // 8  # without gradients a few layers' at a time
        memory = BYTES * shape.params + step * (pixels * (BYTES + 1) + kept) + self._held(images)
        label = 1 if images.classes <= 256 else 2
        return Work(loads, memory + views * label, views * (label + cache["top_k"] * (label + 2)))

    def _entropy(self, name: str) -> Work:
        """The training images once, and the views of an epoch."""
        cache = tables.entry(self.params, "caches", name)
        images, layout = self.images(cache["dataset"]), self.layout(cache["views"], cache["dataset"])
        where, shape = self._labeller(cache)
        loads = (
            Load("views", cache["views"], layout.positions),
            Load("forward", where, images.train + layout.positions, shape),
        )
        return Work(loads, BYTES * shape.params + self._held(images), 0)

    def _analyse(self, name: str) -> Work:
        """Feature rank needs every test image once; attention distance, of the tail classes alone, is left out."""
        entry = tables.entry(self.params, "experiments", name)
        images, shape = self.images(entry["dataset"]), self.student_shape(name)
        return Work((Load("forward", f"experiments.{name}", images.test, shape),), BYTES * shape.params, 0)

    def _virtual_examples(self, name: str) -> Work:
        """The training images through every seed, all of them here, and the test images through the first."""
        shown = tables.entry(self.params, "virtual_examples", name)
        images, shape = self.images(shown["dataset"]), self.teacher_shape(name)
        seeds = len(tables.entry(self.params, "teachers", name)["seeds"])
        load = Load("forward", f"teachers.{name}", seeds * images.train + images.test, shape)
        logits = BYTES * images.classes * images.train
        return Work((load,), BYTES * shape.params + logits + self._held(images), 0)

    def _compare_features(self, name: str) -> Work:
        """All images through every seed of the student and its sources; both features of the test images are held."""
        from longtail.models.shapes import feature_width

        student, images = self._cnn(name)
        names = [name, *(source for source in student.sources if source != "none")]
        shapes, seen = [self.teacher_shape(of) for of in names], len(student.seeds) * (images.train + images.test)
        loads = (Load("forward", f"teachers.{of}", seen, shape) for of, shape in zip(names, shapes, strict=True))
        held = 2 * images.test * feature_width(student.parts, images.classes)
        return Work(tuple(loads), BYTES * (sum(s.params for s in shapes) + held) + self._held(images), 0)

    @staticmethod
    def _held(images: Images) -> int:
        """Bytes of the training images in memory."""
        return 0 if images.in_files else images.train * 3 * images.side**2


def evaluations(epochs: int, every: int) -> int:
    """How often a run is evaluated: every so many epochs, and at the end."""
    return -(-epochs // every)


def predictions(images: Images, heads: int) -> int:
    """Bytes of predictions.npz: float32 logits of each head at the last and the best epoch, and at the one chosen on
    validation images where there are some, int64 labels."""
    return images.test * ((2 + (images.validation > 0)) * heads * BYTES * images.classes + 8)
