"""Networks of DiVE and CBD as teachers of a cache: cosines answer rightly, pixels of another scale are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.runs.workspace import Workspace
from longtail.training.cache import build_cache
from longtail.training.labeller import check_shown, load_labeller
from longtail.training.labels import TeacherLabels
from longtail.training.teacher import build_model, save_weights
from longtail.training.teacher_config import NONE, TeacherConfig
from longtail.views.student_views import Views
from tests.helpers.root import params_table
from tests.helpers.small import digits, recipe

TABLE = params_table()
OWN = replace(recipe(), teacher_normalization="none", teacher_renormalize=True)


@pytest.mark.parametrize(
    ("trained", "shown"),
    [
        ("cifar", recipe()),  # published: the student's, whatever the teacher was trained with
        ("none", OWN),
        ("none", replace(recipe(), normalization="none")),
    ],
)
def test_what_a_teacher_can_bear(trained, shown):
    check_shown(Path("t"), trained, shown)


@pytest.mark.parametrize(
    ("trained", "shown", "sees"),
    [
        ("none", recipe(), "digits"),
        ("digits", replace(recipe(), normalization="none"), "none"),
        ("cifar", OWN, "none"),
        ("imagenet", replace(OWN, teacher_normalization="cifar"), "cifar"),
        ("none", replace(recipe(), teacher_view="weak", mix_prob=0.0, teacher_normalization="cifar"), "cifar"),
    ],
)
def test_pixels_of_another_scale_are_refused(trained, shown, sees):
    with pytest.raises(UserError) as error:
        check_shown(Path("data/teachers/t/seed0"), trained, shown)
    assert str(error.value) == (
        f"data/teachers/t/seed0: was trained with normalization {trained}, would be shown {sees}; in the cache's views "
        f"write teacher_renormalize: true and teacher_normalization: {trained}"
    )


def test_a_class_balanced_student_of_an_ensemble_labels_a_cache(tmp_path):
    """Labels are the argmax of its cosines, and probabilities those of 20 times the cosines, of pixels / 255."""
    data = digits()
    config = params.build(TeacherConfig, TABLE["teachers"]["cbd_ens-digits_if20"], "teacher")
    config = replace(config, dataset=data.name, sources=NONE, distil=None)
    torch.manual_seed(3)
    model = build_model(config, data.num_classes).eval()
    folder = tmp_path / "cbd_ens/seed0"
    folder.mkdir(parents=True)
    save_weights(model.state_dict(), folder / "model.safetensors", data)
    (folder / "config.yaml").write_text(yaml_file.dump(params.plain(config)))

    with pytest.raises(UserError, match="was trained with normalization none, would be shown digits"):
        load_labeller("teachers", folder, data, recipe())
    found = load_labeller("teachers", folder, data, OWN)
    assert (found.logit_scale, found.select) == (20.0, "last")

    views = Views(OWN, data.train_images, 0)
    space = Workspace(tmp_path, "c", "f" * 64, torch.device("cpu"), quiet=True)
    names = {"num_classes": 10, "class_order": data.class_order, "class_names": list(data.class_names)}
    build_cache(found.network, views, data.train_labels, 1, {"cache": "c", **names}, space, 10, found.logit_scale)
    cache, batch = TeacherLabels.load(space.result), views.step(0, 0)
    seen = (batch.x * 0.3760 + 0.3053)[
        ..., OWN.teacher_offset :: OWN.teacher_stride, OWN.teacher_offset :: OWN.teacher_stride
    ]
    with torch.no_grad():
        features = model.features(seen).double()
    weight = model.state_dict()["fc.weight"].double()
    cosines = torch.nn.functional.normalize(features) @ torch.nn.functional.normalize(weight, dim=0)
    assert torch.equal(cache.at(0, batch.positions), cosines.argmax(1))
    assert cosines.abs().max() <= 1 and len(cosines.argmax(1).unique()) > 1
    expected = (20 * cosines).softmax(1).numpy()
    np.testing.assert_allclose(cache.probabilities(0, batch.positions), expected, atol=2e-3)
    assert np.abs(expected - cosines.softmax(1).numpy()).max() > 0.05
