import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from longtail.base import params
from longtail.base.errors import UserError
from longtail.losses import losses
from longtail.losses.losses import log_prior, paco_loss
from longtail.models.build import ARCHITECTURES
from longtail.models.paco import PaCo, initial_queue, projection_head
from longtail.training.sam import sam_step
from longtail.training.teacher_config import PaCoConfig

VIEWS = {
    "autoaugment": "paco",
    "cutout": 2,
    "crop_scale": [0.2, 1.0],
    "crop_ratio": [0.75, 1.3333333333333333],
    "jitter": [0.4, 0.4, 0.4, 0.1],
    "jitter_prob": 0.8,
    "gray_prob": 0.2,
    "blur_prob": 0.5,
    "blur_radius": [0.1, 2.0],
}
PACO = {
    "alpha": 0.05,
    "beta": 0.7,
    "gamma": 1.3,
    "supt": 1.5,
    "temperature": 0.2,
    "queue": 12,
    "key_momentum": 0.9,
    "dim": 5,
    "views": VIEWS,
}


def config_of(**changes) -> PaCoConfig:
    return params.build(PaCoConfig, PACO | changes, "paco")


def some(n: int = 4, m: int = 9, classes: int = 3, dim: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    """Arguments of the loss in float64: unit queries and keys, a queue that is not of unit length, all labels there."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    contrast = F.normalize(normal(m, dim), dim=1)
    contrast[n:] *= 0.3
    labels = torch.arange(n) % classes
    return {
        "logits": normal(n, classes),
        "query": F.normalize(normal(n, dim), dim=1),
        "labels": labels,
        "contrast": contrast,
        "contrast_labels": torch.cat([labels, torch.randint(classes, (m - n,), generator=generator)]),
        "prior": torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()[:classes],
    }


def by_hand(of: PaCoConfig, logits, query, labels, contrast, contrast_labels, prior) -> float:
    """METHODS 2.5, one query, one class, one member of the contrast set at a time, in Python's floats."""
    logits, query, contrast, prior = (x.tolist() for x in (logits, query, contrast, prior))
    everyone = [*zip(query, labels.tolist(), strict=True), *zip(contrast, contrast_labels.tolist(), strict=True)]
    total = 0.0
    for i, (z, q, y) in enumerate(zip(logits, query, labels.tolist(), strict=True)):
        u = [(z_c + p_c) / of.supt for z_c, p_c in zip(z, prior, strict=True)]
        v = {j: sum(a * b for a, b in zip(q, f, strict=True)) / of.temperature for j, (f, _) in enumerate(everyone)}
        del v[i]  # the query itself
        log_z = math.log(sum(map(math.exp, u)) + of.gamma * sum(map(math.exp, v.values())))
        positives = [j for j in v if everyone[j][1] == y]
        gain = of.beta * (u[y] - log_z) + of.alpha * sum(v[j] - log_z for j in positives)
        total -= gain / (of.beta + of.alpha * len(positives))
    return total / len(logits)


# ---- loss


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alpha": 0.01, "beta": 1.0, "gamma": 1.0, "supt": 1.0, "temperature": 0.05},
        {"gamma": 0.0},
        {"alpha": 0.0},
    ],
)
@pytest.mark.parametrize("shape", [(4, 9, 3), (3, 3, 3), (1, 1, 2), (6, 12, 2)])
def test_the_loss_is_the_formula(changes, shape):
    n, m, classes = shape
    given, of = some(n, m, classes), config_of(**changes)
    assert paco_loss(**given, config=of).item() == pytest.approx(by_hand(of, **given), rel=1e-12)


def test_a_worked_value():
    """One query of class 0 and its key at a right angle, two classes, plain numbers: everything is e^0."""
    of = config_of(alpha=0.5, beta=1.0, gamma=2.0, supt=1.0, temperature=1.0)
    query, key = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    label = torch.tensor([0])
    got = paco_loss(torch.zeros(1, 2), query, label, key, label, torch.zeros(2), of)
    assert got.item() == pytest.approx(math.log(4.0))  # Z = 2 classes + 2 e^0; each term of the mean is -log Z


