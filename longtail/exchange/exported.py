"""A trained run of this project for other code: its weights, and what timm needs to build its model.

timm's names are ours. A standard size gets the name of timm's own architecture; any other is written as that
architecture with other arguments, which timm reads from config.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from longtail.base import intact, params, yaml_file
from longtail.base.errors import UserError
from longtail.exchange.official import Kind
from longtail.models.vit import ModelConfig
from longtail.training.teacher import WEIGHTS
from longtail.views.normalize import NORMALIZATION

SIZES = {(192, 3): "tiny", (384, 6): "small", (768, 12): "base"}  # (dim, heads); depth 12, patches of 16 px, 224 px
FAMILY = {True: "deit_{}_distilled_patch16_224", False: "vit_{}_patch16_224"}  # by whether there is a DIST token
FINISHED = "name a finished run, e.g. data/students/digits-vit/seed0"


@dataclass(frozen=True)
class Run:
    """One seed's result folder."""

    kind: Kind
    config: dict[str, Any]  # config.yaml
    facts: dict[str, Any]  # identity.json
    state: dict[str, Tensor]
    about: dict[str, Any]  # dataset, class_order, class_names

    @property
    def distilled(self) -> bool:
        return "dist_token" in self.state


def read_run(folder: Path) -> Run:
    """A student's last epoch, or a teacher's epoch that its `select` names. Raises UserError for anything else."""
    intact.check(folder, *WEIGHTS.values())
    config, facts = yaml_file.mapping(folder / "config.yaml", FINISHED), _facts(folder / "identity.json")
    if "experiment" in config:
        kind, weights = "student", "model.safetensors"
        about = {key: facts.get(key) for key in ("dataset", "class_order", "class_names")}
    elif config.get("select") in WEIGHTS:
        kind, weights = "teacher", WEIGHTS[config["select"]]
        about = None
    else:
        raise UserError(f"{folder}: neither a student's nor a teacher's run; expected a folder data/…/<entry>/seed<k>")
    try:
        with safe_open(folder / weights, framework="pt") as file:
            about = about or json.loads((file.metadata() or {})["longtail"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{folder / weights}: missing, damaged or cut short ({error}); make it again") from None
    if "fc.heads.0.weight" in state:
        raise UserError(
            f"{folder}: a network of several experts, for which other code has no names known here; no export"
        )
    return Run(kind, config, facts, unscaled(state), about)


def unscaled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same classifier without learnt scales of its logits (LWS), which other code does not know."""
    scales = state.get("fc.scales")
    if scales is None:
        return state
    folded = {"fc.weight": scales[:, None] * state["fc.weight"], "fc.bias": scales * state["fc.bias"]}
    return {name: value for name, value in (state | folded).items() if name != "fc.scales"}


def timm_config(run: Run, where: str) -> dict[str, Any]:
    """config.json as timm reads it. Raises UserError where timm would build another model than the run's."""
    shape = params.build(ModelConfig, run.config.get("model"), f"{where}/config.yaml: model")
    name, arguments = architecture(shape, run.distilled)
    classes = len(run.about["class_names"])
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=classes, **arguments).state_dict()
    ours = {key: tuple(value.shape) for key, value in run.state.items()}
    if differ := sorted(set(ours.items()) ^ {(key, tuple(value.shape)) for key, value in theirs.items()}):
        raise UserError(
            f"{where}: not a model that timm's {name} can be; the first tensor that differs is {differ[0][0]}"
        )
    mean, std = NORMALIZATION[run.config["views"]["normalization"]]
    size = shape.image_size
    return {
        "architecture": name,
        "num_classes": classes,
        "num_features": shape.dim,
        "model_args": arguments,
        "label_names": run.about["class_names"],
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": size / run.config["train"]["eval_resize"],
            "crop_mode": "center",
            "mean": list(mean),
            "std": list(std),
            "num_classes": classes,
            "first_conv": "patch_embed.proj",
            "classifier": ["head", "head_dist"] if run.distilled else "head",
        },
    }


def architecture(shape: ModelConfig, distilled: bool) -> tuple[str, dict[str, Any]]:
    """timm's name for the size, else for the base model, and the arguments in which the model differs from it."""
    size = SIZES.get((shape.dim, shape.heads), "base")
    dim, heads = next(numbers for numbers, name in SIZES.items() if name == size)
    arguments = {  # the model's, timm's
        "img_size": (shape.image_size, 224),
        "patch_size": (shape.patch_size, 16),
        "embed_dim": (shape.dim, dim),
        "depth": (shape.depth, 12),
        "num_heads": (shape.heads, heads),
        "mlp_ratio": (shape.mlp_ratio, 4.0),
        "init_values": (shape.layer_scale, None),
        "no_embed_class": (not shape.special_positions, False),
    }
    return FAMILY[distilled].format(size), {name: ours for name, (ours, theirs) in arguments.items() if ours != theirs}


def _facts(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {FINISHED}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged or cut short ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: damaged or cut short")
    return values
