"""Long-tailed recognition with Vision Transformers: the library behind `stages/`.

Imported, never run: no module here parses a command line or knows where files lie.
"""
