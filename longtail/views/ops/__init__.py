"""One operation in two makers, Pillow and torch, of the same bytes. Draws nothing at random."""
