"""How fast a step of masked pretraining is: the visible patches alone go through the encoder.

    python benchmarks/pretraining.py [--device cuda] [--short]

ViT-Ti, -S and -B at 224 pixels with the published decoder, batches of random pixels, forward, loss, backward and AdamW:
    ours          longtail/models/mae.py as longtail/training/pretraining.py runs it
    all patches   the same network and step, but the encoder sees every patch, as one without masking would
    plain         a masked autoencoder of timm's blocks, as the published code is written: all patches are embedded and
                  three quarters dropped; the decoder puts them back in their places and predicts every patch
Each runs as often as the others, in turn. Images a second are of the median step; a ratio is the median of the ratios
within each round, whose steps follow one another, as the rate of a shared machine drifts; quartiles stand beside it.
Making views is no part of it (views.py). `expected` is the ratio of operations of `all patches` to ours, counted by
longtail/models/shapes.py. On a GPU with bf16 autocast, else float32. Writes pretraining.md and
.json where recording.py files them. Cost: 8 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import recording
import torch
from timm.models.vision_transformer import Block, PatchEmbed
from torch import Tensor, nn

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.text import pipe_table
from longtail.losses.losses import masked_patch_loss
from longtail.models.mae import MaskedAutoencoder, mae_parameter_groups, normalized_patches, patchify, picked
from longtail.models.shapes import measured
from longtail.models.transformer import LAYER_NORM_EPS, sincos_positions
from longtail.report.machines import place
from longtail.runs.execution import Execution
from longtail.runs.seeds import pick_device
from longtail.training.engine import choose_attention
from longtail.training.optimizer import build_optimizer
from longtail.training.pretraining_config import PretrainingConfig, resolve_pretraining

HERE = Path(__file__).parent
ENTRIES = ("imagenet_lt-mgp-ti", "imagenet_lt-mgp-s", "imagenet_lt-mgp-b")
BATCH = {"cpu": 8, "cuda": 256}
STEPS = {"cpu": 1, "cuda": 20}  # of a block
BLOCKS = 9


class AllPatches(nn.Module):
    """Our autoencoder, of which the encoder sees all patches; the decoder gets what it gets from ours."""

    def __init__(self, model: MaskedAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, patches: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        encoded = self.model.encode(patches, torch.cat([visible, hidden], 1))
        return self.model.decode(encoded[:, : 1 + visible.shape[1]], visible, hidden)


class Plain(nn.Module):
    """A masked autoencoder as it is usually written, with timm's modules and the same first weights' shapes."""

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        model, decoder, norm = config.model, config.decoder, partial(nn.LayerNorm, eps=LAYER_NORM_EPS)
        self.keep, self.patch = config.visible, model.patch_size
        self.patch_embed = PatchEmbed(model.image_size, model.patch_size, 3, model.dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, model.dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder.dim))
        self.pos_embed = nn.Parameter(sincos_positions(model.dim, model.grid), requires_grad=False)
        self.decoder_pos_embed = nn.Parameter(sincos_positions(decoder.dim, model.grid), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(model.dim, model.heads, qkv_bias=True, norm_layer=norm) for _ in range(model.depth)
        )
        self.norm, self.decoder_norm = norm(model.dim), norm(decoder.dim)
        self.decoder_embed = nn.Linear(model.dim, decoder.dim)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder.dim, decoder.heads, qkv_bias=True, norm_layer=norm) for _ in range(decoder.depth)
        )
        self.decoder_pred = nn.Linear(decoder.dim, 3 * self.patch**2)

    def forward(self, x: Tensor) -> Tensor:
        """The loss of images [B, 3, S, S]."""
        target, tokens = patchify(x, self.patch), self.patch_embed(x) + self.pos_embed[:, 1:]
        batch, number, width = tokens.shape
        shuffle = torch.rand(batch, number, device=x.device).argsort(1)
        restore, kept = shuffle.argsort(1), shuffle[:, : self.keep]
        mask = torch.ones(batch, number, device=x.device)
        mask[:, : self.keep] = 0
        mask = mask.gather(1, restore)
        tokens = tokens.gather(1, kept[..., None].expand(-1, -1, width))
        tokens = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.decoder_embed(self.norm(tokens))
        masks = self.mask_token.to(tokens.dtype).expand(batch, number - self.keep, -1)
        rest = torch.cat([tokens[:, 1:], masks], 1)
        rest = rest.gather(1, restore[..., None].expand(-1, -1, rest.shape[2]))
        tokens = torch.cat([tokens[:, :1], rest], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        predicted = self.decoder_pred(self.decoder_norm(tokens))[:, 1:]
        mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        loss = ((predicted - (target - mean) / (variance + 1e-6) ** 0.5) ** 2).mean(-1)
        return (loss * mask).sum() / mask.sum()


@dataclass
class Contender:
    """A network with its optimizer, and the loss of a batch of images."""

    network: nn.Module
    loss: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    execution: Execution
    device: torch.device

    def step(self, x: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.execution.autocast(self.device):
            loss = self.loss(x)
        loss.backward()
        self.optimizer.step()


def ours(config: PretrainingConfig, network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The loss of a batch as longtail/training/pretraining.py takes it, with masks drawn by NumPy."""
    random = np.random.default_rng(0)

    def loss(x: Tensor) -> Tensor:
        orders = torch.from_numpy(random.random((len(x), config.patches)).argsort(1)).to(x.device)
        patches = patchify(x, config.model.patch_size)
        visible, hidden = orders.split([config.visible, config.patches - config.visible], 1)
        targets, _, _ = normalized_patches(picked(patches, hidden))
        return masked_patch_loss(network(patches, visible, hidden).float(), targets).mean()

    return loss


