"""From images on disk to one dataset file, and the doctor. No network, no augmentation, no torch."""
