"""Tools that people run: they write parts of the documentation from the code."""
