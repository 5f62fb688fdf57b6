"""How a run lives: identity, folders, resume, processes, execution. Knows nothing of what is trained."""
