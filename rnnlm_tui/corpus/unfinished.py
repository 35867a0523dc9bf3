"""What a preparation keeps in its folder while it works: how far it is, for those that wait for it and for one that takes it up after a stop."""

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
"""How often those that wait are told the progress."""

_PROGRESS_NAME = "progress.json"
_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


class Done(BaseModel):
    """What of a preparation is on disk, so that it need not be done again."""

    model_config = ConfigDict(frozen=True)

    source: str = ""
    """`corpus.source`, for those who look at what lies about."""
    pools: dict[Split, PoolFacts] | None = None
    """The plain files, once the whole source was read into them."""
    notes: tuple[str, ...] = ()
    """What reading it has shown."""
    tokenizer: bool = False
    """The tokenizer is built."""
    encoded: dict[Split, EncodedSoFar] = {}


def read_done(folder: Path) -> Done:
    """What an earlier preparation in this folder has done; nothing where there is none, or where its files are not what it says."""
    try:
        done = Done.model_validate_json((folder / UNFINISHED_NAME).read_bytes())
        if done.pools is not None and any(pool_path(folder, split).stat().st_size != pool.bytes for split, pool in done.pools.items()):
            return Done()
    except (OSError, ValidationError):
        return Done()
    return done


def keep_done(folder: Path, done: Done) -> None:
    """Say what is on disk; it has to be there for good."""
    write_text_atomically(folder / UNFINISHED_NAME, done.model_dump_json())


def remove_traces(folder: Path) -> None:
    """Remove what only a preparation needs: its plain files and its notes."""
    for path in (folder / UNFINISHED_NAME, folder / _PROGRESS_NAME, *(pool_path(folder, split) for split in SPLITS)):
        path.unlink(missing_ok=True)


def sharing(folder: Path, progress: ProgressCallback) -> ProgressCallback:
    """`progress`, and what it is told now and then in a file for those that wait."""
    next_time, phase = 0.0, ""

    def tell(now: Progress) -> None:
        nonlocal next_time, phase
        if now.phase != phase or time.monotonic() >= next_time:
            next_time, phase = time.monotonic() + SHARED_SECONDS, now.phase
            temporary = folder / f"{_PROGRESS_NAME}.new"
            temporary.write_bytes(_PROGRESS.dump_json(now))
            temporary.replace(folder / _PROGRESS_NAME)
        progress(now)

    return tell


def read_progress(folder: Path) -> Progress:
    """How far the preparation in this folder is."""
    try:
        return _PROGRESS.validate_json((folder / _PROGRESS_NAME).read_bytes())
    except (OSError, ValidationError):
        return Progress("reading")
