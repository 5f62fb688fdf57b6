"""The batch of a step shared out over the processes that train one CNN (runs/parallel.py).

Each process makes the views of its own run of the batch's images and passes them through the network. What an image has
to do with the others is exchanged: batch statistics are of the whole batch (`share_statistics`), and outputs are put
together before the loss (`whole`). So each process has the loss of the whole batch, be it a weighted mean or a contrast
of all pairs, and its backward pass reaches the process's own images: summed over processes (training/gradients.py),
gradients are those of one process but for the order of float sums.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from longtail.base.errors import UserError
from longtail.runs.parallel import Team
from longtail.training.teacher import TestSet, test_batch
from longtail.training.teacher_config import TeacherConfig

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail


def check_share(config: TeacherConfig, team: Team) -> None:
    """Raises UserError where there are more processes than images in a batch."""
    if team.size > config.batch_size and config.epochs:
        raise UserError(
            f"batch_size {config.batch_size}: {team.size} processes share out the images of a batch, so start at most "
            f"{config.batch_size}"
        )


def whole(own: Tensor, count: int, team: Team) -> Tensor:
    """Rows [count, ...] of a batch, of which this process has its share: own [n, ...]. In every process the same bits,
    as each number is its own plus zeros. A gradient reaches a process's own rows alone."""
    return own if team.backend is None else _Whole.apply(own, count, team)


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: Tensor, count: int, team: Team) -> Tensor:
        ctx.part = team.share(count)
        found = own.new_zeros(count, *own.shape[1:])
        found[ctx.part] = own
        return team.sum_(found)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.part], None, None


def share_statistics(network: nn.Module, team: Team) -> None:
    """From now on the BatchNorm layers of a network in training normalise by the statistics of the whole batch, and
    running ones are moved by them. Names, weights and buffers stay."""
    for module in network.modules() if team.backend is not None else ():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_shared_norm, module, team)


def _shared_norm(layer: _BatchNorm, team: Team, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    made, mean, var, count = _Normalized.apply(x, layer.weight, layer.bias, layer.eps, team)
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), layer.momentum)
        unbiased = var * (count / (count - 1))  # the running variance alone, as PyTorch's
        layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), layer.momentum)
    return made


def batch_statistics(x: Tensor, team: Team) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel, [C], and how many values a channel has, scalar: float32, or float64
    where x is. x: this process's images, [n, C, ...], possibly none. Means and variances of the processes are put
    together by the law of total variance, so nothing is lost to a difference of large sums."""
    channels, dtype = x.shape[1], torch.promote_types(x.dtype, torch.float32)
    told = torch.zeros(team.size, 2 * channels + 1, dtype=dtype, device=x.device)  # a row of each process
    if x.numel():
        var, mean = torch.var_mean(x.to(dtype), _others(x), correction=0)
        told[team.rank, :channels], told[team.rank, channels:-1] = mean, var
        told[team.rank, -1] = x.numel() // channels
    means, variances, counts = team.sum_(told).split([channels, channels, 1], 1)
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    return mean, (counts * (variances + (means - mean).square())).sum(0) / count, count


def _others(x: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [d for d in range(x.ndim) if d != 1]


class _Normalized(torch.autograd.Function):
    """Batch normalization by the statistics of all processes. Returns, besides, those statistics."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float, team: Team) -> tuple[Tensor, ...]:
        mean, var, count = batch_statistics(x, team)
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), count)
        ctx.team = team
        ctx.mark_non_differentiable(mean, var, count)
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps), mean, var, count

    @staticmethod
    def backward(ctx, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """With g the gradient of the result and h the normalised input, sums over the values of a channel:

            dx = weight / sigma · (g - sum(g) / count - h · sum(g h) / count)
            dweight = sum(g h),  dbias = sum(g)

        The sums in dx are of all processes; dweight and dbias are a process's own, and summed with the others later.
        """
        x, weight, mean, inverse, count = ctx.saved_tensors
        row = [1, -1, *[1] * (x.ndim - 2)]
        g = gradient.to(mean.dtype)
        h = (x.to(mean.dtype) - mean.view(row)) * inverse.view(row)
        own = torch.stack([g.sum(_others(x)), (g * h).sum(_others(x))])
        shift, tilt = ctx.team.sum_(own.clone()) / count
        dx = (weight * inverse).view(row) * (g - shift.view(row) - h * tilt.view(row))
        return dx.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None


class SharedTest:
    """A dataset's test images, of which each process sees whole batches: logits are those of one process."""

    def __init__(self, config: TeacherConfig, data: LongTail, device: torch.device, team: Team) -> None:
        """Raises UserError as TestSet does."""
        size, count = test_batch(config), len(data.test_images)
        part = team.share(-(-count // size))
        images = data.test_images[part.start * size : part.stop * size] if team.size > 1 else data.test_images
        self.team, self.any = team, len(images) > 0
        self.own = TestSet(config, replace(data, test_images=images), device)

    def logits(self, model: nn.Module) -> Tensor | None:
        """float32 [M, C] on the device of the first process, None in the others; the model is left in eval mode."""
        model.eval()
        own = self.own.logits(model) if self.any else None
        if self.team.backend is None:
            return own
        parts = [part for part in self.team.gather(None if own is None else own.cpu()) if part is not None]
        return torch.cat(parts).to(self.own.device) if parts else None
