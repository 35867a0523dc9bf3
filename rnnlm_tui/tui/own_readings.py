"""The app's own readings of the machine while nothing trains.

It reads only while the user is present: a machine is never quite idle, and an idle app must send nothing.
"""

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
"""Seconds between two readings."""
FIRST_READING_SECONDS = 0.5
"""A load is measured over at least this long."""
PRESENT_SECONDS = 30.0
"""The user counts as present for this long after a key."""
KEPT = 30


class IdleMachinePoller:
    """Reads the machine when it is time to.

    Every method but `key_pressed` belongs to the watcher's thread.

    Args:
        wanted: whether something shows the machine and no run's worker reads it.
        show: takes the readings, oldest first, and whether more follow.
    """

    def __init__(self, services: Services, wanted: Callable[[], bool], show: Callable[[tuple[HardwareRow, ...], bool], object]) -> None:
        self._services = services
        self._wanted = wanted
        self._show = show
        self._last_key: float | None = None
        self._reader: MachineReader | None = None
        self._next = 0.0
        self._rows: deque[HardwareRow] = deque(maxlen=KEPT)

    def key_pressed(self) -> None:
        """Note that a key was pressed."""
        self._last_key = monotonic()

    def poll(self) -> None:
        """Read and show if it is time to, or stop reading.

        Raises:
            StorageError: the disk can't be read.
        """
        now = monotonic()
        if self._last_key is None or now - self._last_key > PRESENT_SECONDS or not self._wanted():
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
        """Stop reading; the last readings stay, with their time."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            if self._rows:
                self._show(tuple(self._rows), False)
