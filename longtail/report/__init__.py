"""From reports/ and data/published to text, tables and pages. Computes nothing from images or networks."""
