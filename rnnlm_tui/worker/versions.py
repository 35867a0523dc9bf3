"""The versions that an attempt and a checkpoint record; nothing here imports what it names, which takes seconds."""

from __future__ import annotations

import platform
from importlib.metadata import version

from rnnlm_tui import __version__

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers")


def versions() -> dict[str, str]:
    """Of Python, of this program and of what it computes with, by name."""
    return {"python": platform.python_version(), "rnnlm_tui": __version__, **{name: version(name) for name in PACKAGES}}
