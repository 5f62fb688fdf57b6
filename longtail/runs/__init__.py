"""How a run lives: identity, probes, folders, resume, processes, execution. Knows nothing of what is trained."""
