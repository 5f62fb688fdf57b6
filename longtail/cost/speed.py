"""How fast this machine makes views and trains networks: a few real steps with the library's own code, in seconds.

Images are noise of the dataset's size: what is done to a view depends on its parameters, not on its content.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch import nn

from longtail.base import params
from longtail.cost.workload import Load, Workload
from longtail.data.long_tail import LongTail
from longtail.models import transformer
from longtail.models.build import build_network
from longtail.models.shapes import Masked
from longtail.models.vit import head_logits, special_tokens
from longtail.runs.execution import Execution
from longtail.training.experiment import load_method, resolve
from longtail.training.pretraining_config import resolve_pretraining
from longtail.training.teacher import build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_tasks import build_task
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views

STEP_FLOP = 3e10  # of a step that is timed on a CPU: about a second of a core
BATCH = 128  # images of one on a GPU, and at most on a CPU
FEW = 16  # images of a teacher's batch that is timed
REPEATS = 5


@dataclass(frozen=True)
class Rate:
    """Seconds an image, and where the number comes from."""

    seconds: float
    scaled_from: str | None = None  # what was measured in its place; None = itself


class Speeds:
    """Rates by load, measured when first asked for; after `budget` seconds scaled from what was measured by then."""

    def __init__(self, table: dict, workload: Workload, device: torch.device, budget: float = 20.0) -> None:
        self.params, self.workload, self.device = table, workload, device
        self.until = time.monotonic() + budget
        self.measured: dict[tuple, tuple[float, float, str]] = {}  # by key: seconds an image, its size, its name

    def rate(self, load: Load) -> Rate:
        """A forward pass costs its share of the operations of a measured training step."""
        if load.part == "forward":
            trained = self.rate(replace(load, part="train"))
            return replace(trained, seconds=trained.seconds * load.shape.macs / load.shape.train_macs)
        family, size, name = self._about(load)
        if (family, name) not in self.measured:
            near = [m for (f, _), m in self.measured.items() if f == family]
            if near and time.monotonic() > self.until:
                seconds, other, what = min(near, key=lambda m: abs(np.log(m[1] / size)))
                return Rate(seconds * size / other, what)
            seconds = {"views": self._views, "batch": self._batch, "train": self._train}[load.part](load)
            self.measured[family, name] = seconds, size, name
        return Rate(self.measured[family, name][0])

    def _about(self, load: Load) -> tuple[str, float, str]:
        """Which loads it can be scaled from, by which number, and its name."""
        if load.part == "train":
            family = load.shape.name.partition(",")[0] if load.shape.buffers else "ViT"  # a CNN only from itself
            return family, float(load.shape.train_macs), load.shape.name
        if load.part == "views":
            return "views", float(params.entry(self.params, "views", load.entry)["size"] ** 2), f"views {load.entry}"
        teacher = params.entry(self.params, "teachers", load.entry)
        side = self.workload.teacher_shape(load.entry).macs if load.shape else self._side(teacher) ** 2
        same = [
            teacher["arch"] if load.shape else None,
            *(teacher.get(key) for key in ("paco", "views", "crop_padding")),
        ]
        return f"batch, {'PaCo' if load.shape else 'one view'}", float(side), f"batch {params.digest(same)[:8]}"

    def _side(self, teacher: dict) -> int:
        return teacher["views"]["size"] if teacher.get("views") else self.workload.images(teacher["dataset"]).side

    def _timed(self, work: Callable[[], int]) -> float:
        """Seconds an image; work does some and says how many. The first time is for warming up.

        On a CPU seconds of the processor, which hold also where others use it."""
        gpu = self.device.type == "cuda"
        clock, taken, began = time.perf_counter if gpu else time.process_time, [], time.monotonic()
        work()
        while len(taken) < REPEATS and (not taken or time.monotonic() - began < 1):
            if gpu:
                torch.cuda.synchronize(self.device)
            start = clock()
            done = work()
            if gpu:
                torch.cuda.synchronize(self.device)
            taken.append((clock() - start) / done)
        return median(taken)

    def _train(self, load: Load) -> float:
        """Forward and backward, eagerly, in the precision that stages take by themselves; the optimizer's step, once in
        hundreds of images, is left out."""
        section, _, name = load.entry.partition(".")
        made = {"experiments": self._student, "pretrainings": self._pretraining, "teachers": self._teacher}
        network, size, forward = made[section](name)
        network = network.to(self.device).train()
        half = self.device.type == "cuda" and section != "teachers"
        execution, images = Execution("bf16" if half else "fp32"), BATCH
        if self.device.type == "cpu":
            images = int(min(BATCH, max(2, STEP_FLOP // (2 * load.shape.train_macs))))
        x, branches = torch.randn(images, 3, size, size, device=self.device), transformer.branches(network)
        factors = torch.from_numpy(transformer.draw(branches, 0, 0, np.arange(images))).to(self.device)

        def step() -> int:
            network.zero_grad(set_to_none=True)
            transformer.use(branches, factors)
            with execution.autocast(self.device):
                answer = forward(x)
            answer.float().square().mean().backward()
            return images

        return self._timed(step)

    def _student(self, name: str) -> tuple[nn.Module, int, Callable]:
        config, _ = resolve(self.params, name)
        method = load_method(config.method).Method
        classes = self.workload.images(config.dataset).classes
        network = build_network(config.model, classes, method.distilled, method.head)

        def forward(x: torch.Tensor) -> torch.Tensor:
            return torch.stack(list(head_logits(network, special_tokens(network, x)).values()))

        return network, config.model.image_size, forward

    def _pretraining(self, name: str) -> tuple[nn.Module, int, Callable]:
        config, _ = resolve_pretraining(self.params, name)
        network = Masked(config.model, config.decoder, config.visible)
        return network, config.model.image_size, network

    def _teacher(self, name: str) -> tuple[nn.Module, int, Callable]:
        config = self._teacher_config(name)
        network = build_model(config, self.workload.images(config.dataset).classes)
        side = self._side(params.entry(self.params, "teachers", name))
        return network.to(memory_format=torch.channels_last), side, network

    def _teacher_config(self, name: str) -> TeacherConfig:
        return params.build(TeacherConfig, params.entry(self.params, "teachers", name), f"teachers.{name}")

    def _views(self, load: Load) -> float:
        """A mix group of Pillow's views, or whole steps of PyTorch's, in this process."""
        recipe = params.build(ViewRecipe, params.entry(self.params, "views", load.entry), f"views.{load.entry}")
        dataset = next(
            entry["dataset"]
            for section in ("experiments", "caches", "pretrainings")
            for entry in self.params[section].values()
            if entry["views"] == load.entry
        )
        data = noise(max(recipe.round_to, 2 * recipe.mix_group), 10, self.workload.images(dataset).side)
        views = Views(recipe, data.train_images, 0, device=self.device, labels=data.train_labels)
        wanted = slice(0, 1) if views.backend == "pil" else slice(None)
        epochs = iter(range(2 + REPEATS))

        def epoch() -> int:
            return sum(
                len(batch.x)
                for batch in views.steps(next(epochs), views.steps_per_epoch - 1, 0, False, lambda _: wanted)
            )

        return self._timed(epoch)

    def _batch(self, load: Load) -> float:
        """A teacher's batch up to the forward pass of what is trained."""
        config = replace(self._teacher_config(load.entry).untaught(), batch_size=FEW)  # their pass is a load of its own
        images = self.workload.images(config.dataset)
        task = build_task(config, noise(FEW, images.classes, self._side_of_images(config)), 0, self.device)
        task.train()
        epochs = iter(range(2 + REPEATS))

        def batch() -> int:
            task.batch(next(epochs), slice(0, FEW))
            return FEW

        return self._timed(batch)

    def _side_of_images(self, config: TeacherConfig) -> int:
        return self.workload.images(config.dataset).side


def noise(count: int, classes: int, side: int) -> LongTail:
    """A dataset of random pixels, its labels in turn."""
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (count, side, side, 3), np.uint8)
    labels = np.arange(count) % classes
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    groups = np.zeros(classes, np.int64)
    names = tuple(str(number) for number in range(classes))
    about = {"cuts": (1, 2), "author_groups": groups, "count_groups": groups, "subset_seed": 0}
    index = np.arange(count)
    return LongTail(
        name="noise",
        train_images=images,
        train_labels=labels,
        train_index=index,
        test_images=images[:1],
        test_labels=labels[:1],
        class_names=names,
        class_counts=counts,
        class_order="",
        digest="",
        **about,
    )
