"""SignificanceScreen: whether the marked runs differ on the same test text, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from rnnlm_tui import client
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.tui.messages import words_of
from rnnlm_tui.tui.screens.log import END, LinesOverlay
from rnnlm_tui.tui.threads import act

if TYPE_CHECKING:
    from rnnlm_tui.schema.protocol import TaskProgress
    from rnnlm_tui.schema.significance import SignificanceDone
    from rnnlm_tui.tui.views.compare import Marks

EDGES = 4
"""Cells that border and padding take from a line."""


class _Closed(Exception):  # noqa: N818
    """The screen was closed: the child process ends."""


class SignificanceScreen(LinesOverlay):
    """Tests the differences of the marked runs in a child process, which ends when it is closed.

    Args:
        outcomes: known ones by what was tested, to which the new one is added.
        key: what is tested.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("t", "dismiss", id="test_runs")]

    def __init__(self, marks: Marks, outcomes: dict[object, SignificanceDone], key: object) -> None:
        super().__init__("Is the difference real?")
        self._marks, self._outcomes, self._key = marks, outcomes, key
        for run in marks.names:
            letter = marks.letter(run)
            pattern = rf"^{letter} (.*[├│].*)?|\b{letter}(?= −)|(?<=− ){letter}\b"
            self.panel.colours[pattern] = f"bold {marks.colour(run)}"

    def fill(self) -> None:
        if self._key not in self._outcomes:
            self.panel.show(["starting …"])
            self.call_next(self._test)

    def _show_outcome(self) -> None:
        if done := self._outcomes.get(self._key):
            self.panel.show([*done.lines(self.app.size.width - EDGES)])
            self.panel.action_scroll(-END)

    on_resize = _show_outcome

    @act
    async def _test(self) -> None:
        def check() -> None:
            if not self.is_open:
                raise _Closed

        def report(at: TaskProgress) -> None:
            check()
            share = f" {at.done / at.total:.0%}" if at.total > 1 else ""
            self.call_later(self.panel.show, [f"{at.phase}{share} …"])

        try:
            self._outcomes[self._key] = await self.context.wait_for(
                lambda: client.significance.find_differences(
                    self._marks.names,
                    report,
                    letters="".join(map(self._marks.letter, self._marks.names)),
                    check=check,
                )
            )
            self.call_later(self._show_outcome)  # after the last progress
        except _Closed:
            pass
        except (RnnlmError, OSError) as error:
            message, hint = words_of(error)
            self.call_later(self.panel.show, [f"✗ {message}", hint])
