"""Polls the compared runs, each with its own monitor in the watcher's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rnnlm_tui.errors import RnnlmError

if TYPE_CHECKING:
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.tui.services import Monitor, Services


class ComparedRuns:
    """Polls the followed runs.

    Every method but `follow` and `look_at` belongs to the watcher's thread.
    """

    def __init__(self, services: Services, show: Callable[[tuple[RunSnapshot, ...]], object], report: Callable[[str, RnnlmError | OSError], None]) -> None:
        self._services = services
        self._show = show
        self._report = report
        self._followed: tuple[str, ...] = ()
        self._monitors: dict[str, Monitor] = {}
        self._snapshots: dict[str, RunSnapshot] = {}
        self._shown: tuple[RunSnapshot, ...] = ()
        self._steps: Mapping[str, tuple[int, int]] = {}
        self._reported: dict[str, str] = {}

    def follow(self, names: tuple[str, ...]) -> None:
        """Poll these runs from the next turn on, and no others."""
        self._followed = names

    def look_at(self, steps: Mapping[str, tuple[int, int]]) -> bool:
        """Read these steps of each run at full resolution from the next poll on.

        Return whether that changes anything.
        """
        before, self._steps = self._steps, steps
        return before != steps

    def poll(self) -> None:
        """Show the runs if anything is new.

        At first each is shown as soon as it has been read, later all together.
        """
        followed = self._followed
        for name in set(self._monitors) - set(followed):
            self._leave(name)
        for name in followed:
            first = name not in self._snapshots
            with self._reporting_errors(name):
                if name not in self._monitors:
                    self._monitors[name] = self._services.monitor(self._services.find(name))
                self._monitors[name].look_at(self._steps.get(name))
                snapshot = self._monitors[name].poll()
                if snapshot is not None:
                    self._snapshots[name] = snapshot
            if first:
                self._publish(followed)
        self._publish(followed)

    def close(self) -> None:
        """Close all files."""
        for name in list(self._monitors):
            self._leave(name)

    def _publish(self, followed: tuple[str, ...]) -> None:
        found = tuple(self._snapshots[name] for name in followed if name in self._snapshots)
        if len(found) != len(self._shown) or any(one is not other for one, other in zip(found, self._shown, strict=True)):
            self._shown = found
            self._show(found)

    def _leave(self, name: str) -> None:
        self._monitors.pop(name).close()
        self._snapshots.pop(name, None)

    @contextmanager
    def _reporting_errors(self, name: str) -> Iterator[None]:
        """Report once that a run can't be read; the others are read all the same."""
        try:
            yield
        except (RnnlmError, OSError) as error:
            if self._reported.get(name) != str(error):
                self._reported[name] = str(error)
                self._report(name, error)
        else:
            self._reported.pop(name, None)
