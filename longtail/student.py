"""Train one ViT student: any method, with the teacher's labels from a cache or from the teacher at hand.

The loop is DeiT-LT's (METHODS 3.5 to 3.8): an optimizer step covers `accumulate` micro-batches of each of two virtual
ranks; each mix group is one micro-batch of one rank, with a loss of its own; the step's loss is their sum over
accumulate x virtual_world, so that an incomplete last step has the smaller gradient it has in the published code.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from longtail.cache import TeacherLabels, teacher_labels
from longtail.data import LongTail
from longtail.errors import UserError
from longtail.evaluation import EvalViews
from longtail.experiment import StudentConfig, load_method
from longtail.normalize import constants, normalize
from longtail.optimizer import build_optimizer
from longtail.params import plain
from longtail.schedule import cosine_lr
from longtail.targets import Targets
from longtail.views import Views
from longtail.vit import build_vit, cls_dist_distance, head_logits, parameter_groups, special_tokens
from longtail.workspace import Workspace

EVAL_BATCH = 256


def train_student(
    config: StudentConfig,
    data: LongTail,
    seed: int,
    labels: TeacherLabels | nn.Module | None,
    workspace: Workspace,
    device: torch.device,
    precision: str = "fp32",
    micro_batch: int = 0,
    facts: dict | None = None,
) -> None:
    """Train to the last epoch and write the result folder. labels: a cache, an online teacher, or None.

    micro_batch: views in one forward pass, a multiple of the mix group; 0 = a whole optimizer step. It bounds memory
    and changes nothing but the order of float sums (and the random draws of stochastic depth).
    """
    train, method_file = config.train, load_method(config.method)
    method = method_file.Method(config.loss, data.class_counts)
    views = Views(config.views, data.train_images, seed, device=device)
    torch.manual_seed(seed)
    model = build_vit(config.model, data.num_classes, method.distilled, method.head).to(device)
    groups = parameter_groups(model, train.weight_decay)
    optimizer = build_optimizer(train.optimizer, groups, train.lr, train.betas, train.eps)
    y = torch.from_numpy(data.train_labels)
    test = EvalViews(data.test_images, config.model.image_size, train.eval_resize)
    evaluate = _Evaluator(test, data.test_labels, config.views.normalization, device, precision)

    history: list[dict] = []
    best = {"epoch": -1, "top1": -1.0, "logits": {}}
    last: dict[str, Tensor] = {}
    epoch, step, sums = 0, 0, torch.zeros(3, dtype=torch.float64)  # loss, 1 - cosine, views
    if saved := workspace.load():
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        history, best, last, sums = saved["history"], saved["best"], saved["last"], saved["sums"]
        epoch, step = saved["epoch"], saved["step"]
    sums = sums.to(device)

    def state() -> dict:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "best": best,
            "last": last,
            "sums": sums.cpu(),
            "epoch": epoch,
            "step": step,
        }

    seen = 0
    while epoch < train.epochs:
        model.train()
        batches = views.steps(epoch, step)
        while step < views.steps_per_epoch:
            lr = cosine_lr(
                epoch + views.lr_fraction(step),
                train.lr,
                train.epochs,
                train.warmup_epochs,
                train.warmup_lr,
                train.min_lr,
            )
            for group in optimizer.param_groups:
                group["lr"] = lr
            batch = next(batches)
            optimizer.zero_grad(set_to_none=True)
            for groups in _chunks(batch.groups, micro_batch):
                part = slice(groups[0].start, groups[-1].stop)
                x = batch.x[part].to(device)
                teacher = None
                if isinstance(labels, TeacherLabels):
                    teacher = labels.at(epoch, batch.positions[part]).to(device)
                elif labels is not None:
                    teacher = teacher_labels(labels, batch.shown[part].to(device), config.views)
                targets = Targets(
                    y[batch.index[part]].to(device),
                    y[batch.partner[part]].to(device),
                    batch.lam[part].to(device),
                    teacher,
                    [group.stop - group.start for group in groups],
                )
                with torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32"):
                    tokens = special_tokens(model, x)
                    logits = head_logits(model, tokens)
                losses = method.loss(logits, targets, epoch)
                (losses.sum() / (config.views.accumulate * config.views.virtual_world)).backward()
                with torch.no_grad():
                    sums[0] += losses.double() @ torch.tensor(targets.groups, dtype=torch.float64, device=device)
                    sums[2] += len(x)
                    if method.distilled:
                        sums[1] += cls_dist_distance(tokens.float()).sum()
            optimizer.step()
            step, seen = step + 1, seen + len(batch.x)
            if step < views.steps_per_epoch:
                workspace.tick(state)
        history.append(_row(epoch, lr, sums, method.distilled))
        if not math.isfinite(history[-1]["loss"]):
            raise UserError(f"student diverged: training loss is {history[-1]['loss']} in epoch {epoch}; lower lr")
        if (epoch + 1) % train.eval_every == 0 or epoch + 1 == train.epochs:
            last = evaluate(model)
            scores = {head: evaluate.top1(z) for head, z in last.items()}
            history[-1] |= {f"test_top1_{head}": score for head, score in scores.items()}
            if scores["avg"] > best["top1"]:
                best = {"epoch": epoch, "top1": scores["avg"], "logits": last}
        epoch, step = epoch + 1, 0
        sums.zero_()
        rate = seen / max(workspace.seconds() - workspace.earlier, 1e-9)
        left = (train.epochs - epoch) * views.positions_per_epoch / rate
        workspace.log(f"epoch {epoch}/{train.epochs}, loss {history[-1]['loss']}, {rate:.0f} img/s, {left:.0f} s left")
        workspace.tick(state)
    _write(workspace, config, data, seed, model, history, best, last, method.logit_scale, facts or {})


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _chunks(groups: list[slice], views: int) -> list[list[slice]]:
    """Groups in runs of at most `views` views (0: all in one run)."""
    chunks: list[list[slice]] = [[]]
    for group in groups:
        if views and chunks[-1] and group.stop - chunks[-1][0].start > views:
            chunks.append([])
        chunks[-1].append(group)
    return chunks


class _Evaluator:
    """Logits of the test set, float32 on the CPU, by head and their average."""

    def __init__(self, views: EvalViews, labels: np.ndarray, normalization: str, device: torch.device, precision: str):
        self.views, self.labels, self.device, self.precision = views, torch.from_numpy(labels), device, precision
        self.mean, self.std = constants(normalization, device)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, Tensor]:
        model.eval()
        parts: dict[str, list[Tensor]] = {}
        for pixels in self.views.batches(EVAL_BATCH):
            x = normalize(pixels.to(self.device), self.mean, self.std)
            with torch.autocast(self.device.type, _DTYPES[self.precision], enabled=self.precision != "fp32"):
                logits = head_logits(model, special_tokens(model, x))
            for head, z in logits.items():
                parts.setdefault(head, []).append(z.float().cpu())
        heads = {head: torch.cat(z) for head, z in parts.items()}
        return heads | {"avg": torch.stack(list(heads.values())).mean(0)}  # mean of raw logits (METHODS trap 43)

    def top1(self, logits: Tensor) -> float:
        return round(100 * (logits.argmax(1) == self.labels).double().mean().item(), 4)


def _row(epoch: int, lr: float, sums: Tensor, distilled: bool) -> dict:
    loss, distance, count = sums.tolist()
    row = {"epoch": epoch, "lr": float(f"{lr:.9g}"), "loss": float(f"{loss / count:.9g}")}
    return row | ({"cls_dist_distance": float(f"{distance / count:.9g}")} if distilled else {})


def _write(workspace: Workspace, config, data, seed, model, history, best, last, logit_scale, facts: dict) -> None:
    from safetensors.torch import save_file

    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, workspace.result / "model.safetensors")
    pd.DataFrame(history).to_csv(workspace.result / "history.csv", index=False)
    arrays = {
        "labels": data.test_labels,
        "best_epoch": np.int64(best["epoch"]),
        "last_epoch": np.int64(config.train.epochs - 1),
        "class_order": np.array(data.class_order),
        "logit_scale": np.float64(logit_scale),
    }
    for name, logits in (("last", last), ("best", best["logits"])):
        arrays |= {f"logits_{name}_{head}": z.numpy() for head, z in logits.items() if head != "avg"}
    np.savez(workspace.result / "predictions.npz", **arrays)
    workspace.write_meta(
        {**plain(config), "seed": seed},
        seed=seed,
        dataset=data.name,
        dataset_digest=data.digest,
        class_order=data.class_order,
        class_names=list(data.class_names),
        **facts,
    )
