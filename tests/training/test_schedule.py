import math

import pytest
import torch

from longtail.training.optimizer import cosine_lr, sam_radius, teacher_cosine_lr, teacher_lr

CIFAR = {"base": 0.1, "warmup_epochs": 5, "milestones": (160, 180), "factors": (0.01, 0.0001)}


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [(0, 0.02), (3, 0.08), (4, 0.1), (5, 0.1), (159, 0.1), (160, 1e-3), (179, 1e-3), (180, 1e-5), (199, 1e-5)],
)
def test_published_teacher_lr(epoch, lr):
    assert teacher_lr(epoch, **CIFAR) == pytest.approx(lr, rel=1e-12)


def test_warm_up_from_a_third():
    """BBN's, in base, warm-up and decay as DiVE uses it: x .01 at epoch 120 and again at 160 (METHODS 6.3)."""
    lrs = [
        teacher_lr(e, 0.1, 5, (120, 160), (0.01, 0.0001), 1 / 3) for e in (0, 1, 2, 3, 4, 5, 119, 120, 159, 160, 199)
    ]
    assert lrs == pytest.approx(
        [1 / 30, 7 / 150, 0.06, 11 / 150, 13 / 150, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5], rel=1e-12
    )


def test_teacher_lr_without_warmup_or_milestones():
    assert teacher_lr(0, 0.3, 0, (), ()) == 0.3
    assert teacher_lr(1, 0.3, 0, (1,), (0.5,)) == pytest.approx(0.15)


def test_pacos_warm_up_is_off_by_one():
    """PACO's own rule, 0-based: lr/10·(epoch + 1) up to and with epoch 10, x.1 after 320, x.01 after 360."""
    for epoch in range(400):
        if epoch <= 10:
            expected = 0.05 / 10 * (epoch + 1)
        else:
            expected = 0.05 * (0.01 if epoch > 360 else 0.1 if epoch > 320 else 1.0)
        got = teacher_lr(epoch, 0.05, 10, (10, 11, 321, 361), (1.1, 1.0, 0.1, 0.01))
        assert got == pytest.approx(expected, rel=1e-12), epoch


def test_cosine_of_the_large_teachers_without_warm_up():
    """SAD: PyTorch's scheduler, stepped after each of 90 epochs."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90, eta_min=0)
    for epoch in range(90):
        assert teacher_cosine_lr(epoch, 0.2, 90, 0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()
    assert teacher_cosine_lr(45, 0.2, 90, 0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("epoch", "lr"), [(0, 0.002), (8, 0.018), (9, 0.02), (10, 0.02 * 0.5 * (1 + math.cos(math.pi / 391)))]
)
def test_cosine_of_the_large_teachers_with_warm_up(epoch, lr):
    assert teacher_cosine_lr(epoch, 0.02, 400, 10) == pytest.approx(lr, rel=1e-12)
    rates = [teacher_cosine_lr(e, 0.02, 400, 10) for e in range(9, 400)]
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 1e-6


def test_sam_radius_by_epoch():
    """METHODS 2.4, e = epoch + 1: .05 up to 5, .1 up to 60, .5 after."""
    steps = ((5, 0.05), (60, 0.1), (None, 0.5))
    assert [sam_radius(steps, epoch) for epoch in (0, 4, 5, 59, 60, 89)] == [0.05, 0.05, 0.1, 0.1, 0.5, 0.5]
    assert sam_radius(0.8, 3) == 0.8 and sam_radius(None, 3) is None


@pytest.mark.parametrize(
    ("base", "epochs", "t", "lr"),
    [
        (2.5e-4, 1200, 600, 1.300e-4),
        (2.5e-4, 1200, 1100, 1.409e-5),
        (5e-4, 1400, 1200, 3.43e-5),
        (5e-4, 1000, 900, 2.20e-5),
    ],
)
def test_published_student_lr(base, epochs, t, lr):
    assert cosine_lr(t, base, epochs, 5, 1e-6, 1e-5) == pytest.approx(lr, rel=2e-3)


def test_cosine_at_its_turning_points():
    args = (2.5e-4, 1200, 5, 1e-6, 1e-5)
    assert cosine_lr(0, *args) == 1e-6
    assert cosine_lr(2.5, *args) == pytest.approx((1e-6 + 2.5e-4) / 2)
    assert cosine_lr(5, *args) == pytest.approx(1e-5 + 1.2e-4 * (1 + math.cos(math.pi * 5 / 1200)))  # clock not reset
    assert cosine_lr(600, *args) == pytest.approx(1.3e-4)
    assert cosine_lr(1200, *args) == cosine_lr(1300, *args) == 1e-5


def test_cosine_equals_timm_at_fractional_epochs():
    scheduler = pytest.importorskip("timm.scheduler.cosine_lr")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.5e-4)
    timm = scheduler.CosineLRScheduler(optimizer, t_initial=120, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    for t in [0, 0.25, 4.9, 5, 5.75, 60, 109 + 11 / 12, 119.99, 120, 130]:
        timm.step(t)
        assert cosine_lr(t, 2.5e-4, 120, 5, 1e-6, 1e-5) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
