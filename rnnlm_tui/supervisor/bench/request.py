"""The config of a `bench`: a preset on a device, with changes."""

from __future__ import annotations

from collections.abc import Sequence

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.presets import preset as find_preset
from rnnlm_tui.contract.validation import merge, parse_assignments, parse_config


def bench_config(preset: str, device: str, assignments: Sequence[str] = ()) -> RunConfig:
    """The preset with these changes, on this device, always in fast mode.

    Raises:
        InputError: unknown preset; suggests similar ones.
        ConfigError: lists every problem of the device name and the changes.
    """
    changes = {**parse_assignments(list(assignments)), "training.device": device, "training.deterministic": False}
    return parse_config(merge(find_preset(preset), changes))
