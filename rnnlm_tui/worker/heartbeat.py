"""Heartbeat: a thread that writes a heartbeat and a hardware reading every second."""

from __future__ import annotations

import sys
import threading
import time
from typing import Protocol

from rnnlm_tui.schema.metrics import HardwareRow
from rnnlm_tui.schema.status import HEARTBEAT_SECONDS


class HeartbeatStore(Protocol):
    """Where heartbeats are written; safe to call from a second thread."""

    def heartbeat(self, time: float) -> None: ...

    def add_hardware(self, row: HardwareRow) -> None: ...


class HardwareReader(Protocol):
    def sample(self) -> HardwareRow: ...


class Heartbeat:
    """Writes until `stop`, also while paused and during evaluations: it shows that the process is
    alive.

    A heartbeat that can't be written (a full disk) or a reading that fails is skipped with a line
    in the log.
    """

    def __init__(
        self, store: HeartbeatStore, probe: HardwareReader, *, seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        self._store = store
        self._probe = probe
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write the first heartbeat, then start the thread."""
        self._store.heartbeat(time.time())
        self._thread.start()

    def stop(self) -> None:
        """End the thread; nothing is written after this."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._store.heartbeat(time.time())
                self._store.add_hardware(self._probe.sample())
            except Exception as error:
                # Any error is only printed, to the run's log: without heartbeats the run would look
                # stalled, and rows that wait for disk space would never be stored.
                print(f"no heartbeat written: {error}", file=sys.stderr, flush=True)  # noqa: T201