def test_its_own_key_is_a_positive_and_the_query_itself_is_not():
    """Trap 28. A query without any other of its class: pulling its key closer lowers the loss, its own length does
    not enter."""
    given, of = some(3, 3, 3), config_of(gamma=1.0, alpha=10.0)
    away = paco_loss(**given, config=of)
    near = paco_loss(**given | {"contrast": given["query"].clone()}, config=of)
    assert near < away
    same = F.one_hot(torch.arange(3), 5).double()  # queries at right angles: only a query with itself has v != 0
    twice = given | {"query": 2 * same, "contrast": torch.zeros(3, 5).double()}
    assert paco_loss(**twice, config=of).item() == pytest.approx(by_hand(of, **twice), rel=1e-12)
    once = given | {"query": same, "contrast": torch.zeros(3, 5).double()}
    assert paco_loss(**once, config=of).item() == pytest.approx(paco_loss(**twice, config=of).item(), rel=1e-12)


def test_a_class_of_one_image_has_its_key_alone():
    given, of = some(4, 4, 3), config_of(alpha=1.0, beta=1.0)
    given |= {"labels": torch.tensor([0, 0, 0, 2]), "contrast_labels": torch.tensor([0, 0, 0, 2])}
    assert paco_loss(**given, config=of).item() == pytest.approx(by_hand(of, **given), rel=1e-12)


def test_without_contrast_it_is_balanced_softmax():
    """METHODS 11: alpha = gamma = 0 leaves cross-entropy of z + log pi."""
    counts, given = torch.tensor([70, 20, 10]), some()
    of = config_of(alpha=0.0, beta=3.0, gamma=0.0, supt=1.0)
    got = paco_loss(**given | {"prior": log_prior(counts)}, config=of)
    expected = losses.balanced_softmax_loss(given["logits"], given["labels"], counts)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    # gamma = 0 and alpha > 0 is not that: the positives stay in the numerator
    assert abs(paco_loss(**given, config=config_of(gamma=0.0)).item() - expected.item()) > 1e-2


def test_supt_divides_the_prior_too():
    """Trap 27. Halving logits and prior for supt 1 is the same as supt 2."""
    given = some()
    halved = given | {"logits": given["logits"] / 2, "prior": given["prior"] / 2}
    a, b = paco_loss(**given, config=config_of(supt=2.0)), paco_loss(**halved, config=config_of(supt=1.0))
    assert a.item() == pytest.approx(b.item(), rel=1e-12)
    assert paco_loss(**given | {"logits": given["logits"] / 2}, config=config_of(supt=1.0)).item() != pytest.approx(
        a.item(), rel=1e-3
    )


def test_gradients_are_those_of_finite_differences():
    """Of logits and queries; a query is on both sides of its pairs."""
    given, of, step = some(), config_of(), 1e-6
    for name in ("logits", "query"):
        at = given[name].clone().requires_grad_()
        paco_loss(**given | {name: at}, config=of).backward()
        for i in range(at.shape[0]):
            for j in range(at.shape[1]):
                shifted = []
                for sign in (1, -1):
                    moved = given[name].clone()
                    moved[i, j] += sign * step
                    shifted.append(by_hand(of, **given | {name: moved}))
                expected = (shifted[0] - shifted[1]) / (2 * step)
                assert at.grad[i, j].item() == pytest.approx(expected, abs=1e-7), (name, i, j)


def test_float32_and_large_similarities_stay_exact():
    """At T = .05 similarities reach 20 and fall to -20; half precision is widened first."""
    given, of = some(8, 40), config_of(temperature=0.05, alpha=0.01, beta=1.0, gamma=1.0, supt=1.0)
    exact = by_hand(of, **given)
    single = {k: v.float() if v.is_floating_point() else v for k, v in given.items()}
    got = paco_loss(**single, config=of)
    assert got.dtype == torch.float32 and got.item() == pytest.approx(exact, rel=1e-5)
    huge = single | {"logits": single["logits"] * 1e4}
    assert torch.isfinite(paco_loss(**huge, config=of))
    half = single | {"logits": single["logits"].bfloat16()}
    widened = single | {"logits": half["logits"].float()}
    assert paco_loss(**half, config=of).item() == paco_loss(**widened, config=of).item()


