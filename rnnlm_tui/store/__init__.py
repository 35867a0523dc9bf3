"""The run store: the only code that knows paths and file formats.

Its modules are imported when they are first used, as those of `client`.
"""

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.store import (  # isort: skip
        archive, corpora, kept_samples, labels, lineage, manifest, paths, reader, retention, runs,
        state, states, trash, verify,
    )  # fmt: skip


def __getattr__(name: str) -> object:
    if importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(name)
    return importlib.import_module(f"{__name__}.{name}")
