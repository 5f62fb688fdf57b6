"""The contender: training with plain PyTorch and timm, as the official engines do it (METHODS 2.3, 2.4, 3.2 to 3.8).

Students: PIL transforms in DataLoader workers that start anew every epoch, timm's repeated-augmentation sampler, Mixup
of each micro-batch, the teacher beside the student, fp16 autocast with a GradScaler (on a CPU the precision that is
asked for and no scaler), gradients accumulated over micro-batches, AdamW as it comes, timm's moving average after every
micro-batch, four numbers read and a wait for the device at each, the test set and a checkpoint every epoch. The two
GPUs of the published runs are two sampler ranks whose micro-batches go through one device one after the other; the
test set, which each of them evaluates, goes through once. Teachers: one micro-batch is a step, in float32.

Numbers come from the same entries of params.yaml as ours, random draws do not: accuracies are those of another seed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from timm.data.distributed_sampler import RepeatAugSampler
from timm.models.deit import VisionTransformerDistilled
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV2
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision import transforms

from longtail.data.long_tail import LongTail
from longtail.losses.losses import drw_weights
from longtail.training.experiment import StudentConfig
from longtail.training.optimizer import sam_radius
from longtail.training.teacher import build_loss, build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import learning_rate
from longtail.views.batch import teacher_view
from longtail.views.normalize import NORMALIZATION
from longtail.views.recipe import ViewRecipe

EMA_DECAY = 0.99996
EVAL_BATCH = 256


class Samples(Dataset):
    """(transformed image, label), as torchvision's data sets give them. images: uint8 [N, H, W, 3]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def train_transform(recipe: ViewRecipe) -> Callable:
    """timm's, of a recipe with RandomResizedCrop and RandAugment."""
    mean, std = NORMALIZATION[recipe.normalization]
    magnitude, operations = round(recipe.rand_magnitude), recipe.rand_ops
    return create_transform(
        recipe.size,
        is_training=True,
        scale=recipe.crop_scale,
        ratio=recipe.crop_ratio,
        hflip=recipe.hflip,
        auto_augment=f"rand-m{magnitude}-n{operations}-mstd{recipe.rand_std}-inc1",
        interpolation="bicubic",
        mean=mean,
        std=std,
        re_prob=recipe.erase_prob,
        re_mode="pixel",
        re_count=1,
    )


def eval_transform(config: StudentConfig) -> Callable:
    """timm's: shorter side to eval_resize, then the centre."""
    mean, std = NORMALIZATION[config.views.normalization]
    share = config.model.image_size / config.train.eval_resize
    return create_transform(config.model.image_size, interpolation="bicubic", crop_pct=share, mean=mean, std=std)


def sampler(data: Dataset, recipe: ViewRecipe, rank: int) -> RepeatAugSampler:
    """timm's, of one rank."""
    repeats, rounded = recipe.repeats, recipe.round_to
    return RepeatAugSampler(data, recipe.virtual_world, rank, num_repeats=repeats, selected_round=rounded)


def build_student(config: StudentConfig, classes: int) -> nn.Module:
    """timm's ViT with a CLS and a DIST token."""
    of = config.model
    return VisionTransformerDistilled(
        img_size=of.image_size,
        patch_size=of.patch_size,
        embed_dim=of.dim,
        depth=of.depth,
        num_heads=of.heads,
        mlp_ratio=of.mlp_ratio,
        drop_path_rate=of.drop_path,
        num_classes=classes,
    )


