"""What a run is while its corpus is built: progress is stored, and commands are answered in between."""

from __future__ import annotations

import time

from rnnlm_tui.contract.metrics import Progress
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.worker.commands import Steering
from rnnlm_tui.worker.inbox import Inbox, StopRequested
from rnnlm_tui.worker.records import Records

PROGRESS_SECONDS = 0.2
"""Progress is stored this often; a new phase at once."""


class Preparing:
    """What commands meet before the first step: a stop leaves, what needs a model has to wait."""

    def __init__(self, step: int, saved: str = "") -> None:
        self.status = "preparing"
        self.step = step
        """Where the attempt will go on."""
        self.saved = saved
        """The checkpoint from which it will, relative to the run directory; empty when it begins anew."""

    def pause(self) -> None:
        """Refused."""
        self._refuse()

    def resume(self) -> None:
        """Nothing is paused, so there is nothing to do."""

    def stop(self) -> str:
        """Leave at the next report of progress; there is nothing new to save, and what was saved before is the answer."""
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
        raise RunStateError("the run is still preparing", hint="try again when it trains")


class ProgressReporter:
    """Called by the corpus as it is built: stores how far it is and carries out commands."""

    def __init__(self, records: Records, inbox: Inbox, steering: Steering) -> None:
        self._records = records
        self._inbox = inbox
        self._steering = steering
        self._phase = ""
        self._stored_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Raises StopRequested after a stop was carried out."""
        now = time.monotonic()
        if progress.phase != self._phase or now - self._stored_at >= PROGRESS_SECONDS:
            self._phase, self._stored_at = progress.phase, now
            self._records.set_progress(progress)
        self.heed()

    def heed(self) -> None:
        """Carry out what waits; raises StopRequested after a stop."""
        while (pending := self._inbox.take()) is not None:
            self._steering.carry_out(pending)
        if self._steering.steered.status == "stopping":
            raise StopRequested
