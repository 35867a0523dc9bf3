"""A run before its first step: progress is stored, and commands are answered in between."""

from __future__ import annotations

import time

from rnnlm_tui.contract.metrics import Progress
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.worker.commands import CommandHandler
from rnnlm_tui.worker.inbox import Inbox, StopRequested
from rnnlm_tui.worker.records import Recorder

PROGRESS_SECONDS = 0.2
"""Progress is stored this often; a new phase at once."""


class PreparingRun:
    """The target of commands before the first step: a stop leaves, a command that needs a model is refused."""

    def __init__(self, step: int, saved: str = "") -> None:
        self.status = "preparing"
        self.step = step
        """Step from which the attempt will continue."""
        self.saved = saved
        """The checkpoint from which it will continue, relative to the run directory; empty: none."""

    def pause(self) -> None:
        """Refused."""
        self._refuse()

    def resume(self) -> None:
        """Nothing is paused, so there is nothing to do."""

    def stop(self) -> str:
        """Leave at the next report of progress; nothing new is to be saved."""
        self.status = "stopping"
        return self.saved

    def checkpoint(self) -> str:
        """Refused."""
        return self._refuse()

    def evaluate(self) -> str:
        """Refused."""
        return self._refuse()

    def sample(self, prompt: str | None) -> str:
        """Refused."""
        del prompt
        return self._refuse()

    def set(self, path: str, value: float) -> None:
        """Refused."""
        del path, value
        self._refuse()

    def snapshot(self) -> str:
        """Refused."""
        return self._refuse()

    def _refuse(self) -> str:
        raise RunStateError("the run is still preparing", hint="try again when it is training")


class ProgressReporter:
    """Called while the corpus is built: stores the progress and handles commands."""

    def __init__(self, recorder: Recorder, inbox: Inbox, commands: CommandHandler) -> None:
        self._recorder = recorder
        self._inbox = inbox
        self._commands = commands
        self._phase = ""
        self._stored_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Raises StopRequested after a stop was handled."""
        now = time.monotonic()
        if progress.phase != self._phase or now - self._stored_at >= PROGRESS_SECONDS:
            self._phase, self._stored_at = progress.phase, now
            self._recorder.set_progress(progress)
        self.handle_commands()

    def handle_commands(self) -> None:
        """Handle the commands that wait; raises StopRequested after a stop."""
        while (pending := self._inbox.take()) is not None:
            self._commands.handle(pending)
        if self._commands.target.status == "stopping":
            raise StopRequested
