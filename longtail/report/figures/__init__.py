"""Figures and charts, in one style. No page around them."""
