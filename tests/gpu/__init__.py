"""Proof on a GPU in one command: `python -m tests.gpu`; see `tests.gpu.__main__`."""