def test_log_prior():
    np.testing.assert_allclose(log_prior([75, 25]), [math.log(0.75 + 1e-9), math.log(0.25 + 1e-9)], rtol=1e-6)
    assert log_prior([10**12, 1])[1].item() == pytest.approx(math.log(1e-12 + 1e-9), rel=1e-6)


# ---- queue


def test_the_first_queue_is_normalised_over_its_slots_and_belongs_to_the_seed():
    queue, labels = initial_queue(3, 1024, 32, 100)
    assert queue.dtype == torch.float32 and labels.dtype == torch.int64
    np.testing.assert_allclose((queue.double() ** 2).sum(0), np.ones(32), rtol=1e-5)
    lengths = queue.norm(dim=1)
    assert lengths.mean() == pytest.approx(math.sqrt(32 / 1024), rel=0.05) and lengths.max() < 0.5  # not unit keys
    scaled = queue.flatten() * math.sqrt(1024)
    assert scaled.mean().abs() < 0.02 and scaled.std() == pytest.approx(1.0, abs=0.02)
    assert (torch.bincount(labels, minlength=100) > 0).all() and labels.max() == 99
    again, other = initial_queue(3, 1024, 32, 100), initial_queue(4, 1024, 32, 100)
    assert torch.equal(again[0], queue) and not torch.equal(other[0], queue) and not torch.equal(other[1], labels)


@pytest.fixture
def paco() -> PaCo:
    torch.manual_seed(0)
    return PaCo(ARCHITECTURES["resnet8"](3, "linear"), config_of(), 0).train()


def test_a_step_uses_the_queue_as_it_was_and_replaces_the_oldest(paco):
    """Twelve slots, batches of four: after three the first queue is gone, after four the first batch."""
    slots, slot_labels = paco.queue.clone(), paco.queue_labels.clone()
    for step in range(5):
        labels = torch.tensor([step % 3] * 4)
        known, known_labels = paco.contrast(torch.randn(4, 3, 8, 8), labels)
        keys = known[:4]
        np.testing.assert_allclose(keys.norm(dim=1), np.ones(4), rtol=1e-5)
        assert torch.equal(known[4:], slots) and torch.equal(known_labels, torch.cat([labels, slot_labels]))
        slots, slot_labels = torch.cat([slots[4:], keys]), torch.cat([slot_labels[4:], labels])
        assert torch.equal(paco.queue, slots) and torch.equal(paco.queue_labels, slot_labels)
        assert not known.requires_grad


def test_the_key_network_follows_before_the_keys_are_made(paco):
    with torch.no_grad():
        for p in paco.trained():
            p.add_(1.0)
    before = [p.clone() for p in (*paco.key_encoder.parameters(), *paco.key_projection.parameters())]
    images = torch.randn(4, 3, 8, 8)
    keys = paco.contrast(images, torch.zeros(4, dtype=torch.long))[0][:4]
    after = [*paco.key_encoder.parameters(), *paco.key_projection.parameters()]
    for now, was, trained in zip(after, before, paco.trained(), strict=True):
        torch.testing.assert_close(now, 0.9 * was + 0.1 * trained)  # the classifier's copy too
        assert not now.requires_grad
    expected = F.normalize(paco.key_projection(paco.key_encoder.features(images)), dim=1)
    torch.testing.assert_close(keys, expected)  # by the weights after the update
    assert paco.key_encoder.fc.weight.shape == (3, 64)


def test_copies_start_equal_and_what_is_trained_is_encoder_classifier_and_projection(paco):
    for part, of in ((paco.encoder, paco.key_encoder), (paco.projection, paco.key_projection)):
        assert list(part.state_dict()) == list(of.state_dict())
        assert all(torch.equal(v, of.state_dict()[name]) for name, v in part.state_dict().items())
    trained = sum(p.numel() for p in paco.trained())
    assert trained == sum(p.numel() for p in paco.parameters() if p.requires_grad)
    head = projection_head(64, 32, kaiming=True)
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert sum(p.numel() for p in head.parameters()) == 64 * 64 + 64 + 128 + 64 * 32 + 32
    assert paco.encoder.fc.weight.abs().max() <= 1 / 8  # PyTorch's own initialisation of the classifier


