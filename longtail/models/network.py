"""The network that an experiment trains: a ViT, or a CNN where the `model` block has `arch`."""

from __future__ import annotations

from typing import Any

from torch import nn

from longtail.base.params import build
from longtail.models.cnn import CnnConfig, PooledCnn
from longtail.models.vit import Head, ModelConfig, build_vit

NetworkConfig = ModelConfig | CnnConfig


def network_config(values: Any, where: str) -> NetworkConfig:
    """A recipe's `model` block, checked. Raises UserError."""
    return build(CnnConfig if isinstance(values, dict) and "arch" in values else ModelConfig, values, where)


def build_network(config: NetworkConfig, num_classes: int, distilled: bool, head: Head = "linear") -> nn.Module:
    """The untrained network, initialised from torch's global generator. distilled, head: of a ViT alone."""
    if isinstance(config, CnnConfig):
        return PooledCnn(config, num_classes)
    return build_vit(config, num_classes, distilled, head)