def contenders(config: PretrainingConfig, device: torch.device) -> dict[str, Contender]:
    execution, train = Execution("bf16" if device.type == "cuda" else "fp32"), config.train
    torch.manual_seed(0)
    mine = MaskedAutoencoder(config.model, config.decoder).to(device)
    whole = AllPatches(MaskedAutoencoder(config.model, config.decoder)).to(device)
    plain = Plain(config).to(device)
    losses = {"ours": (mine, ours(config, mine)), "all patches": (whole, ours(config, whole)), "plain": (plain, plain)}
    return {
        name: Contender(
            network,
            loss,
            build_optimizer(
                "adamw", mae_parameter_groups(network, train.weight_decay), train.lr, train.betas, train.eps
            )
            if name != "plain"
            else torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), train.lr, train.betas),
            execution,
            device,
        )
        for name, (network, loss) in losses.items()
    }


def expected(config: PretrainingConfig) -> float:
    """Operations of `all patches` over ours, forward."""

    class Images(nn.Module):
        def __init__(self, whole: bool) -> None:
            super().__init__()
            model = MaskedAutoencoder(config.model, config.decoder)
            self.network = AllPatches(model) if whole else model

        def forward(self, x: Tensor) -> Tensor:
            every = torch.arange(config.patches, device=x.device).expand(len(x), -1)
            return self.network(
                patchify(x, config.model.patch_size), every[:, : config.visible], every[:, config.visible :]
            )

    with torch.device("meta"):
        whole, mine = Images(True), Images(False)
    return measured(whole, config.model.image_size, "all").macs / measured(mine, config.model.image_size, "ours").macs


def measure(config: PretrainingConfig, device: torch.device, batch: int, blocks: int, steps: int) -> dict:
    """images_per_second of each contender, and ours over the others': over blocks after one that is not counted."""
    size = config.model.image_size
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    width = config.decoder.dim // config.decoder.heads
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    choose_attention(batch, config.decoder.heads, config.patches + 1, width, precision, device)
    runs = contenders(config, device)
    wall: dict[str, list[float]] = {name: [] for name in runs}
    for block in range(blocks + 1):
        for name in list(runs)[:: 1 if block % 2 else -1]:
            began = time.perf_counter()
            for _ in range(steps):
                runs[name].step(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            wall[name].append(time.perf_counter() - began)
    counted = {name: seconds[1:] for name, seconds in wall.items()}
    rates = {name: batch * steps / statistics.median(seconds) for name, seconds in counted.items()}
    over = {
        name: [other / mine for other, mine in zip(counted[name], counted["ours"], strict=True)]
        for name in ("all patches", "plain")
    }
    spread = over["all patches"] if blocks == 1 else statistics.quantiles(over["all patches"], n=4)
    return {
        "batch": batch,
        "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "over_all_patches": round(statistics.median(over["all patches"]), 3),
        "quartiles": [round(spread[0], 3), round(spread[-1], 3)],  # of over_all_patches
        "over_plain": round(statistics.median(over["plain"]), 3),
        "expected_over_all_patches": round(expected(config), 3),
    }


def table(results: dict[str, dict], where: dict) -> str:
    """The page: where it was measured, and the rows."""
    told = [
        f"Images a second of a pretraining step on {place(where)}, {where['cores']} cores, load"
        f" {where['load'][0]} (torch {where['torch']}, timm {where['timm']}); {where['threads']} threads,"
        f" {where['precision']}.",
        "",
    ]
    return "\n".join([*told, *lines(results)]) + "\n"


def lines(results: dict[str, dict]) -> list[str]:
    """The rows alone."""
    found = []
    for name, row in results.items():
        rates = [f"{rate:,.1f}" for rate in row["images_per_second"].values()]
        ratio, wanted = row["over_all_patches"], row["expected_over_all_patches"]
        reached = f"{ratio / wanted:.0%}"
        quartiles = "{:.2f} to {:.2f}".format(*row["quartiles"])
        ratios = (f"{ratio:.2f}", quartiles, f"{wanted:.2f}", reached, row["over_plain"])
        found.append((f"`{name}`", row["batch"], *rates, *ratios))
    ratios = ("ours / all", "quartiles", "expected", "reached", "ours / plain")
    header = ("pretraining", "batch", "ours", "all patches", "plain", *ratios)
    return pipe_table(header, "lrrrrrrrrr", found)


def run(args: argparse.Namespace) -> dict:
    """The record, which is also written. args: device, short, out."""
    device = pick_device(args.device)
    everything = params.load_all(HERE.parent)
    named = ("digits-mgp",) if args.short else ENTRIES
    results = {}
    for name in named:
        config, _ = resolve_pretraining(everything, name)
        batch, steps = (4, 1) if args.short else (BATCH[device.type], STEPS[device.type])
        results[name] = measure(config, device, batch, 1 if args.short else BLOCKS, steps)
        print(name, json.dumps(results[name]), flush=True)
    where = recording.machine(device) | {"threads": torch.get_num_threads()}
    where["precision"] = "bf16 autocast" if device.type == "cuda" else "float32"
    record = {"environment": where, "entries": results}
    recording.write(args.out, "pretraining", record, table(results, where))
    return record


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="one step of digits-mgp, to see that it runs")
    run(parser.parse_args())


if __name__ == "__main__":
    run_main(main)
