"""The versions that attempts and checkpoints record, read without importing the packages."""

from __future__ import annotations

import platform
from importlib.metadata import version

from rnnlm_tui import __version__

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers")


def versions() -> dict[str, str]:
    """Versions of Python, this program and its numeric packages, by name."""
    return {"python": platform.python_version(), "rnnlm_tui": __version__, **{name: version(name) for name in PACKAGES}}
