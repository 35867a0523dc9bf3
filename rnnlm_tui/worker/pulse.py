"""The worker's pulse: a thread that writes the heartbeat and a hardware reading every second."""

from __future__ import annotations

import sys
import threading
import time
from typing import Protocol

from rnnlm_tui.contract.metrics import HardwareRow
from rnnlm_tui.contract.status import HEARTBEAT_SECONDS


class PulseSink(Protocol):
    """The part of the run's database that the pulse writes to; safe to call from a second thread."""

    def heartbeat(self, time: float) -> None: ...

    def add_hardware(self, row: HardwareRow) -> None: ...


class Probe(Protocol):
    def sample(self) -> HardwareRow: ...


class Pulse:
    """Beats until `stop`: at a pause and through a long evaluation as well, for it tells that the process lives, not that it learns.

    A beat that can't be written (a full disk), or a reading that fails, is left out with a line in the log; the next one is tried again.
    """

    def __init__(self, sink: PulseSink, probe: Probe, *, seconds: float = HEARTBEAT_SECONDS) -> None:
        self._sink = sink
        self._probe = probe
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def start(self) -> None:
        """Write the first heartbeat and go on from a thread."""
        self._sink.heartbeat(time.time())
        self._thread.start()

    def stop(self) -> None:
        """End the thread; nothing is written afterwards."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._sink.heartbeat(time.time())
                self._sink.add_hardware(self._probe.sample())
            except Exception as error:  # whatever it is: without a pulse the run would look stalled, and rows that wait for space would wait for ever
                print(f"no heartbeat written: {error}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the run's log
