"""SignificanceScreen: whether the marked runs differ on the same test text, and where."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from rnnlm_tui import client
from rnnlm_tui.schema.formatting import percent
from rnnlm_tui.tui.messages import words_of
from rnnlm_tui.tui.screens.log import END, LinesOverlay

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnlm_tui.errors import RnnlmError
    from rnnlm_tui.schema.protocol import TaskProgress
    from rnnlm_tui.tui.views.compare import Marks


class _Closed(Exception):  # noqa: N818
    """The screen was closed: the child process ends."""


class SignificanceScreen(LinesOverlay):
    """Tests the differences of the marked runs in a child process, which ends when it is closed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("D", "dismiss", id="test_runs")]

    def __init__(self, marks: Marks) -> None:
        super().__init__("Is the difference real?", ["starting …"])
        self._runs = {marks.letter(run): run for run in marks.names}
        for letter, run in self._runs.items():
            pattern = rf"^{letter} (.*[├│].*)?|\b{letter}(?= −)|(?<=− ){letter}\b"
            self.panel.colours[pattern] = f"bold {marks.colour(run)}"

    def fill(self) -> None:
        super().fill()
        self.context.in_thread(self._test, partial(self.call_later, self._show), self._failed)

    def _test(self) -> Iterable[str]:
        """Return the outcome, nothing if the screen was closed; called in a thread."""

        def check() -> None:
            if not self.is_open:
                raise _Closed

        def report(at: TaskProgress) -> None:
            check()
            share = f" {percent(at.done / at.total)}" if at.total > 1 else ""
            self.call_later(self._show, [f"{at.phase}{share} …"])

        with suppress(_Closed):
            return client.significance.find_differences(self._runs, report, check=check).lines()
        return ()

    def _failed(self, error: RnnlmError | OSError) -> None:
        message, hint = words_of(error)
        self.call_later(self._show, [f"✗ {message}", hint])

    def _show(self, lines: Iterable[str]) -> None:
        self.panel.show([*lines])
        self.panel.action_scroll(-END)
