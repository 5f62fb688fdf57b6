"""Train one ViT student: any method, with the teacher's labels from a cache or from the teacher at hand.

The loop is DeiT-LT's (METHODS 3.5 to 3.8): an optimizer step covers `accumulate` micro-batches of each of two virtual
ranks; each mix group is one micro-batch of one rank, with a loss of its own; the step's loss is their sum over
accumulate x virtual_world, so that an incomplete last step has the smaller gradient it has in the published code.

Several processes (longtail/parallel.py) share out the groups of every step and add up their gradients. Views, mixing,
losses of groups and stochastic depth are those of one process; only the order of float sums differs.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from longtail import drop_path
from longtail.cache import TeacherLabels, teacher_labels
from longtail.cnn import CnnConfig
from longtail.data import LongTail
from longtail.errors import UserError
from longtail.evaluation import EvalViews
from longtail.experiment import StudentConfig, load_method
from longtail.gradients import Gradients
from longtail.network import build_network
from longtail.normalize import constants, normalize
from longtail.optimizer import build_optimizer
from longtail.parallel import ALONE, Team
from longtail.params import plain
from longtail.pixels import upload
from longtail.schedule import cosine_lr
from longtail.start import begin
from longtail.student_run import StudentRun
from longtail.targets import Targets
from longtail.views import Views
from longtail.vit import cls_dist_distance, head_logits, parameter_groups, special_tokens
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
    start: StudentRun | None = None,
) -> None:
    """Train to the last epoch and write the result folder. labels: a cache, an online teacher, or None. start: the run
    whose weights are the first ones.

    micro_batch: views in one forward pass, a multiple of the mix group; 0 = a whole optimizer step. It bounds memory
    and changes nothing but the order of float sums. A CNN sees a mix group at a time whatever it says: batch statistics
    are of one rank's micro-batch, as on the published runs' GPUs. The processes of workspace.team all call this; the
    first writes.
    """
    team = workspace.team
    train, method_file = config.train, load_method(config.method)
    method = method_file.Method(config.loss, data.class_counts)
    views = Views(config.views, data.train_images, seed, device=device, labels=data.train_labels)
    torch.manual_seed(seed)
    model = build_network(config.model, data.num_classes, method.distilled, method.head)
    if start is not None:
        begin(model, start, method.head_only)
    model = model.to(device)
    groups = parameter_groups(model, train.weight_decay)
    optimizer = build_optimizer(train.optimizer, groups, train.lr, train.betas, train.eps)
    y = torch.from_numpy(data.train_labels)
    test = EvalViews(data.test_images[_test_rows(data, team)], config.model.image_size, train.eval_resize)
    evaluate = _Evaluator(test, data.test_labels, config.views.normalization, device, precision, team)
    branches, gradients = drop_path.branches(model), Gradients(model.parameters(), team)
    if team.size > 1 and any(True for _ in model.buffers()):
        raise UserError(f"{config.experiment}: batch statistics are of one process; train it without torchrun")

    history: list[dict] = []
    best = {"epoch": -1, "top1": -1.0, "logits": {}}
    last: dict[str, Tensor] = {}
    epoch, step, sums = 0, 0, torch.zeros(3, dtype=torch.float64)  # loss, 1 - cosine, views
    if saved := workspace.load():
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        history, best, last = saved["history"], saved["best"], saved["last"]
        epoch, step = saved["epoch"], saved["step"]
        sums = saved["sums"] if team.leads else sums  # they are of all processes
    sums = sums.to(device)
    team.copy_first_(model.parameters())  # processors of another make may differ in the last bit of the first weights

    def state() -> dict:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "best": best,
            "last": last,
            "sums": team.sum_(sums.clone()).cpu(),
            "epoch": epoch,
            "step": step,
        }

    def mine(step: int) -> slice:
        """Which groups of a step are this process's."""
        return team.share(len(views.groups_of_step(step))) if team.size > 1 else slice(None)

    if isinstance(config.model, CnnConfig):
        micro_batch = 1  # each mix group alone
    seen = 0
    while epoch < train.epochs:
        model.train(not method.head_only)  # a frozen backbone answers as at test: no stochastic depth
        batches = views.steps(epoch, step, groups=mine)
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
            chunks = _chunks(batch.groups, micro_batch)
            factors = upload(drop_path.draw(branches, seed, epoch, batch.positions.numpy()), device) if chunks else None
            gradients.clear()
            for number, groups in enumerate(chunks, 1):
                part = slice(groups[0].start, groups[-1].stop)
                drop_path.use(branches, factors[:, part])
                if number == len(chunks):
                    gradients.last_pass()
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
            gradients.finish()
            optimizer.step()
            step, seen = step + 1, seen + views.groups_of_step(step)[-1].stop
            if step < views.steps_per_epoch:
                workspace.tick(state)
        history.append(_row(epoch, lr, team.sum_(sums), method.distilled))
        if not math.isfinite(history[-1]["loss"]):
            raise UserError(f"student diverged: training loss is {history[-1]['loss']} in epoch {epoch}; lower lr")
        if (epoch + 1) % train.eval_every == 0 or epoch + 1 == train.epochs:
            last = evaluate(model)
            scores = {head: evaluate.top1(z) for head, z in last.items()}
            history[-1] |= {f"test_top1_{head}": score for head, score in scores.items()}
            if team.leads and scores["avg"] > best["top1"]:
                best = {"epoch": epoch, "top1": scores["avg"], "logits": last}
        epoch, step = epoch + 1, 0
        sums.zero_()
        rate = seen / max(workspace.seconds() - workspace.earlier, 1e-9)
        left = (train.epochs - epoch) * views.positions_per_epoch / rate
        workspace.log(f"epoch {epoch}/{train.epochs}, loss {history[-1]['loss']}, {rate:.0f} img/s, {left:.0f} s left")
        workspace.tick(state)
    if team.leads:
        _write(workspace, config, data, seed, model, history, best, last, method.logit_scale, facts or {})


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _chunks(groups: list[slice], views: int) -> list[list[slice]]:
    """Groups in runs of at most `views` views (0: all in one run)."""
    chunks: list[list[slice]] = [[]]
    for group in groups:
        if views and chunks[-1] and group.stop - chunks[-1][0].start > views:
            chunks.append([])
        chunks[-1].append(group)
    return [chunk for chunk in chunks if chunk]


def _test_rows(data: LongTail, team: Team) -> slice:
    """A process's part of the test set: whole batches, so that sums are the same however many processes there are."""
    part = team.share(-(-len(data.test_images) // EVAL_BATCH))
    return slice(part.start * EVAL_BATCH, part.stop * EVAL_BATCH)


class _Evaluator:
    """Logits of the test set, float32 on the CPU, by head and their average. views: of this process's part.

    In a team the first process has the logits of all parts, the others none: metrics are made once, of the whole set
    (METHODS trap 44).
    """

    def __init__(
        self,
        views: EvalViews,
        labels: np.ndarray,
        normalization: str,
        device: torch.device,
        precision: str,
        team: Team = ALONE,
    ):
        self.views, self.labels, self.device, self.precision = views, torch.from_numpy(labels), device, precision
        self.team = team
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
        gathered = [part for part in self.team.gather(parts) if part]
        if not gathered:
            return {}
        heads = {head: torch.cat([z for part in gathered for z in part[head]]) for head in gathered[0]}
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
