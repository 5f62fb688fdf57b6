import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from longtail.models.resnet import cifar_resnet
from longtail.training.sam import ascend, sam_step


def quadratic(n=5, seed=0):
    """f(w) = w'Aw/2 - b'w in float64, with the gradient in closed form."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, n, generator=generator, dtype=torch.float64)
    a, b = a @ a.T, torch.randn(n, generator=generator, dtype=torch.float64)
    w = torch.randn(n, generator=generator, dtype=torch.float64)
    return (lambda v: 0.5 * v @ a @ v - b @ v), (lambda v: a @ v - b), w


def closure_of(f, params):
    def closure():
        loss = f(torch.cat([p.view(-1) for p in params]))
        loss.backward()
        return loss

    return closure


def test_first_ascent_has_length_rho_over_all_parameters_together():
    f, gradient, w = quadratic()
    params = [nn.Parameter(w[:2].clone()), nn.Parameter(w[2:].clone())]
    closure_of(f, params)()
    ascend(params, 0.8)
    e = torch.cat([p.detach() for p in params]) - w
    assert e.norm().item() == pytest.approx(0.8, rel=1e-12)
    torch.testing.assert_close(e, 0.8 * gradient(w) / gradient(w).norm())


def test_two_steps_in_closed_form_with_weight_decay_at_the_restored_weights_and_momentum():
    f, gradient, w = quadratic()
    lr, decay, rho, momentum = 0.01, 0.3, 0.5, 0.9
    params = [nn.Parameter(w[:2].clone()), nn.Parameter(w[2:].clone())]
    optimizer = torch.optim.SGD(params, lr, momentum, weight_decay=decay, foreach=True)
    velocity = torch.zeros_like(w)
    for _ in range(2):
        g = gradient(w)  # the ascent direction knows no weight decay
        step = gradient(w + rho * g / g.norm()) + decay * w
        velocity = momentum * velocity + step
        expected_loss = f(w + rho * g / g.norm())
        w = w - lr * velocity
        loss = sam_step(closure_of(f, params), optimizer, params, rho)
        torch.testing.assert_close(torch.cat([p.detach() for p in params]), w, rtol=1e-11, atol=0)
        assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-11)  # of the second pass


def test_weights_are_restored_exactly():
    model = cifar_resnet(8, 4)
    params, x = list(model.parameters()), torch.randn(6, 3, 8, 8)
    before = [p.detach().clone() for p in params]

    def closure():
        loss = model(x).square().mean()
        loss.backward()
        return loss

    sam_step(closure, torch.optim.SGD(params, lr=0.0), params, 0.8)
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))


def test_batch_norm_statistics_move_twice_the_second_time_at_the_perturbed_weights():
    torch.manual_seed(0)
    model = cifar_resnet(8, 4, "normed").train()
    manual = copy.deepcopy(model)
    x, y, rho = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0, 1]), 0.8

    def closure():
        loss = F.cross_entropy(30 * model(x), y)
        loss.backward()
        return loss

    params = list(model.parameters())
    sam_step(closure, torch.optim.SGD(params, lr=0.1), params, rho)
    F.cross_entropy(30 * manual(x), y).backward()
    grads = [p.grad.clone() for p in manual.parameters()]
    length = torch.cat([g.flatten() for g in grads]).double().norm().item()  # BN and classifier included
    with torch.no_grad():
        for p, g in zip(manual.parameters(), grads, strict=True):
            p.add_(g, alpha=rho / length)
    manual(x)
    assert model.bn1.num_batches_tracked.item() == 2
    for name, value in manual.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rho", [None, 0.0])
def test_without_rho_it_is_plain_sgd_bit_for_bit(rho):
    torch.manual_seed(0)
    model = cifar_resnet(8, 4)
    plain = copy.deepcopy(model)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4}
    params = list(model.parameters())
    optimizer, reference = torch.optim.SGD(params, **settings), torch.optim.SGD(plain.parameters(), **settings)
    for step in range(3):
        x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        y = torch.arange(6) % 4

        def closure(x=x, y=y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        sam_step(closure, optimizer, params, rho)
        reference.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        reference.step()
    for (name, a), b in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_parameters_without_a_gradient_are_left_alone():
    used, unused = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))
    params = [used, unused]

    def closure():
        loss = used.square().sum()
        loss.backward()
        return loss

    sam_step(closure, torch.optim.SGD(params, lr=0.1, weight_decay=0.5), params, 0.1)
    assert unused.item() == 3.0


def test_a_zero_gradient_gives_no_nan():
    w = nn.Parameter(torch.zeros(3))

    def closure():
        loss = w.square().sum()
        loss.backward()
        return loss

    sam_step(closure, torch.optim.SGD([w], lr=0.1), [w], 0.8)
    assert torch.equal(w.detach(), torch.zeros(3))