def student_losses(
    cls: Tensor, dist: Tensor, targets: Tensor, taught: Tensor, weight: Tensor | None, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, CLS term and DIST term of a micro-batch, scalars. targets: soft [B, C], or hard labels int64 [B]; taught:
    the teacher's logits [B, C]; weight: of the classes [C], or None."""
    soft = targets.is_floating_point()
    base = torch.sum(-targets * F.log_softmax(cls, -1), -1).mean() if soft else F.cross_entropy(cls, targets)
    distillation = F.cross_entropy(dist, taught.argmax(1), weight)
    return (1 - alpha) * base + alpha * distillation, base, distillation


def train_student(
    config: StudentConfig,
    data: LongTail,
    teacher: nn.Module,
    folder: Path,
    device: torch.device,
    precision: str,
    tick: Callable[[], None],
) -> None:
    """DeiT-LT for config.train.epochs epochs; tick() after each optimizer step. precision, on a CPU: fp32 or bf16."""
    recipe, train = config.views, config.train
    cuda, cores = device.type == "cuda", os.cpu_count()
    samples = Samples(data.train_images, data.train_labels, train_transform(recipe))
    ranks = [sampler(samples, recipe, rank) for rank in range(recipe.virtual_world)]
    workers = max(1, cores // len(ranks))
    loaders = [DataLoader(samples, recipe.mix_group, sampler=r, num_workers=workers, pin_memory=cuda) for r in ranks]
    test = Samples(data.test_images, data.test_labels, eval_transform(config))
    test_loader = DataLoader(test, EVAL_BATCH, num_workers=cores, pin_memory=cuda)
    mixup = Mixup(
        recipe.mixup_alpha,
        recipe.cutmix_alpha,
        prob=recipe.mix_prob,
        switch_prob=recipe.switch_prob,
        label_smoothing=config.loss.smoothing,
        num_classes=data.num_classes,
    )
    model, teacher = build_student(config, data.num_classes).to(device), teacher.to(device).eval()
    groups = param_groups_weight_decay(model, train.weight_decay, no_weight_decay_list=model.no_weight_decay())
    optimizer = torch.optim.AdamW(groups, train.lr, train.betas, train.eps)
    schedule = CosineLRScheduler(
        optimizer, train.epochs, train.min_lr, warmup_t=train.warmup_epochs, warmup_lr_init=train.warmup_lr
    )
    dtype = torch.float16 if cuda else torch.bfloat16
    autocast = torch.autocast(device.type, dtype, enabled=cuda or precision == "bf16")
    scaler, ema = torch.amp.GradScaler(device.type, enabled=cuda), ModelEmaV2(model, EMA_DECAY)
    drw = drw_weights(data.class_counts, config.loss.drw_beta).to(device)
    best = 0.0
    for epoch in range(train.epochs):
        model.train()
        for rank in ranks:
            rank.set_epoch(epoch)
        weight = drw if config.loss.drw_epoch is not None and epoch >= config.loss.drw_epoch else None
        length, sums = len(loaders[0]), np.zeros(4)
        for number, batches in enumerate(zip(*loaders, strict=True)):
            due = (number + 1) % recipe.accumulate == 0 or number + 1 == length
            if number % recipe.accumulate == 0 or number + 1 == length:
                schedule.step(epoch + number / length)
            for x, targets in batches:
                x, targets = x.to(device, non_blocking=True), targets.to(device, non_blocking=True)
                if epoch < recipe.mix_until:
                    x, targets = mixup(x, targets)
                with autocast:
                    tokens = model.forward_features(x)[:, :2]
                    cls, dist = model.head(tokens[:, 0]), model.head_dist(tokens[:, 1])
                    cosine = torch.cosine_similarity(tokens[:, 0], tokens[:, 1], dim=1, eps=1e-6).mean()
                    with torch.no_grad():
                        taught = teacher(teacher_view(x, recipe.teacher_stride, recipe.teacher_offset))
                    terms = student_losses(cls, dist, targets, taught, weight, config.loss.alpha)
                read = np.array([*(term.item() for term in terms), cosine.item()])
                if not math.isfinite(read[0]):
                    sys.exit(f"loss is {read[0]}")
                sums += read
                scaler.scale(terms[0] / (recipe.accumulate * len(ranks))).backward()
                if cuda:
                    torch.cuda.synchronize()
                ema.update(model)
            if due:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                tick()
        accuracy = evaluate(model, test_loader, device, autocast)
        state = {"model": model, "optimizer": optimizer, "schedule": schedule, "ema": ema.module, "scaler": scaler}
        torch.save({name: of.state_dict() for name, of in state.items()} | {"epoch": epoch}, folder / "checkpoint.pth")
        best = max(best, accuracy)
        log(folder, f"epoch {epoch}: {sums / (length * len(ranks))}, test {accuracy:.2f}, best {best:.2f}")


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader, device: torch.device, autocast=None) -> float:
    """Top-1 accuracy in %, of the average of both heads where there are two."""
    model.eval()
    hits = 0
    for x, labels in loader:
        x, labels = x.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        with autocast or nullcontext():
            hits += (model(x).argmax(1) == labels).sum().item()
    return 100 * hits / len(loader.dataset)


def log(folder: Path, line: str) -> None:
    with open(folder / "log.txt", "a") as file:
        file.write(line + "\n")


class Sam:
    """Sharpness-aware minimisation as it is usually written: a loop over the parameters before and after."""

    def __init__(self, parameters, rho: float) -> None:
        self.parameters, self.rho = list(parameters), rho

    @torch.no_grad()
    def ascend(self) -> None:
        norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in self.parameters]), p=2)
        self.before = [p.clone() for p in self.parameters]
        for p in self.parameters:
            p.add_(p.grad * (self.rho / (norm + 1e-12)))

    @torch.no_grad()
    def descend(self) -> None:
        for p, before in zip(self.parameters, self.before, strict=True):
            p.copy_(before)


