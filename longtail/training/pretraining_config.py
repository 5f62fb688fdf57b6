"""One entry of params.yaml's `pretrainings`, with its recipe and views: masked autoencoding without labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from longtail.base.errors import UserError, nearest
from longtail.base.params import build, entry, merge
from longtail.models.mae import DecoderConfig
from longtail.models.vit import ModelConfig
from longtail.views.recipe import ViewRecipe


@dataclass(frozen=True)
class PretrainingSchedule:
    """AdamW, lr from 0 up over the warm-up, then half a cosine down (METHODS 5.2); lr is not scaled by anything."""

    epochs: int
    lr: float  # published: 1.5e-4 x effective batch / 256
    min_lr: float
    warmup_epochs: int
    weight_decay: float
    betas: tuple[float, float]
    eps: float

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"epochs at least 1, warmup_epochs from 0 to them; found {self.epochs} and {self.warmup_epochs}"
            )


@dataclass(frozen=True)
class PretrainingEntry:
    """`set` overrides single numbers of the recipe: {model: {...}, train: {...}}."""

    study: str
    recipe: str
    dataset: str
    views: str
    mask_ratio: float  # share of the patches that are hidden; published .75
    decoder: DecoderConfig
    seeds: tuple[int, ...]
    set: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class PretrainingConfig:
    """A pretraining with every reference resolved; what config.yaml keeps."""

    pretraining: str
    study: str
    dataset: str
    mask_ratio: float
    decoder: DecoderConfig
    model: ModelConfig
    train: PretrainingSchedule
    views: ViewRecipe

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is a share between 0 and 1, found {self.mask_ratio}")
        if self.visible < 1 or self.visible == self.patches:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} leaves {self.visible} of {self.patches} patches visible; at least 1, and"
                " not all"
            )

    @property
    def patches(self) -> int:
        return self.model.grid**2

    @property
    def visible(self) -> int:
        """Patches that the encoder sees: a fraction is dropped (LIVT:models/mae.py)."""
        return int(self.patches * (1 - self.mask_ratio))


REFERENCES = {"study": "studies", "recipe": "recipes", "dataset": "datasets", "views": "views"}  # key: its section


def resolve_pretraining(params: dict, name: str) -> tuple[PretrainingConfig, tuple[int, ...]]:
    """pretrainings.<name> with its recipe, views and overrides; and its seeds. Raises UserError."""
    where = f"pretrainings.{name}"
    found = build(PretrainingEntry, entry(params, "pretrainings", name), where)
    for key, section in REFERENCES.items():
        value, known = getattr(found, key), params.get(section) or {}
        if value not in known:
            raise UserError(f"{where}.{key}: no entry '{value}' in {section}{nearest(value, known)}")
    if not found.seeds:
        raise UserError(f"{where}.seeds: give at least one, e.g. [0]")
    blocks = merge(entry(params, "recipes", found.recipe), found.set, f"{where}.set")
    model = build(ModelConfig, blocks.get("model"), f"{where} (recipes.{found.recipe}.model)")
    views = build(ViewRecipe, entry(params, "views", found.views), f"views.{found.views}")
    if model.image_size != views.size:
        raise UserError(f"{where}: the model takes {model.image_size} px, views.{found.views} makes {views.size}")
    if model.positions != "sincos" or not model.special_positions or model.drop_path or model.layer_scale:
        raise UserError(
            f"{where} (recipes.{found.recipe}.model): a masked autoencoder has positions: sincos, special_positions:"
            " true, drop_path: 0.0 and layer_scale: null"
        )
    if views.mix_prob:
        raise UserError(
            f"{where}: a masked autoencoder sees single images, but views.{found.views} mixes them; its mix_prob must"
            f" be 0, found {views.mix_prob}"
        )
    train = build(PretrainingSchedule, blocks.get("train"), f"{where} (recipes.{found.recipe}.train)")
    try:
        config = PretrainingConfig(
            name, found.study, found.dataset, found.mask_ratio, found.decoder, model, train, views
        )
    except ValueError as error:
        raise UserError(f"{where}.{error}") from None
    return config, found.seeds
