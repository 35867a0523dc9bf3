"""The app's own readings of the machine, where nothing trains: only while somebody is there, for a machine is never quite still and an app at rest sends nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import HardwareRow
    from rnnlm_tui.supervisor.machine_reader import MachineReader
    from rnnlm_tui.tui.services import Services

READING_SECONDS = 2.0
"""Between two readings."""
FIRST_READING_SECONDS = 0.5
"""A load is measured over so long at least."""
ATTENDED_SECONDS = 30.0
"""Somebody is there for so long after a key."""
KEPT = 30


class OwnReadings:
    """Reads when it is time to; every method but `attend` belongs to the watching thread.

    Args:
        wanted: whether something shows the machine, and no run's worker reads it.
        show: takes the readings, the oldest first, and whether more are coming.
    """

    def __init__(self, services: Services, wanted: Callable[[], bool], show: Callable[[tuple[HardwareRow, ...], bool], object]) -> None:
        self._services = services
        self._wanted = wanted
        self._show = show
        self._attended: float | None = None
        self._reader: MachineReader | None = None
        self._next = 0.0
        self._rows: deque[HardwareRow] = deque(maxlen=KEPT)

    def attend(self) -> None:
        """A key was pressed."""
        self._attended = monotonic()

    def look(self) -> None:
        """Read and show, where it is time to; or end.

        Raises:
            StorageError: the disk can't be asked.
        """
        now = monotonic()
        if self._attended is None or now - self._attended > ATTENDED_SECONDS or not self._wanted():
            self.close()
        elif self._reader is None:
            self._reader = self._services.machine_reader()
            self._next = now + FIRST_READING_SECONDS
            self._rows.clear()
        elif now >= self._next:
            self._next = now + READING_SECONDS
            self._rows.append(self._reader.sample())
            self._show(tuple(self._rows), True)

    def close(self) -> None:
        """Let go of the machine; what was read last stays, with its time."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            if self._rows:
                self._show(tuple(self._rows), False)
