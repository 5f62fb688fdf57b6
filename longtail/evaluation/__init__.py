"""Numbers from saved outputs: logits and labels in, metrics out. No network, no torch."""
