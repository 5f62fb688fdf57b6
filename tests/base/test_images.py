"""Small pictures of images, as figures show them."""

from __future__ import annotations

import numpy as np

from longtail.base.images import pictures


def test_small_images_are_shown_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    places = np.array([[3, 0], [5, 3]])
    assert np.array_equal(pictures(images, places), images[places])
    assert pictures(images, np.array([], np.int64)).shape == (0, 8, 8, 3)


def test_of_an_oblong_image_the_centre_is_shown():
    """80 x 160: its shorter side becomes 64, and of the 128 the columns 32 to 95 remain, which is one colour."""
    image = np.zeros((1, 80, 160, 3), np.uint8)
    image[:, :, 35:125] = 200
    found = pictures(image, np.array([0]))
    assert found.shape == (1, 64, 64, 3) and (found == 200).all()
