"""The config that a `bench` measures: a preset on a device, with changes where someone wants them."""

from __future__ import annotations

from collections.abc import Sequence

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.presets import preset as find_preset
from rnnlm_tui.contract.validation import merge, parse_assignments, parse_config


def bench_config(preset: str, device: str, assignments: Sequence[str] = ()) -> RunConfig:
    """The preset with these changes, on this device, always in fast mode.

    Raises:
        InputError: no such preset, with the near ones.
        ConfigError: every problem of the device's name and the changes.
    """
    changes = {**parse_assignments(list(assignments)), "training.device": device, "training.deterministic": False}
    return parse_config(merge(find_preset(preset), changes))
