"""What the benchmarks share: options, a home of their own, and lines of figures."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def options(doc: str | None, **defaults: Any) -> argparse.Namespace:
    """The command line's `--name` for each default, whose type it has: a list takes several values,
    False is switched on."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(flag, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(flag, nargs="+", type=type(default[0]), default=default)
        else:
            parser.add_argument(flag, type=type(default), default=default)
    return parser.parse_args()


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Runs and caches in a temporary folder, which may hold other files as well."""
    with tempfile.TemporaryDirectory(prefix="rnnlm-benchmark-") as folder:
        os.environ.update(RNNLM_TUI_HOME=f"{folder}/home", XDG_CACHE_HOME=f"{folder}/cache")
        yield Path(folder)


def say(text: str) -> None:
    """Print and flush."""
    print(text, flush=True)  # noqa: T201
