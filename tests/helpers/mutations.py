"""Small edits of the code that decides what a run computes, each one text of a function changed for a test's time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FunctionType

MUTATIONS = [  # small entry, module:function, text, what stands in its place
    # views of students
    ("deit_lt", "views.mix:cutmix_box", "y + half, x - half, x + half", "y + half + 1, x - half, x + half + 1"),
    ("deit_lt", "views.mix:cutmix_box", "np.sqrt(1 - lam)", "(1 - lam)"),
    ("deit_lt", "views.mix:draw", "epoch >= recipe.mix_until", "epoch > recipe.mix_until"),
    ("deit_lt", "views.mix:apply_", "of_first = first.flip(0)", "of_first = first.clone()"),
    ("deit_lt", "views.epoch:Layout.order", "np.repeat(drawn, self.repeats)", "np.tile(drawn, self.repeats)"),
    ("deit_lt", "views.epoch:Layout.order", "reshape(-1, self.ranks).T", "reshape(self.ranks, -1)"),
    ("deit_lt", "views.draws:crops", "np.sqrt(area * aspect)", "np.sqrt(area / aspect)"),
    ("deit_lt", "views.draws:view_draws", "words[:, _FLIP]) < recipe.hflip", "words[:, _FLIP]) > recipe.hflip"),
    ("deit_lt", "views.draws:erasures", "np.rint(np.sqrt(target * aspect))", "np.floor(np.sqrt(target * aspect))"),
    ("deit_lt", "views.draws:erase_noise", '"noise"', '"mix"'),
    ("deit_lt", "views.ops.randaugment:level_argument", "level * 30.0", "level * 31.0"),
    ("deit_lt", "views.normalize:normalize", "div_(255)", "div_(256)"),
    ("deit_lt", "views.normalize:normalize_into", "div_(255)", "div_(256)"),
    (
        "deit_lt",
        "views.batch:teacher_view",
        "x[..., offset::stride, offset::stride]",
        "x[..., offset::stride, ::stride]",
    ),
    ("deit_iii", "views.draws:_colors", "rng.below(words[:, 0], 3)", "rng.below(words[:, 0], 2)"),
    (
        "crt",
        "views.epoch:class_balanced",
        "present[rng.below(words[:, 0], len(present))]",
        "labels[rng.below(words[:, 0], len(labels))]",
    ),
    # test views
    ("vit", "views.eval_views:_views", "round((height - size) / 2)", "(height - size) // 2"),
    ("large", "views.eval_views:_views", "BILINEAR if bilinear else", "BICUBIC if bilinear else"),
    # losses and their targets
    ("deit_lt", "losses.targets:soft_targets", "off = smoothing / num_classes", "off = smoothing / (num_classes - 1)"),
    (
        "deit_lt",
        "methods.deit_lt:Method.class_weights",
        "epoch >= self.config.drw_epoch",
        "epoch > self.config.drw_epoch",
    ),
    (
        "deit_lt",
        "methods.deit_lt:Method.targets",
        "epoch < self.config.smoothing_until",
        "epoch <= self.config.smoothing_until",
    ),
    ("deit_lt", "methods.deit_lt:Method.loss", "(1 - alpha) * cls_loss + alpha", "alpha * cls_loss + 1.001 * alpha"),
    ("deit_lt_own", "methods.deit_lt:Method.loss", "else targets.dominant", "else targets.partner"),
    ("deit_lt", "losses.losses:drw_weights", "1 - beta**counts", "1 - beta ** (counts + 1)"),
    ("deit_lt", "losses.losses:group_means", "weighted.sum() / weight.sum()", "weighted.mean()"),
    ("deit_iii", "methods.deit_iii:Method.targets", "> self.config.threshold", "> self.config.threshold + 0.2"),
    ("vit_ldam", "losses.losses:ldam_margins", "pow(-0.25)", "pow(-0.3)"),
    ("livt", "losses.soft_target:sigmoid_bias", "tau * bias", "tau * bias.sign() * bias.abs().sqrt()"),
    ("livt", "losses.soft_target:_log_odds", "share.log() - (1 - share).log()", "share.log()"),
    ("livt", "losses.soft_target:grouped_binary_sum", "losses.sum(1)", "losses.mean(1)"),
    ("livt", "methods.livt:Method.loss", "z = z + self.of_class", "z = z - self.of_class"),
    ("bal_ce", "losses.soft_target:softmax_bias", "counts / counts.sum()", "counts / counts.max() * 0.5"),
    ("cb", "losses.soft_target:grouped_class_weighted", "groups, sums)", "groups)"),
    ("ldam", "losses.soft_target:grouped_mixed_ldam", "(logits, of, margins", "(logits, of, 0 * margins"),
    ("lade", "losses.soft_target:grouped_lade", "strength * every**2", "2 * strength * every**2"),
    ("ib", "losses.soft_target:grouped_influence_balanced", "* features.abs().sum(1)", "* features.norm(dim=1)"),
    ("ib", "methods.livt:Method.loss", "epoch >= config.ib_epoch", "epoch > config.ib_epoch"),
    # pretraining
    ("mgp", "losses.losses:masked_patch_loss", "mean((1, 2))", "mean(2).sum(1)"),
    (
        "mgp",
        "models.mae:normalized_patches",
        "patches.var(-1, keepdim=True)",
        "patches.var(-1, False, keepdim=True)",
    ),
    ("mgp", "views.draws:patch_orders", '"patch_order"', '"mix"'),
    ("mgp", "models.transformer:sincos_positions", "[column, row], 2", "[row, column], 2"),
    ("mgp", "models.mae:mae_parameter_groups", '"weight_decay": 0.0', '"weight_decay": weight_decay'),
    ("mgp", "models.mae:MaskedAutoencoder.decode", "1 + visible, 1 + hidden", "visible, hidden"),
    ("mgp", "models.mae:MaskedAutoencoder.encode", "permute(0, 2, 3, 1)", "permute(0, 3, 2, 1)"),
    ("mgp", "training.optimizer:cosine_after_warmup", "(t - warmup_epochs)", "t"),
    # what starts from it
    ("livt", "models.vit:parameter_groups", "(depth + 1 - layer)", "(depth - layer)"),
    ("livt", "models.vit:_layer", 'name in NO_DECAY or name.startswith("patch_embed.")', "name in NO_DECAY"),
    ("livt", "models.transformer:resized_positions", '"bicubic"', '"bilinear"'),
    ("livt", "models.transformer:VisionTransformer.mean_token", "self.num_prefix_tokens :", "0 :"),
    ("livt", "training.student:learning_rate", "loader_fraction", "lr_fraction"),
    ("livt", "views.epoch:Layout.loader_fraction", "max(whole, self.micro_batches)", "self.micro_batches + 1"),
    # schedules and steps of students
    ("deit_lt", "training.optimizer:cosine_lr", "math.pi * t / epochs", "math.pi * (t - warmup_epochs) / epochs"),
    ("deit_lt", "training.optimizer:cosine_lr", "if t < warmup_epochs", "if t < warmup_epochs - 1"),
    ("deit_lt", "views.epoch:Layout.lr_fraction", "step == self.steps - 1", "step == self.steps"),
    (
        "deit_lt",
        "training.optimizer:build_optimizer",
        "betas=betas, eps=eps, fused",
        "betas=(betas[0], 0.99), eps=eps, fused",
    ),
    ("deit_iii", "training.optimizer:build_optimizer", "max_grad_norm=LAMB_GRADIENT_NORM", "max_grad_norm=None"),
    ("deit_lt", "models.vit:parameter_groups", "or name in NO_DECAY", ""),
    ("deit_lt", "training.student_step:Stepper._pass", "losses.sum() / self.over", "losses.mean() / self.over"),
    ("deit_lt", "models.transformer:draw", "(kept / keep)", "(kept / 1.0)"),
    # networks
    ("vit", "models.transformer:_normal_", "clamp_(-2, 2)", "clamp_(-0.03, 0.03)"),
    ("vit", "models.transformer:Attention.forward", "(q, k, v)", "(q, k, v, scale=0.24)"),
    ("deit_lt", "models.vit:head_logits", "model.head_dist(tokens[:, 1])", "model.head_dist(tokens[:, 0])"),
    # teachers
    ("ldam_drw_sam", "training.sam:ascend", "norm + EPSILON", "norm * 1.01"),
    (
        "ldam_drw_sam",
        "training.sam:sam_step",
        "_foreach_copy_(list(params), saved)",
        "_foreach_copy_(saved, list(params))",
    ),
    ("ldam_drw_sam", "training.optimizer:teacher_lr", "sum(e > milestone", "sum(e >= milestone"),
    ("ldam_drw_sam", "training.teacher:reweighted", "epoch >= config.drw_epoch", "epoch > config.drw_epoch"),
    ("ldam_drw_sam", "losses.losses:_ldam_logits", "scale * (cosines - torch", "scale * (cosines + torch"),
    ("ldam_drw_sam", "views.teacher_views:weak_parameters", "2 * padding + 1", "2 * padding"),
    ("ldam_drw_sam", "training.supervised:supervised_views", "config.hflip,", "not config.hflip,"),
    ("ldam_drw_sam", "training.teacher:build_model", "build_cnn(", "torch.rand(1) is not None and build_cnn("),
    (
        "balanced_softmax",
        "losses.losses:balanced_softmax_loss",
        "F.cross_entropy(logits + shift",
        "F.cross_entropy(logits - shift",
    ),
    ("paco_sam", "losses.losses:paco_loss", "& ~itself", ""),
    ("paco_sam", "models.paco:PaCo.contrast", "alpha=1 - self.momentum", "alpha=0.5 - self.momentum / 2"),
    (
        "paco_sam",
        "models.paco:PaCo.contrast",
        "torch.cat([self.queue[len(keys) :], keys])",
        "torch.cat([keys, self.queue[len(keys) :]])",
    ),
    ("paco_sam", "views.draws:cutout_boxes", "center + side // 2", "center + side // 2 - 1"),
    ("large", "training.optimizer:teacher_cosine_lr", "shift = 1 if warmup_epochs else 0", "shift = 1"),
    ("large", "training.optimizer:sam_radius", "epoch + 1 <= last", "epoch <= last"),
    # what learns from features, or goes on from weights
    ("cbd_ens", "losses.cbd:joined_features", "F.normalize(v.to(dtype), dim=1)", "v.to(dtype)"),
    ("cbd_ens", "losses.cbd:cbd_loss", "(1 - config.alpha) * label_term", "1.05 * (1 - config.alpha) * label_term"),
    ("cbd_ens", "views.epoch:balanced_copies", "counts[labels]", "np.sqrt(counts[labels] * counts.max())"),
    ("cbd_ens", "models.combined:zero_last_gammas_", "nn.init.zeros_", "nn.init.ones_"),
    ("cbd_ens", "training.supervised:Order.__init__", "config.key(seed)", "seed + 1"),
    ("cbd_crt", "training.taught:Started.train", 'self.start.train == "all"', "True"),
    ("cbd_crt", "views.ops.photometric:bilinear", "np.arange(side) + 0.5", "np.arange(side)"),
    # what learns from a teacher
    ("dive", "losses.dive:dive_loss", "(1 - config.alpha) * label_term", "1.05 * (1 - config.alpha) * label_term"),
    ("dive", "losses.dive:dive_loss", "logits.to(dtype) / config.of_student", "logits.to(dtype) / config.tau * 0.99"),
    ("dive", "losses.dive:powered", "power * log_shares", "log_shares"),
    ("dive", "training.taught:Distilled._answers", "source.logit_scale * source.network", "source.network"),
    ("dive", "training.optimizer:teacher_lr", "(1 - warmup_from) * epoch", "(1 - warmup_from) * e"),
    ("dive_large", "losses.dive:virtual_examples", "logits / tau", "logits / (1.01 * tau)"),
    ("dive_mixed", "losses.dive:distillation_targets", "(1 - config.alpha) * own", "config.alpha * own * 1.01"),
    (
        "dive_mixed",
        "losses.dive:distillation_targets",
        'config.power_of == "mixed" else config.power',
        'config.power_of == "teacher" else config.power',
    ),
    ("dive_student6", "losses.dive:dive_loss", "config.of_student", "config.tau"),
    ("dive_factor36", "losses.dive:dive_loss", "config.alpha * config.weight", "config.alpha * config.tau**2"),
    ("lws", "models.combined:ScaledLinear.forward", "* self.scales", "* self.scales * 1.001"),
    ("lws", "training.taught:Started.__init__", "[fc.scales]", "[fc.scales, fc.bias]"),
    ("focal", "losses.losses:focal_loss", "** gamma", "** (gamma + 0.01)"),
    # several experts and their router
    ("ride", "training.experts:ExpertDiversity.__call__", "self.of.factor *", "-self.of.factor *"),
    ("ride", "training.experts:ExpertDiversity.__call__", "each * self.config.logit_scale", "each"),
    ("ride", "training.experts:Experts.forward", "+ self.diversity(each, epoch)", "+ self.diversity(each, -1)"),
    ("ride", "training.teacher:diversity_reweighted", "epoch >= first", "epoch > first"),
    ("ride", "training.teacher:build_loss", "else config.scale * logits", "else logits"),
    ("ride", "losses.ride:class_temperatures", "weights / weights.max()", "weights / weights.mean()"),
    ("ride", "losses.ride:divergence", "temperature.mean() ** 2", "temperature.mean()"),
    ("ride", "losses.ride:divergence", "each.detach().mean(1)", "each.detach()[:, 0]"),
    ("ride", "losses.ride:over_experts", ".sum()", ".mean()"),
    ("ride", "models.resnet:NormedLinear.forward", "F.normalize(x.float(), dim=1)", "x.float()"),
    ("ride_dive", "training.experts:DistilledExperts.forward", "logits * self.config.logit_scale", "logits"),
    (
        "ride_dive",
        "training.experts:DistilledExperts.forward",
        "over_experts(each, loss)",
        "each.shape[1] * loss(each.mean(1))",
    ),
    ("ride_dive", "training.taught:Distilled._answers", "source.logit_scale * source.network", "source.network"),
    ("ride_dive", "models.experts:ExpertHeads.forward", "self.each(x).mean(1)", "self.each(x)[:, 0]"),
    ("ride_routed", "losses.ride:router_loss", "torch.full_like(asked[0], pos_weight)", "torch.ones_like(asked[0])"),
    ("ride_routed", "losses.ride:experts_wanted", "~right[:, :-1] & later", "later"),
    ("ride_routed", "models.experts:in_use", "asked > 0", "asked > 2"),  # its first weights ask for all
    ("ride_routed", "models.experts:running_means", "each.cumsum(1) / counts[:, None]", "each"),
    ("ride_routed", "models.experts:RoutedHeads.asked", "self.scale * running_means", "running_means"),
    ("ride_routed", "training.experts:Routing.train", "self.model.eval()", "self.model.train()"),
    # labels
    (
        "cache",
        "training.cache:teacher_logits",
        "teacher(teacher_input(x, recipe))",
        "teacher(teacher_input(x, recipe) * 1.001)",
    ),
]


@contextmanager
def mutated(place: str, old: str, new: str) -> Iterator[None]:
    """The function at `module:name` (of longtail) with one text of it replaced, wherever it was imported to."""
    module, _, name = place.partition(":")
    module = import_module(f"longtail.{module}")
    function = found(module, name)
    lines, first = inspect.getsourcelines(function)
    source = inspect.getsource(module).splitlines(keepends=True)
    text = "".join(lines)
    assert old in text, f"{place}: no longer has {old!r}"
    source[first - 1 : first - 1 + len(lines)] = [text.replace(old, new, 1)]
    namespace = dict(vars(module))
    exec(compile("".join(source), module.__file__, "exec"), namespace)
    there = namespace[name.partition(".")[0]]
    edited = raw(getattr(there, name.partition(".")[2]) if "." in name else there)
    before = function.__code__
    function.__code__ = edited.__code__
    try:
        yield
    finally:
        function.__code__ = before


def found(module, name: str) -> FunctionType:
    value = module
    for part in name.split("."):
        value = getattr(value, part)
    return raw(value)


def raw(function) -> FunctionType:
    """Without the cover that a decorator such as torch.no_grad puts around it."""
    return inspect.unwrap(function)
