"""Handles on the worker and the sampler for the app and the command line.

Its modules are imported when they are first used: after `from rnnlm_tui import client`, the app
calls `client.queue.move(...)` in a thread, and its first paint imports none of them.
"""

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.client import (  # isort: skip
        arrangement, average, checkpoint_detail, checkpoints, comparison, config_files, configs,
        control, corpora, estimate, export, gpus, listing, metrics_export, monitor, pretrained,
        queue, remaining, sampler, significance, slurm, start, steering, sweeps,
    )  # fmt: skip


def __getattr__(name: str) -> object:
    if importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(name)
    return importlib.import_module(f"{__name__}.{name}")
