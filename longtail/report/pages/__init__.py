"""HTML pages that open from disk. Numbers come ready-made."""
