"""Checkpoints from and for other code. Trains nothing."""
