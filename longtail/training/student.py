"""Train one ViT student: any method, with the teacher's labels from a cache or from the teacher at hand.

The loop is DeiT-LT's (METHODS 3.5 to 3.8); what one step does is in longtail/training/student_step.py.

Several processes (runs/parallel.py) share out the groups of every step and add up their gradients. Views, mixing,
losses of groups and stochastic depth are those of one process; only the order of float sums differs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base.errors import UserError
from longtail.base.params import plain
from longtail.data.long_tail import LongTail
from longtail.models import transformer
from longtail.models.build import build_network
from longtail.models.vit import ModelConfig, parameter_groups, special_tokens
from longtail.runs.execution import DTYPES, Execution
from longtail.runs.parallel import ALONE, Team
from longtail.runs.workspace import Workspace
from longtail.training.engine import choose_attention, compile_blocks
from longtail.training.experiment import StudentConfig, TrainConfig, load_method
from longtail.training.labels import TeacherLabels
from longtail.training.optimizer import build_optimizer, cosine_after_warmup, cosine_lr
from longtail.training.student_evaluation import Evaluator, Validation, test_views
from longtail.training.student_run import StudentRun, begin
from longtail.training.student_step import Meter, Stepper, chunks, views_at_once, write_rows
from longtail.training.validation import VALIDATION, Chosen
from longtail.views.batch import Batch
from longtail.views.student_views import Views


class Student:
    """What a run trains and shows, as it is before the first step: views, network, loss, optimizer and its step.

    All that decides what a run computes is here, for its loop (`train_student`) and for its probe alike.
    """

    def __init__(
        self,
        config: StudentConfig,
        data: LongTail,
        seed: int,
        labels: TeacherLabels | nn.Module | None,
        device: torch.device,
        execution: Execution = Execution(),  # noqa: B008 (frozen)
        team: Team = ALONE,
        start: StudentRun | None = None,
    ) -> None:
        """Arguments as of train_student. Seeds torch's global generator, which gives the first weights."""
        self.config, train = config, config.train
        self.method = load_method(config.method).Method(config.loss, data.class_counts, device)
        self.views = Views(config.views, data.train_images, seed, device=device, labels=data.train_labels)
        torch.manual_seed(seed)
        self.model = build_network(config.model, data.num_classes, self.method.distilled, self.method.head)
        if start is not None:
            begin(self.model, start, self.method.head_only)
        self.model = self.model.to(device)
        groups = parameter_groups(self.model, train.weight_decay, train.layer_decay)
        self.optimizer = build_optimizer(train.optimizer, groups, train.lr, train.betas, train.eps)
        self.take_step = Stepper(
            config, self.model, self.method, self.optimizer, labels, data.train_labels, seed, device, execution, team
        )

    def train(self) -> None:
        """To training mode; a frozen backbone answers as at test: no stochastic depth."""
        self.model.train(not self.method.head_only)

    def update(self, batch: Batch, epoch: int, step: int, meter: Meter) -> float:
        """One optimizer step; returns its learning rate."""
        lr = learning_rate(self.config.train, self.views, epoch, step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        self.take_step(batch, epoch, meter)
        return lr


def learning_rate(train: TrainConfig, views: Views, epoch: int, step: int) -> float:
    """Of one step of a 0-based epoch, of layers without a factor of their own."""
    if train.schedule == "after_warmup":
        t = epoch + views.layout.loader_fraction(step)
        return cosine_after_warmup(t, train.lr, train.epochs, train.warmup_epochs, train.min_lr)
    t = epoch + views.lr_fraction(step)
    return cosine_lr(t, train.lr, train.epochs, train.warmup_epochs, train.warmup_lr, train.min_lr)


def train_student(
    config: StudentConfig,
    data: LongTail,
    seed: int,
    labels: TeacherLabels | nn.Module | None,
    workspace: Workspace,
    device: torch.device,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    facts: dict | None = None,
    start: StudentRun | None = None,
) -> None:
    """Train to the last epoch and write the result folder. labels: a cache, an online teacher, or None. start: the run
    whose weights are the first ones.

    execution's micro_batch bounds memory; it, the engine and the number of processes change nothing but the order of
    float sums. The processes of workspace.team all call this; the first writes.
    """
    team, train = workspace.team, config.train
    student = Student(config, data, seed, labels, device, execution, team, start)
    method, model, optimizer, views, take_step = (
        student.method,
        student.model,
        student.optimizer,
        student.views,
        student.take_step,
    )
    if team.size > 1 and any(True for _ in model.buffers()):
        raise UserError(f"{config.experiment}: batch statistics are of one process; train it without torchrun")

    def mine(step: int) -> slice:
        """Which groups of a step are this process's."""
        return team.share(len(views.groups_of_step(step))) if team.size > 1 else slice(None)

    run_by = _speed_up(model, config, views.groups_of_step(0, mine(0)), execution, method.head_only, device, workspace)
    evaluate = Evaluator(
        test_views(config, data, team), data.test_labels, config.views.normalization, device, execution, team
    )
    validation = Validation(config, data, device, execution, team)
    meter = Meter(device, team, method.distilled)
    best = {"epoch": -1, "top1": -1.0, "logits": {}}
    last: dict[str, Tensor] = {}
    epoch, step, seen = 0, 0, 0
    if saved := workspace.load():
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        take_step.scaler.load_state_dict(saved["scaler"])
        meter.restore(saved["history"], saved["sums"])
        best, last, epoch, step = saved["best"], saved["last"], saved["epoch"], saved["step"]
        validation.chosen = Chosen(**saved.get("chosen", {}))
    team.copy_first_(model.parameters())  # processors of another make may differ in the last bit of the first weights

    def state() -> dict:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": take_step.scaler.state_dict(),
            "history": meter.rows(),
            "sums": meter.total(),
            "best": best,
            "chosen": dict(vars(validation.chosen)),
            "last": last,
            "epoch": epoch,
            "step": step,
        }

    while epoch < train.epochs:
        student.train()
        batches = views.steps(epoch, step, groups=mine)
        while step < views.steps_per_epoch:
            lr = student.update(next(batches), epoch, step, meter)
            step, seen = step + 1, seen + views.groups_of_step(step)[-1].stop
            if step < views.steps_per_epoch:
                workspace.tick(state)
        meter.close(epoch, lr)
        if (epoch + 1) % train.eval_every == 0 or epoch + 1 == train.epochs:
            row = meter.rows()[-1]
            last = evaluate(model)
            scores = {head: evaluate.top1(z) for head, z in last.items()}
            row |= {f"test_top1_{head}": score for head, score in scores.items()}
            if evaluate.cls_dist_distance is not None:
                row["test_cls_dist_distance"] = evaluate.cls_dist_distance
            row |= validation.close(epoch, model, last)
            if team.leads and scores["avg"] > best["top1"]:
                best = {"epoch": epoch, "top1": scores["avg"], "logits": last}
        epoch, step = epoch + 1, 0
        if workspace.shows:
            rate = seen / max(workspace.seconds() - workspace.earlier, 1e-9)
            loss, left = meter.rows()[-1]["loss"], (train.epochs - epoch) * views.positions_per_epoch / rate
            workspace.log(f"epoch {epoch}/{train.epochs}, loss {loss}, {rate:.0f} img/s, {left:.0f} s left")
        workspace.tick(state)
    if team.leads:
        facts = (facts or {}) | run_by
        kept = {"last": last, "best": best["logits"]}
        epochs = {"best": best["epoch"], "last": train.epochs - 1}
        if validation.evaluate is not None:
            kept[VALIDATION], epochs[VALIDATION] = validation.chosen.kept, validation.chosen.epoch
        _write(workspace, config, data, seed, model, meter.rows(), kept, epochs, method.logit_scale, facts)


