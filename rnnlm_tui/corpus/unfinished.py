"""The state of an unfinished preparation, stored in its folder: for resuming it after a stop, and as progress for processes that wait for it."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rnnlm_tui.contract.corpora import SPLITS, UNFINISHED_NAME, Split
from rnnlm_tui.contract.metrics import Progress
from rnnlm_tui.corpus.building import write_text_atomically
from rnnlm_tui.corpus.encoding import EncodedSoFar
from rnnlm_tui.corpus.meter import ProgressCallback
from rnnlm_tui.corpus.staging import PoolFacts, pool_path

SHARED_SECONDS = 0.5
"""How often the progress for waiting processes is written."""

_PROGRESS_NAME = "progress.json"
_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


class PreparationState(BaseModel):
    """The finished steps of a preparation, whose files are on disk."""

    model_config = ConfigDict(frozen=True)

    source: str = ""
    """`corpus.source`, shown in the list of corpora."""
    pools: dict[Split, PoolFacts] | None = None
    """The plain files; None until the source is read completely."""
    notes: tuple[str, ...] = ()
    """Notes from reading the source."""
    tokenizer: bool = False
    """Whether the tokenizer is built."""
    encoded: dict[Split, EncodedSoFar] = {}


def read_state(folder: Path) -> PreparationState:
    """The state of an earlier preparation in this folder; empty if there is none, or if its plain files have other sizes."""
    try:
        state = PreparationState.model_validate_json((folder / UNFINISHED_NAME).read_bytes())
        if state.pools is not None and any(pool_path(folder, split).stat().st_size != pool.bytes for split, pool in state.pools.items()):
            return PreparationState()
    except (OSError, ValidationError):
        return PreparationState()
    return state


def write_state(folder: Path, state: PreparationState) -> None:
    """Store the state atomically. The encoded splits that it lists must be synced to disk before."""
    write_text_atomically(folder / UNFINISHED_NAME, state.model_dump_json())


def remove_state(folder: Path) -> None:
    """Remove the files that only the preparation needs."""
    for path in (folder / UNFINISHED_NAME, folder / _PROGRESS_NAME, *(pool_path(folder, split) for split in SPLITS)):
        path.unlink(missing_ok=True)


def publish_progress(folder: Path, progress: ProgressCallback) -> ProgressCallback:
    """A callback that calls `progress` and also writes a file for waiting processes, at most every SHARED_SECONDS and at each new phase."""
    next_time, phase = 0.0, ""

    def report(now: Progress) -> None:
        nonlocal next_time, phase
        if now.phase != phase or time.monotonic() >= next_time:
            next_time, phase = time.monotonic() + SHARED_SECONDS, now.phase
            temporary = folder / f"{_PROGRESS_NAME}.new"
            temporary.write_bytes(_PROGRESS.dump_json(now))
            temporary.replace(folder / _PROGRESS_NAME)
        progress(now)

    return report


def read_progress(folder: Path) -> Progress:
    """The progress of the preparation in this folder."""
    try:
        return _PROGRESS.validate_json((folder / _PROGRESS_NAME).read_bytes())
    except (OSError, ValidationError):
        return Progress("reading")