def test_the_projection_ends_in_a_layer_that_starts_as_the_encoder_s_own_does():
    """As published, it is the encoder's `fc`: kaiming in a CIFAR ResNet, with a gain of √2 and no bound; torchvision's
    ResNet-50 leaves its own as PyTorch makes it, uniform to 1 / √2048."""
    torch.manual_seed(0)
    cifar = PaCo(ARCHITECTURES["resnet8"](3, "linear"), config_of(dim=128), 0).projection[3]
    assert cifar.weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.05)
    assert cifar.weight.abs().max() > 3 * math.sqrt(2 / 64)
    of = ARCHITECTURES["resnet8"](128, "linear").fc
    assert of.weight.std().item() == pytest.approx(cifar.weight.std().item(), rel=0.05)
    network, bound = ARCHITECTURES["resnet50"](8, "linear"), 1 / math.sqrt(2048)
    for last in (network.fc, projection_head(2048, 8, network.kaiming_fc)[3]):
        assert 0.99 * bound < last.weight.abs().max() <= bound
        assert last.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_a_query_gives_plain_logits_and_a_projection_of_unit_length(paco):
    """Inference is W·h + b: no prior, no projection, no key network (trap 27)."""
    paco.eval()
    images = torch.randn(5, 3, 8, 8)
    logits, query = paco(images)
    np.testing.assert_allclose(query.norm(dim=1).detach(), np.ones(5), rtol=1e-5)
    features = paco.encoder.features(images)
    torch.testing.assert_close(logits, features @ paco.encoder.fc.weight.T + paco.encoder.fc.bias)
    torch.testing.assert_close(paco.encoder(images), logits)


def test_the_second_pass_of_sam_leaves_queue_keys_and_key_network_alone(paco):
    """METHODS 2.6; and its radius covers encoder, projection and classifier together."""
    images, keys, labels = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    known, known_labels = paco.contrast(keys, labels)
    snapshot = known.clone()
    frozen = ("queue", "queue_labels", "key_encoder.", "key_projection.")
    before = {name: value.clone() for name, value in paco.state_dict().items() if name.startswith(frozen)}
    at: list[torch.Tensor] = []

    def closure() -> torch.Tensor:
        at.append(torch.cat([p.detach().flatten() for p in paco.trained()]))
        logits, query = paco(images)
        loss = paco_loss(logits, query, labels, known, known_labels, log_prior([5, 3, 2]), config_of())
        loss.backward()
        return loss

    sam_step(closure, torch.optim.SGD(paco.trained(), lr=0.1), paco.trained(), 0.5)
    assert len(at) == 2 and (at[1] - at[0]).norm().item() == pytest.approx(0.5, rel=1e-4)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (paco.encoder, paco.projection)]
    for part in (at[1] - at[0]).split(sizes):
        assert part.abs().max() > 0
    assert torch.equal(known, snapshot)
    for name, value in before.items():
        assert torch.equal(paco.state_dict()[name], value), name
    assert paco.encoder.bn1.num_batches_tracked == 2 and paco.key_encoder.bn1.num_batches_tracked == 1


# ---- numbers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": -0.1}, "must not be negative"),
        ({"temperature": 0.0}, "above 0"),
        ({"queue": 0}, "at least 1"),
        ({"key_momentum": 1.0}, "0.999 published"),
        ({"rho": 0.1}, "paco.rho: unknown key"),
        ({"views": VIEWS | {"cutout": 3}}, "no even side"),
        ({"views": VIEWS | {"jitter": [0.4, 0.4, 0.4, 0.6]}}, "hue at most 0.5"),
        ({"views": VIEWS | {"jitter": [0.4, 0.4, 0.4]}}, "expected 4 values"),
        ({"views": VIEWS | {"blur_prob": 2.0}}, "blur_prob is a probability"),
        ({"views": VIEWS | {"crop_scale": [0.2, 1.1]}}, "at most 1"),
        ({"views": VIEWS | {"crop_ratio": [2.0, 1.0]}}, "low <= high"),
        ({"views": VIEWS | {"autoaugment": "pako"}}, "did you mean 'paco'"),
    ],
)
def test_wrong_numbers_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        config_of(**changes)
    assert replace(config_of(), alpha=0.01).alpha == 0.01
