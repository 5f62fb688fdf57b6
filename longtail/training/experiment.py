"""One experiment of params.yaml with every reference resolved: method, recipe, views, overrides and seeds."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any, Literal

from longtail.base.errors import UserError, nearest
from longtail.base.params import build, entry, later, merge
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
    # timm's cosine, or MAE's and LiVT's, whose warm-up begins at 0 and is subtracted from the cosine's clock
    schedule: Literal["timm", "after_warmup"] = later("timm")
    layer_decay: float = later(1.0)  # factor of the learning rate from a layer to the one below it (models/vit.py)

    def __post_init__(self) -> None:
        if min(self.epochs, self.eval_every, self.eval_resize) < 1 or self.warmup_epochs < 0:
            raise ValueError("at least 1: epochs, eval_every, eval_resize; at least 0: warmup_epochs")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is a factor above 0, at most 1, found {self.layer_decay}")
        if self.schedule == "after_warmup" and self.warmup_lr:
            raise ValueError(f"schedule after_warmup begins at 0; warmup_lr must be 0.0, found {self.warmup_lr}")


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
    start: str = "none"  # experiment, or pretraining, whose seed k this one's seed k starts from
    start_dataset: str = later("")  # of a pretraining on another dataset: which; else it must be this one's
    start_size: int = later(0)  # of a pretraining on images of another size: their side; positions are interpolated
    released: bool = later(False)  # a checkpoint of others, taken over by stages/import_checkpoint.py and never trained
    set: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Pretrained:
    """What the run of a pretraining must be that a student starts from."""

    dataset: str
    image_size: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    mlp_ratio: float


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
    pretrained: Pretrained | None = later(None)  # noqa: RUF009 (frozen); where `start` names a pretraining


REFERENCES = {  # key of an experiment: section it names an entry of
    "study": "studies",
    "method": "methods",
    "recipe": "recipes",
    "dataset": "datasets",
    "views": "views",
    "cache": "caches",
    "teacher": "teachers",
    "start": "experiments",  # or pretrainings
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
        if key == "start":
            known = {**known, **(params.get("pretrainings") or {})}
        if value not in known and not (value == "none" and key in OPTIONAL):
            both = f"{section} or pretrainings" if key == "start" and params.get("pretrainings") else section
            raise UserError(f"{where}.{key}: no entry '{value}' in {both}{nearest(value, known)}")
    recipe = entry(params, "recipes", experiment.recipe)
    method = load_method(experiment.method)
    for key in recipe:
        if key not in ("model", "train"):
            raise UserError(f"recipes.{experiment.recipe}.{key}: unknown block; a recipe has model and train")
    optional = {f.name: f.default for f in dataclasses.fields(method.Config) if f.metadata.get("later")}
    blocks = {"loss": optional | entry(params, "methods", experiment.method), **recipe}
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
    if not getattr(config.loss, "takes_mixed", method.Method.takes_mixed) and config.views.mix_prob:
        of = f"method {experiment.method}" + (f", loss {config.loss.loss}," if method.Method.takes_mixed else "")
        raise UserError(
            f"{where}: {of} takes hard labels, but views.{experiment.views} mixes images; its"
            f" mix_prob must be 0, found {config.views.mix_prob}"
        )
    taught = getattr(config.loss, "needs_teacher", method.Method.needs_teacher)
    if taught and "none" == experiment.cache == experiment.teacher:
        raise UserError(
            f"{where}: method {experiment.method} needs a teacher; name a cache, or a teacher to run online"
        )
    if not taught and method.Method.needs_teacher and {experiment.cache, experiment.teacher} != {"none"}:
        raise UserError(f"{where}: dist_labels own learns from no teacher; write none for cache and teacher")
    if method.Method.head_only and experiment.start == "none":
        raise UserError(f"{where}: method {experiment.method} trains the head of a finished run; name it under `start`")
    if experiment.start == name:
        raise UserError(f"{where}.start: a run cannot start from itself")
    begun = _pretrained(params, experiment, config.model, where)
    return dataclasses.replace(config, pretrained=begun), experiment.seeds


def _pretrained(params: dict, experiment: ExperimentConfig, model: NetworkConfig, where: str) -> Pretrained | None:
    """What the run that `start` names must be, where that is a pretraining's; else None. Raises UserError for a model
    that cannot start from one. Of the pretraining's entry the name alone is read: its run says what it is."""
    if experiment.start not in (params.get("pretrainings") or {}):
        if experiment.start_dataset or experiment.start_size:
            raise UserError(f"{where}: start_dataset and start_size belong to a start from a pretraining")
        return None
    if experiment.start in (params.get("experiments") or {}):
        raise UserError(f"{where}.start: '{experiment.start}' names an experiment and a pretraining; rename one")
    if isinstance(model, CnnConfig):
        raise UserError(f"{where}.start: pretraining {experiment.start} is a ViT's; {model.arch} is a CNN")
    if model.layer_scale or not model.special_positions or model.positions != "sincos":
        wanted = "positions: sincos, special_positions: true and layer_scale: null"
        raise UserError(f"{where}.start: from pretraining {experiment.start} a model starts that has {wanted}")
    dataset, size = experiment.start_dataset or experiment.dataset, experiment.start_size or model.image_size
    return Pretrained(dataset, size, model.patch_size, model.dim, model.depth, model.heads, model.mlp_ratio)
