"""Attempt: what one worker process knows about the run that it trains."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rnnlm_tui import __version__
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import EventKind, EventRow, Phase, Progress
from rnnlm_tui.schema.status import ACTIVITY_KEY, Activity
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.commands import CommandHandler, Inbox
from rnnlm_tui.worker.recorder import Recorder

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One life of a worker on a run. Importing it doesn't import torch."""

    run: RunDirectory
    config: RunConfig
    recorder: Recorder
    number: int
    """Counted from 1."""
    checkpoint: Path | None
    """The newest valid checkpoint, from which the attempt resumes; None: it starts at step 0."""
    inbox: Inbox
    commands: CommandHandler

    def event(self, kind: EventKind, step: int, text: str) -> None:
        """Add an event to the run's log."""
        self.recorder.add_event(EventRow(self.number, step, kind, text, time.time()))

    def note(self, step: int, text: str) -> None:
        """Add a note to the run's log."""
        self.event("note", step, text)

    def enter(self, phase: Phase) -> None:
        """Show readers what happens before the first step; a phase may take minutes."""
        self.recorder.set_progress(Progress(phase))

    @contextmanager
    def activity(self, activity: Activity) -> Iterator[None]:
        """Show readers why no step completes for a while."""
        self.recorder.set_meta(ACTIVITY_KEY, activity)
        try:
            yield
        finally:
            self.recorder.set_meta(ACTIVITY_KEY, "")


def versions() -> dict[str, str]:
    """Versions of Python, this program and its numeric packages, by name."""
    return {
        "python": platform.python_version(),
        "rnnlm_tui": __version__,
        **{name: version(name) for name in PACKAGES},
    }
