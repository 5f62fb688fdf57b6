"""Augmentation as a pure function of (seed, epoch, position). Knows no network and no loss."""
