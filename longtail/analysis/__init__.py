"""What finished networks show beyond their accuracy: attention, rank, agreement, entropy. Trains nothing."""
