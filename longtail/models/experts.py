"""RIDE's networks of several experts and the router that says how many of them an image needs (Wang et al., ICLR 2021).

The first stages are shared; each expert has the last two for itself, three quarters as wide, and a classifier. The
answer is the mean of the experts' answers. `features` gives all experts' pooled features, joined, which `fc` is fed.

A router stands in `fc` and asks after each expert but the last whether the next one is needed (RIDE's expert
assignment). All experts are computed here, whatever it says: what it would save is told by the number of them in use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.models.resnet import CifarResNet, Head, NormedLinear

CIFAR_WIDTHS = 24, 48  # of an expert's two stages; 32, 64 in the plain network (RIDE: reduce_dimension)


@dataclass(frozen=True)
class RouterSizes:
    top: int  # of the largest logits that it sees; published 30 on CIFAR-100-LT, 50 in the code's larger recipes
    hidden: int  # width of what it makes of an expert's feature; published 16

    def __post_init__(self) -> None:
        if min(self.top, self.hidden) < 1:
            raise ValueError(f"at least 1: top, hidden; found {self.top}, {self.hidden}; published 30 and 16")


class ExpertHeads(nn.Module):
    """A classifier of each expert's part of the joined features; their mean is the answer."""

    def __init__(self, experts: int, width: int, num_classes: int, head: Head) -> None:
        super().__init__()
        self.width, self.in_features = width, experts * width
        kind = nn.Linear if head == "linear" else NormedLinear
        self.heads = nn.ModuleList(kind(width, num_classes) for _ in range(experts))

    def each(self, x: Tensor) -> Tensor:
        """x [B, K·w] to each expert's logits or cosines, at least float32 [B, K, C]."""
        parts = x.split(self.width, 1)
        made = torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], 1)
        return made.to(torch.promote_types(made.dtype, torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, K·w] to [B, C]."""
        return self.each(x).mean(1)


def running_means(each: Tensor) -> Tensor:
    """Mean of the first 1, 2, ... K experts' answers: [B, K, C] to [B, K, C]."""
    counts = torch.arange(1, each.shape[1] + 1, device=each.device, dtype=each.dtype)
    return each.cumsum(1) / counts[:, None]


class RoutedHeads(ExpertHeads):
    """ExpertHeads whose answer is the mean of as many experts as the router asks for, the first ones."""

    def __init__(
        self, experts: int, width: int, num_classes: int, head: Head, sizes: RouterSizes, scale: float, kaiming: bool
    ) -> None:
        """scale: of cosines, since the router sees logits. kaiming: first weights as the classifier's of CIFAR's
        networks; else PyTorch's."""
        super().__init__(experts, width, num_classes, head)
        self.scale, self.top = scale, sizes.top
        self.hidden = nn.ModuleList(nn.Linear(width, sizes.hidden) for _ in range(experts - 1))
        self.ask = nn.Linear(sizes.top + sizes.hidden, 1)  # of all experts
        for layer in (*self.hidden, self.ask) if kaiming else ():
            nn.init.kaiming_normal_(layer.weight)

    def router(self) -> dict[str, nn.Parameter]:
        """All that is the router's own, by name."""
        return {name: w for name, w in self.named_parameters() if not name.startswith("heads.")}

    def asked(self, x: Tensor, each: Tensor) -> Tensor:
        """Logits of "the next expert is needed" after each but the last, [B, K - 1]. x [B, K·w]; each [B, K, C].

        Read from the largest logits of the mean so far, in falling order, and the last expert's feature at unit length.
        """
        means, said = self.scale * running_means(each), []
        for i, (hidden, part) in enumerate(zip(self.hidden, x.split(self.width, 1), strict=False)):
            seen = F.relu(hidden(F.normalize(part.float(), dim=1)))
            said.append(self.ask(torch.cat([means[:, i].topk(self.top, 1).values, seen.to(means.dtype)], 1)))
        return torch.cat(said, 1).float()

    def used(self, x: Tensor, each: Tensor) -> Tensor:
        """How many experts answer, int64 [B]."""
        return in_use(self.asked(x, each))

    def forward(self, x: Tensor) -> Tensor:
        return self.routed(x)[0]

    def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The answer [B, C], and how many experts it is the mean of, int64 [B]."""
        each = self.each(x)
        used = self.used(x, each)
        return chosen(running_means(each), used), used


def in_use(asked: Tensor) -> Tensor:
    """How many experts answer, int64 [B]: up to the first that does not ask for the next. asked: logits [B, K - 1]."""
    return 1 + (asked > 0).long().cumprod(1).sum(1)


def chosen(means: Tensor, used: Tensor) -> Tensor:
    """Of running means [B, K, C] those of the first `used` experts, int64 [B]: [B, C]."""
    place = (used - 1)[:, None, None].expand(-1, 1, means.shape[2])
    return means.gather(1, place).squeeze(1)


class CifarExperts(nn.Module):
    """A CIFAR ResNet of several experts: stem and first stage shared. Initialises from torch's global generator."""

    kaiming_fc = True  # how a linear `fc` starts

    def __init__(self, blocks: int, num_classes: int, head: Head, experts: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = CifarResNet.stage(16, 16, blocks, 1)
        first, last = CIFAR_WIDTHS
        self.experts = nn.ModuleList(
            nn.Sequential(CifarResNet.stage(16, first, blocks, 2), CifarResNet.stage(first, last, blocks, 2))
            for _ in range(experts)
        )
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = ExpertHeads(experts, last, num_classes, head)
        for module in self.modules():  # NormedLinear is deliberately not among these (trap 25)
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def features(self, x: Tensor) -> Tensor:
        """Pooled features of all experts, joined: [B, K·48]."""
        shared = self.layer1(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return torch.cat([self.avgpool(expert(shared)) for expert in self.experts], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def counts_experts(network: nn.Module) -> bool:
    """Whether it is one of several experts, so that `Counted` can tell how many answer."""
    return isinstance(getattr(network, "fc", None), ExpertHeads)


class Counted(nn.Module):
    """A network of several experts, which tells beside its answer how many of them it is of."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] to [B, C + 1], the number in the last column."""
        found, fc = self.network.features(x), self.network.fc
        if isinstance(fc, RoutedHeads):
            answer, used = fc.routed(found)
        else:
            answer = fc(found)
            used = torch.full((len(answer),), len(fc.heads), device=answer.device)
        return torch.cat([answer, used[:, None].to(answer.dtype)], 1)
