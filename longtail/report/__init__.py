"""From reports/ and data/published to text, tables and pages. Computes nothing from images or networks."""

import os

os.environ["MPLBACKEND"] = "Agg"  # figures are files; one that a notebook left would end matplotlib's import
