from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from timm.optim import Lamb

from longtail.training.optimizer import build_optimizer, uncompiled

BETAS, EPS, DECAY = (0.9, 0.999), 1e-8, 0.05


def lamb_by_hand(weights, gradients, rates, decays) -> list[list[float]]:
    """LAMB in plain Python floats. weights: tensors as lists; gradients: one such set a step; decays: one a tensor."""
    weights = [list(w) for w in weights]
    m, v = ([[0.0] * len(w) for w in weights] for _ in range(2))
    for step, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        norm = math.sqrt(sum(g * g for tensor in gradient for g in tensor))
        for k, tensor in enumerate(gradient):
            update = []
            for i, g in enumerate(tensor):
                g /= max(norm, 1.0)
                m[k][i] = BETAS[0] * m[k][i] + (1 - BETAS[0]) * g
                v[k][i] = BETAS[1] * v[k][i] + (1 - BETAS[1]) * g * g
                mean, square = m[k][i] / (1 - BETAS[0] ** step), v[k][i] / (1 - BETAS[1] ** step)
                update.append(mean / (math.sqrt(square) + EPS) + decays[k] * weights[k][i])
            ratio = 1.0
            if decays[k]:
                size, length = (math.sqrt(sum(x * x for x in xs)) for xs in (weights[k], update))
                ratio = size / length if size and length else 1.0
            weights[k] = [w - lr * ratio * u for w, u in zip(weights[k], update, strict=True)]
    return weights


WEIGHTS = [[0.5, -1.0, 2.0], [0.3, 0.1], [0.0, 0.0]]  # decayed, spared, decayed and all zero
SMALL = [[0.1, -0.2, 0.05], [0.3, 0.2], [0.2, -0.1]]  # norm .5: left as it is
LARGE = [[3.0, -1.0, 0.5], [-2.0, 0.0], [1.0, 4.0]]  # norm 5.6: scaled down to 1
DECAYS = [DECAY, 0.0, DECAY]


def steps(gradients, rates, foreach=None) -> tuple[torch.optim.Optimizer, list[torch.Tensor]]:
    tensors = [torch.nn.Parameter(torch.tensor(w, dtype=torch.float64)) for w in WEIGHTS]
    decayed, spared = [tensors[0], tensors[2]], [tensors[1]]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": spared, "weight_decay": 0.0}]
    optimizer = build_optimizer("lamb", groups, 1.0, BETAS, EPS)
    for gradient, lr in zip(gradients, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"], group["foreach"] = lr, foreach
        for tensor, values in zip(tensors, gradient, strict=True):
            tensor.grad = torch.tensor(values, dtype=torch.float64)
        optimizer.step()
    return optimizer, tensors


@pytest.mark.parametrize("foreach", [False, True])  # a tensor at a time, or all at once as timm does on CUDA
@pytest.mark.parametrize("gradients", [[SMALL], [LARGE], [SMALL, LARGE, SMALL]])
def test_lamb_is_the_one_worked_out_by_hand(gradients, foreach):
    rates = [0.1, 0.05, 0.2][: len(gradients)]
    optimizer, tensors = steps(gradients, rates, foreach)
    assert isinstance(optimizer, Lamb)
    expected = lamb_by_hand(WEIGHTS, gradients, rates, DECAYS)
    for tensor, values in zip(tensors, expected, strict=True):
        assert tensor.tolist() == pytest.approx(values, rel=1e-12, abs=1e-15)


def test_a_first_step_of_lamb_has_the_length_of_its_weights_whatever_the_gradient():
    """The trust ratio: lr x |weight| for a tensor with decay, lr x sqrt(n) for one without (Adam's +-1 a weight)."""
    for scale in (1e-3, 1.0):
        _, (decayed, spared, _) = steps([[[scale * g for g in tensor] for tensor in SMALL]], [0.01])
        before = torch.tensor(WEIGHTS[0], dtype=torch.float64)
        assert (decayed - before).norm().item() == pytest.approx(0.01 * before.norm().item(), rel=1e-6)
        moved = (spared - torch.tensor(WEIGHTS[1], dtype=torch.float64)).tolist()
        assert moved == pytest.approx([-0.01, -0.01], rel=1e-4)


def test_the_norm_that_is_limited_is_that_of_all_tensors_together():
    """Once limited, a hundredfold gradient makes the same steps."""
    huge = [[[100 * g for g in tensor] for tensor in LARGE]] * 2
    for a, b in zip(steps([LARGE, LARGE], [0.1, 0.1])[1], steps(huge, [0.1, 0.1])[1], strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
    _, (alone, *_) = steps([SMALL, LARGE], [0.1, 0.1])
    own = lamb_by_hand(WEIGHTS[:1], [SMALL[:1], LARGE[:1]], [0.1, 0.1], DECAYS[:1])
    assert alone.tolist() != pytest.approx(own[0], rel=1e-3)  # limited by the norm of its own


def test_adamw_is_torch_s_with_the_groups_decay():
    weight, bias = (torch.nn.Parameter(torch.tensor(w)) for w in ([2.0, -1.0], [0.5]))
    groups = [{"params": [weight], "weight_decay": DECAY}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = build_optimizer("adamw", groups, 0.01, BETAS, EPS)
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["fused"]
    weight.grad, bias.grad = torch.tensor([30.0, -4.0]), torch.tensor([5.0])
    optimizer.step()  # decay by the rate, then a first step of the sign; no limit of the norm
    assert weight.tolist() == pytest.approx([2.0 * (1 - 0.01 * DECAY) - 0.01, -1.0 * (1 - 0.01 * DECAY) + 0.01])
    assert bias.tolist() == pytest.approx([0.5 - 0.01])


# in a process of its own: others of the tests load torch._dynamo
STEPS_ALONE = """
import sys, torch
from longtail.training.optimizer import build_optimizer, uncompiled

weights = [torch.nn.Parameter(torch.arange(4.0)) for _ in range(2)]
groups = [{"params": [weight], "weight_decay": 0.1} for weight in weights]
for optimizer in (
    build_optimizer("adamw", groups, 0.1, (0.9, 0.999), 1e-8),
    uncompiled(torch.optim.SGD, weights, 0.1, 0.9, weight_decay=0.1, foreach=True),
):
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        sum(weight.square().sum() for weight in weights).backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
assert not any(weight.isnan().any() or weight.equal(torch.arange(4.0)) for weight in weights)
print("torch._dynamo" in sys.modules)
"""


def test_no_optimizer_of_ours_loads_the_compiler():
    done = subprocess.run([sys.executable, "-c", STEPS_ALONE], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.AdamW, {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "fused": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "foreach": True}),
    ],
)
def test_an_uncompiled_optimizer_takes_torch_s_steps(kind, settings):
    ours, torch_s = ([torch.nn.Parameter(torch.linspace(-1, 2, 7))] for _ in range(2))
    optimizers = uncompiled(kind, ours, **settings), kind(torch_s, **settings)
    for step in range(4):
        for weights, optimizer in zip((ours, torch_s), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            (weights[0].sin() * (step + 1)).sum().backward()
            optimizer.step()
            if step == 1:
                optimizer.load_state_dict(optimizer.state_dict())
    assert torch.equal(ours[0], torch_s[0])
