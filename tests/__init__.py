"""Folders mirror longtail/; beside them stages/, pipeline/, repository/ and helpers/."""