def taught_loss(
    config: TeacherConfig, teachers: Sequence[nn.Module], x: Tensor, features: Tensor, logits: Tensor, own: Tensor
) -> Tensor:
    """The loss of a CNN whose teachers, in eval mode, look at its batch x beside it: DiVE (METHODS 6) or CBD (7.1).
    own: its loss of the labels."""
    distil = config.distil
    with torch.no_grad():
        if distil.kind == "soft":
            target = F.softmax(teachers[0](x) / distil.tau, dim=1) ** distil.power
            target = target / target.sum(1, keepdim=True)
        else:
            target = torch.cat([F.normalize(teacher.features(x)) for teacher in teachers], dim=1)
    if distil.kind == "soft":
        apart = F.kl_div(F.log_softmax(logits / distil.tau, dim=1), target, reduction="batchmean")
        return (1 - distil.alpha) * own + distil.alpha * distil.tau**2 * apart
    return (1 - distil.alpha) * own + distil.alpha * distil.beta * (1 - F.cosine_similarity(features, target)).mean()


def train_teacher(
    config: TeacherConfig,
    data: LongTail,
    folder: Path,
    device: torch.device,
    tick: Callable[[], None],
    teachers: Sequence[nn.Module] = (),
) -> None:
    """A CIFAR teacher with SGD or SAM for config.epochs epochs, or a CNN that learns from teachers by `taught_loss`;
    tick() after each step. Classes in balance by a sampler with weights, where the entry balances them."""
    cuda, cores, size = device.type == "cuda", os.cpu_count(), data.train_images.shape[1]
    finish = [transforms.ToTensor(), transforms.Normalize(*NORMALIZATION[config.normalization])]
    weak = [transforms.RandomCrop(size, config.crop_padding), transforms.RandomHorizontalFlip(config.hflip)]
    samples = Samples(data.train_images, data.train_labels, transforms.Compose(weak + finish))
    balanced, weights = config.sampler != "shuffle", 1 / data.class_counts[data.train_labels]
    of_all = WeightedRandomSampler(weights, len(samples)) if balanced else None
    loader = DataLoader(
        samples, config.batch_size, not balanced, of_all, num_workers=cores, pin_memory=cuda, drop_last=config.drop_last
    )
    test = Samples(data.test_images, data.test_labels, transforms.Compose(finish))
    test_loader = DataLoader(test, config.batch_size, num_workers=cores, pin_memory=cuda)
    model, criterion = build_model(config, data.num_classes).to(device), build_loss(config, data.class_counts, device)
    optimizer = torch.optim.SGD(model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    best = 0.0
    for epoch in range(config.epochs):
        model.train()
        optimizer.param_groups[0]["lr"] = learning_rate(config, epoch)
        rho, sums = sam_radius(config.sam_rho, epoch), np.zeros(2)
        sam = Sam(model.parameters(), rho) if rho else None
        for x, labels in loader:
            x, labels = x.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            features = model.features(x)
            logits = model.fc(features)
            loss = criterion(logits, labels, epoch)
            if teachers:
                loss = taught_loss(config, teachers, x, features, logits, loss)
            optimizer.zero_grad()
            loss.backward()
            if sam:
                sam.ascend()
                optimizer.zero_grad()
                logits = model(x)
                loss = criterion(logits, labels, epoch)
                loss.backward()
                sam.descend()
            optimizer.step()
            sums += loss.item() * len(x), (logits.argmax(1) == labels).sum().item()
            tick()
        accuracy = evaluate(model, test_loader, device)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        torch.save(state, folder / "checkpoint.pth")
        best = max(best, accuracy)
        log(folder, f"epoch {epoch}: {sums / len(samples)}, test {accuracy:.2f}, best {best:.2f}")
