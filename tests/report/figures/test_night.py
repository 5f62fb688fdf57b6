"""Drawings for a dark ground: greys change places, colours stay, in a file of its own and in one for both grounds."""

from __future__ import annotations

import numpy as np

from longtail.report.figures.night import CHALK, NIGHT, dark, for_both

TEXT, GROUND = (np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in (CHALK, NIGHT))
GREY = "#" + "".join(f"{round(v):02x}" for v in TEXT + (GROUND - TEXT) * 136 / 255)  # of #888888: 0x88 is 136
LIGHT = '<rect fill="#ffffff"/><path stroke="#000000" fill="#0072b2"/><g fill="#888888" title="#000000 is black"/>'


def test_for_a_dark_ground_greys_change_places_and_colours_stay():
    """White is the dark ground, black its text, a grey as far between them: 0x88 = 136 of 255 from the text."""
    wanted = f'<rect fill="{NIGHT}"/><path stroke="{CHALK}" fill="#0072b2"/><g fill="{GREY}" title="#000000 is black"/>'
    assert dark(LIGHT) == wanted


def test_one_file_for_both_grounds_has_a_rule_for_each_grey_and_is_else_the_light_one():
    rules = f'[fill="#ffffff"]{{fill:{NIGHT}}}[stroke="#000000"]{{stroke:{CHALK}}}[fill="#888888"]{{fill:{GREY}}}'
    style = f"<style>@media(prefers-color-scheme:dark){{{rules}}}</style>"
    assert for_both(f'<svg width="4">{LIGHT}</svg>') == f'<svg width="4">{style}{LIGHT}</svg>'
