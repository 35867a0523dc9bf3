"""Configs by name: a preset's, a file's or a run's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from rnnlm_tui.errors import InputError, UnknownRunError, did_you_mean
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.schema.precedence import resolve_config
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.toml import read_toml
from rnnlm_tui.store.runs import find_run, list_runs

ENDING = ".toml"
Kind = Literal["preset", "file", "run"]


@dataclass(frozen=True, slots=True)
class NamedConfig:
    """A preset's, a file's or a run's config."""

    kind: Kind
    name: str
    config: RunConfig

    def __str__(self) -> str:
        return self.name if self.kind == "file" else f"{self.kind} {self.name}"


def named_config(name: str) -> NamedConfig:
    """Find a config by a preset's name, a path or a run's name.

    `preset:NAME`, `file:PATH` and `run:NAME` choose between equal names.

    Raises:
        InputError: nothing has this name, or a preset and a run have it.
        ConfigError: the file has problems.
        StorageError: the run's config can't be read.
    """
    kind, colon, rest = name.partition(":")
    if colon and kind in ("preset", "file", "run"):
        return _of_kind(cast(Kind, kind), rest)
    if "/" in name or name.endswith(ENDING):
        return _of_kind("file", name)
    runs = [run.name for run in list_runs()]
    if name in PRESETS and name in runs:
        raise InputError(f'"{name}" is a preset and a run', hint=f"use preset:{name} or run:{name}")
    if name in PRESETS:
        return _of_kind("preset", name)
    try:
        return _of_kind("run", name)
    except UnknownRunError as error:
        if user_path(name).is_file():
            return _of_kind("file", name)
        near = did_you_mean(name, [*PRESETS, *runs])
        raise InputError(
            f'no preset, run or file named "{name}"',
            hint=near or error.hint or f"presets: {', '.join(PRESETS)}; a path ends in {ENDING}",
        ) from None


def _of_kind(kind: Kind, name: str) -> NamedConfig:
    if kind == "file":
        path = user_path(name)
        return NamedConfig(kind, str(path), resolve_config(file=read_toml(path)).config)
    if kind == "preset":
        return NamedConfig(kind, name, resolve_config(preset=name).config)
    run = find_run(name)
    return NamedConfig(kind, run.name, run.read_config())
