"""Losses and what a step is trained towards: pure functions of tensors. Knows no network and no data."""
