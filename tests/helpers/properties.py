"""How property-based tests run here: the same examples every time, few, and nothing kept between runs."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
LETTERS = "aZ09 _-.,;:!?\"'`\\/$%&<>#{}[]()~^|*+=@"
LETTERS += "\u00e4\u00df\u00e9e\u0308\u0301\u00a0\u3000\u200b\u732b\u05d0\uff11\U0001f600"
LINE = st.text(st.sampled_from(LETTERS), max_size=12)  # what fits on one line, of several scripts and forms
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
