"""Losses and the targets of a step: pure functions, tensors in, tensors out. Knows no network and no data."""