def _speed_up(
    model: nn.Module,
    config: StudentConfig,
    groups: list[slice],
    execution: Execution,
    frozen: bool,
    device: torch.device,
    workspace: Workspace,
) -> dict[str, str | None]:
    """Choose the attention kernel and compile as asked, for a forward pass over these groups of a step. Returns how the
    run is computed, for identity.json."""
    parts, engine, attention = chunks(groups, views_at_once(config, execution)), "eager", None
    if isinstance(config.model, ModelConfig) and parts:
        shape, size = config.model, parts[0][-1].stop - parts[0][0].start
        tokens = shape.grid**2 + model.num_prefix_tokens
        dtype = DTYPES[execution.precision]
        attention = choose_attention(size, shape.heads, tokens, shape.dim // shape.heads, dtype, device)
        if execution.engine == "compiled" and not frozen:
            x = torch.zeros(size, 3, shape.image_size, shape.image_size, device=device)
            branches = transformer.branches(model.train())
            transformer.use(branches, torch.ones(len(branches), size, device=device))

            def attempt() -> Tensor:
                with execution.autocast(device):
                    return special_tokens(model, x).float().sum()

            why = compile_blocks(model, attempt)
            engine = "compiled" if why is None else "eager"
            if why is not None:
                workspace.log(f"not compiled, goes on eagerly ({why})", always=True)
    return {"precision": execution.precision, "engine": engine, "attention": attention}


def _write(workspace: Workspace, config, data, seed, model, history, kept, epochs, logit_scale, facts: dict) -> None:
    """kept: {last, best, validation: test logits by head}; epochs: which they are of, from 0."""
    from safetensors.torch import save_file

    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, workspace.result / "model.safetensors")
    write_rows(history, workspace.result / "history.csv")
    arrays = {
        "labels": data.test_labels,
        **{f"{name}_epoch": np.int64(epoch) for name, epoch in epochs.items()},
        "class_order": np.array(data.class_order),
        "logit_scale": np.float64(logit_scale),
    }
    for name, logits in kept.items():
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
