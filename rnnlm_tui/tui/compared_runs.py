"""The runs that lie over each other on the compare pane, each followed by a monitor of its own in the watching thread, and read again only where something is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rnnlm_tui.errors import RnnlmError

if TYPE_CHECKING:
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.tui.services import Monitor, Services


class ComparedRuns:
    """Follows the wanted runs; every method but `want` and `look_at` belongs to the watching thread."""

    def __init__(self, services: Services, show: Callable[[tuple[RunSnapshot, ...]], object], complain: Callable[[str, RnnlmError | OSError], None]) -> None:
        self._services = services
        self._show = show
        self._complain = complain
        self._wanted: tuple[str, ...] = ()
        self._monitors: dict[str, Monitor] = {}
        self._snapshots: dict[str, RunSnapshot] = {}
        self._shown: tuple[RunSnapshot, ...] = ()
        self._steps: Mapping[str, tuple[int, int]] = {}
        self._said: dict[str, str] = {}

    def want(self, names: tuple[str, ...]) -> None:
        """Follow these runs from the next look on, and no others."""
        self._wanted = names

    def look_at(self, steps: Mapping[str, tuple[int, int]]) -> bool:
        """From the next look on, read these steps of these runs, the first and the last of each, as fine as they lie; whether that is anything new."""
        before, self._steps = self._steps, steps
        return before != steps

    def look(self) -> None:
        """Show the runs where anything is new: the first time each as soon as it has been read, later all in one go."""
        wanted = self._wanted
        for name in set(self._monitors) - set(wanted):
            self._leave(name)
        for name in wanted:
            first = name not in self._snapshots
            with self._told(name):
                if name not in self._monitors:
                    self._monitors[name] = self._services.monitor(self._services.find(name))
                self._monitors[name].look_at(self._steps.get(name))
                snapshot = self._monitors[name].poll()
                if snapshot is not None:
                    self._snapshots[name] = snapshot
            if first:
                self._publish(wanted)
        self._publish(wanted)

    def close(self) -> None:
        """Let go of all files."""
        for name in list(self._monitors):
            self._leave(name)

    def _publish(self, wanted: tuple[str, ...]) -> None:
        found = tuple(self._snapshots[name] for name in wanted if name in self._snapshots)
        if len(found) != len(self._shown) or any(one is not other for one, other in zip(found, self._shown, strict=True)):
            self._shown = found
            self._show(found)

    def _leave(self, name: str) -> None:
        self._monitors.pop(name).close()
        self._snapshots.pop(name, None)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """One run that can't be read leaves the others where they are, and is said once."""
        try:
            yield
        except (RnnlmError, OSError) as error:
            if self._said.get(name) != str(error):
                self._said[name] = str(error)
                self._complain(name, error)
        else:
            self._said.pop(name, None)
