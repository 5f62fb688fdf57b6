"""What a masked autoencoder makes of the patches that are hidden from it, as pictures (METHODS 5.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from longtail.analysis.student import spread
from longtail.base import intact
from longtail.base.errors import UserError
from longtail.base.params import build
from longtail.data.long_tail import LongTail
from longtail.models.mae import DecoderConfig, MaskedAutoencoder, normalized_patches, patchify, picked, unpatchify
from longtail.models.vit import ModelConfig
from longtail.training.pretraining import DECODER
from longtail.training.student_run import PRETRAIN, fill, read_run
from longtail.views.draws import patch_orders
from longtail.views.eval_views import eval_pixels
from longtail.views.normalize import constants, normalize

GREY = 128  # of a hidden patch


@dataclass(frozen=True)
class Autoencoder:
    """One seed's trained network and how it was shown images."""

    model: MaskedAutoencoder  # eval mode, float32
    shape: ModelConfig
    visible: int  # patches
    normalization: str
    device: torch.device


def load_autoencoder(folder: Path, data: LongTail, device: torch.device) -> Autoencoder:
    """The network in one seed's result folder (last epoch). Raises UserError where a file is missing, cut short or of
    another dataset, and for a run that has no decoder."""
    intact.check(folder, DECODER)
    run, path = read_run(folder, data, PRETRAIN), folder / DECODER
    if not path.is_file():
        raise UserError(_without_decoder(folder, run.config))
    try:
        decoder = load_file(path)
        shape = build(ModelConfig, run.config["model"], f"{folder / 'config.yaml'}: model")
        width = build(DecoderConfig, run.config["decoder"], f"{folder / 'config.yaml'}: decoder")
        visible = int(shape.grid**2 * (1 - run.config["mask_ratio"]))
        normalization = str(run.config["views"]["normalization"])
    except SafetensorError as error:
        raise intact.damaged(folder, f"{DECODER}: damaged or cut short ({error})") from None
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}: config.yaml lacks {error}; pretrain the entry again") from None
    model = MaskedAutoencoder(shape, width)
    fill(model, run.state | decoder, f"{path}: weights do not fit config.yaml")
    return Autoencoder(model.to(device).eval().requires_grad_(False), shape, visible, normalization, device)


def _without_decoder(folder: Path, config: dict) -> str:
    """Why a run has none, and what would be right. config: its config.yaml."""
    right = "pictures need a run of stages/pretrain.py"
    if "pretraining" not in config:
        return f"{folder}: is a run of experiment {config.get('experiment')}, which has no decoder; {right}"
    facts = json.loads((folder / "identity.json").read_text())  # whole: read_run has read it
    if facts.get("imported"):
        right = f"{right}, or a checkpoint that holds its decoder (docs/checkpoints.md)"
        return f"{folder}: was imported from {facts.get('source')}, an encoder without its decoder; {right}"
    return f"{folder / DECODER}: no such file; {PRETRAIN}"


def reconstructions(of: Autoencoder, data: LongTail, count: int) -> dict[str, np.ndarray]:
    """Of `count` test images, the classes in turn: images, masked and reconstructed, uint8 [K, S, S, 3], and labels,
    int64 [K]. Masks are those of seed 0, epoch 0."""
    shown = spread(data.test_labels, np.arange(len(data.test_labels)), count)
    side, patch = of.shape.image_size, of.shape.patch_size
    pixels = eval_pixels(data.test_images[shown], side, side).to(of.device)
    mean, std = constants(of.normalization, of.device)
    patches = patchify(normalize(pixels, mean, std), patch)
    orders = torch.from_numpy(patch_orders(0, 0, np.arange(len(shown)), of.shape.grid**2)).to(of.device)
    visible, hidden = orders.split([of.visible, of.shape.grid**2 - of.visible], 1)
    _, centre, spread_of = normalized_patches(picked(patches, hidden))
    predicted = of.model(patches, visible, hidden) * spread_of + centre
    rows = hidden[..., None].expand_as(predicted)
    grey = ((GREY / 255 - mean) / std).flatten().repeat(patch**2)  # by row, column, channel
    masked, whole = patches.scatter(1, rows, grey.expand_as(predicted)), patches.scatter(1, rows, predicted)
    return {
        "images": _bytes(pixels),
        "masked": _bytes(_levels(unpatchify(masked, patch), mean, std)),
        "reconstructed": _bytes(_levels(unpatchify(whole, patch), mean, std)),
        "labels": data.test_labels[shown],
    }


def _levels(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalised pixels back to 0 to 255, uint8."""
    return ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _bytes(pixels: Tensor) -> np.ndarray:
    """uint8 [K, 3, S, S] to [K, S, S, 3]."""
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
