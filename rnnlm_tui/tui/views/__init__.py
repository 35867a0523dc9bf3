"""Data for the widgets, as lines and rows; no widget."""
