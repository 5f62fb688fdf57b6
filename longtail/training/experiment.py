"""One experiment of params.yaml with every reference resolved: method, recipe, views, overrides and seeds."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any

from longtail.base.errors import UserError, nearest
from longtail.base.params import build, entry, merge
from longtail.models.build import CnnConfig, NetworkConfig, network_config
from longtail.training.optimizer import OptimizerName
from longtail.views.recipe import ViewRecipe


@dataclass(frozen=True)
class TrainConfig:
    """One optimizer with the fractional-epoch cosine (METHODS 3.5); lr is not scaled by anything."""

    epochs: int
    lr: float  # published: 2.5e-4 on CIFAR (the code's, METHODS trap 33), not the 5e-4 of the paper's table
    min_lr: float
    warmup_lr: float
    warmup_epochs: int
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    eval_resize: int  # shorter side before the centre crop at test; 256 for 224 inputs, also on CIFAR (trap 2)
    eval_every: int  # epochs between evaluations on the test set; the last epoch is always evaluated
    optimizer: OptimizerName = "adamw"

    def __post_init__(self) -> None:
        if min(self.epochs, self.eval_every, self.eval_resize) < 1 or self.warmup_epochs < 0:
            raise ValueError("at least 1: epochs, eval_every, eval_resize; at least 0: warmup_epochs")


@dataclass(frozen=True)
class ExperimentConfig:
    """One table row. `set` overrides single numbers: {loss: {...}, model: {...}, train: {...}}."""

    study: str
    method: str  # file in longtail/methods and entry of `methods`
    recipe: str
    dataset: str
    views: str
    cache: str  # or none
    teacher: str  # or none; with a cache the teacher is the cache's
    seeds: tuple[int, ...]
    start: str = "none"  # experiment whose seed k this one's seed k starts from
    set: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class StudentConfig:
    """An experiment with every reference resolved; what config.yaml keeps."""

    experiment: str
    study: str
    method: str
    dataset: str
    cache: str
    teacher: str
    start: str
    loss: Any  # the method's own Config
    model: NetworkConfig
    train: TrainConfig
    views: ViewRecipe


REFERENCES = {  # key of an experiment: section it names an entry of
    "study": "studies",
    "method": "methods",
    "recipe": "recipes",
    "dataset": "datasets",
    "views": "views",
    "cache": "caches",
    "teacher": "teachers",
    "start": "experiments",
}
OPTIONAL = ("cache", "teacher", "start")  # may be none


def load_method(name: str):
    """longtail/methods/<name>.py; raises UserError where there is none."""
    try:
        return importlib.import_module(f"longtail.methods.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"longtail.methods.{name}":
            raise
        known = [file.name for file in pkgutil.iter_modules(importlib.import_module("longtail.methods").__path__)]
        raise UserError(f"method '{name}': no file longtail/methods/{name}.py{nearest(name, known)}") from None


def resolve(params: dict, name: str) -> tuple[StudentConfig, tuple[int, ...]]:
    """experiments.<name> with its method, recipe, views and overrides; and its seeds. Raises UserError."""
    where = f"experiments.{name}"
    experiment = build(ExperimentConfig, entry(params, "experiments", name), where)
    for key, section in REFERENCES.items():
        value, known = getattr(experiment, key), params.get(section) or {}
        if value not in known and not (value == "none" and key in OPTIONAL):
            raise UserError(f"{where}.{key}: no entry '{value}' in {section}{nearest(value, known)}")
    recipe = entry(params, "recipes", experiment.recipe)
    method = load_method(experiment.method)
    for key in recipe:
        if key not in ("model", "train"):
            raise UserError(f"recipes.{experiment.recipe}.{key}: unknown block; a recipe has model and train")
    blocks = {"loss": entry(params, "methods", experiment.method), **recipe}
    blocks = merge(blocks, experiment.set, f"{where}.set")
    config = StudentConfig(
        experiment=name,
        study=experiment.study,
        method=experiment.method,
        dataset=experiment.dataset,
        cache=experiment.cache,
        teacher=experiment.teacher,
        start=experiment.start,
        loss=build(method.Config, blocks["loss"], f"{where} (methods.{experiment.method})"),
        model=network_config(blocks.get("model"), f"{where} (recipes.{experiment.recipe}.model)"),
        train=build(TrainConfig, blocks.get("train"), f"{where} (recipes.{experiment.recipe}.train)"),
        views=build(ViewRecipe, entry(params, "views", experiment.views), f"views.{experiment.views}"),
    )
    if config.model.image_size != config.views.size:
        raise UserError(
            f"{where}: the model takes {config.model.image_size} px, views.{experiment.views} makes {config.views.size}"
        )
    if config.train.eval_resize < config.model.image_size:
        sizes = f"eval_resize {config.train.eval_resize} is below the model's {config.model.image_size} px"
        raise UserError(f"{where}: {sizes}; the test image is resized to it, then cropped")
    if isinstance(config.model, CnnConfig) and (method.Method.distilled or method.Method.head != "linear"):
        raise UserError(f"{where}: method {experiment.method} needs a ViT; {config.model.arch} is a CNN")
    if method.Method.distilled and not config.model.special_positions:
        raise UserError(f"{where}: method {experiment.method} has a DIST token; it needs model.special_positions true")
    if not method.Method.takes_mixed and config.views.mix_prob:
        raise UserError(
            f"{where}: method {experiment.method} takes hard labels, but views.{experiment.views} mixes images; its"
            f" mix_prob must be 0, found {config.views.mix_prob}"
        )
    if method.Method.needs_teacher and "none" == experiment.cache == experiment.teacher:
        raise UserError(
            f"{where}: method {experiment.method} needs a teacher; name a cache, or a teacher to run online"
        )
    if method.Method.head_only and experiment.start == "none":
        raise UserError(f"{where}: method {experiment.method} trains the head of a finished run; name it under `start`")
    if experiment.start == name:
        raise UserError(f"{where}.start: a run cannot start from itself")
    return config, experiment.seeds
