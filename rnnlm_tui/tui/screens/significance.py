"""SignificanceScreen: whether the marked runs differ on the same test text, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui import client
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.formatting import NOTHING, figure
from rnnlm_tui.schema.significance import Difference, SignificanceDone, decimals, signed
from rnnlm_tui.tui.messages import words_of
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, GOOD, TEXT, WARN
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.text import safe_content, sentence
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.widgets.panel import ScrolledPanel
from rnnlm_tui.tui.widgets.samples import hanging
from rnnlm_tui.tui.widgets.table import fitted

if TYPE_CHECKING:
    from rnnlm_tui.schema.protocol import TaskProgress
    from rnnlm_tui.tui.views.compare import Marks

KEYS = (("↑ ↓", "scroll"), ("pgup pgdn", "pages"), ("home end", "ends"), ("esc", "close"))
UPDATE_SECONDS = 0.25
"""Seconds between two looks at the progress."""
MOST_NAME, MOST_BAR = 24, 61
NUMBER = 10
"""Cells of a column of numbers."""
ALL = 1_000_000
"""More rows than there are."""


class _Closed(Exception):  # noqa: N818
    """The screen was closed: the child process ends."""


def forest(found: Difference, most: float, width: int) -> str:
    """Draw an interval around zero: `├──●──┤  │`; zero is in the middle, `most` at the ends."""
    middle = width // 2

    def column(value: float) -> int:
        return middle + round(value / most * middle) if most else middle

    low, value, high = map(column, (found.low, found.value, found.high))
    cells = [" "] * (2 * middle + 1)
    cells[low : high + 1] = "─" * (high - low + 1)
    cells[middle] = "┼" if low <= middle <= high else "│"
    cells[low], cells[high] = "├", "┤"
    cells[value] = "●"
    return "".join(cells)


class SignificancePanel(ScrolledPanel, can_focus=True):
    """The outcome of a test, scrolled by keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("up,k", "scroll(-1)"), ("down,j", "scroll(1)"), ("pageup", "scroll(-15)"),
        ("pagedown,space", "scroll(15)"), ("home", f"scroll(-{ALL})"), ("end", f"scroll({ALL})"),
    ]  # fmt: skip

    def __init__(self, colours: Mapping[str, str]) -> None:
        super().__init__(title="Is the difference real?")
        self._colours = colours
        self.done: SignificanceDone | None = None
        self.words: Sequence[tuple[str, str]] = ()
        """What is shown while there is no outcome: texts and their colours."""

    def action_scroll(self, by: int) -> None:
        self.scroll_lines(by)

    def prepare(self, width: int, height: int) -> None:
        """Lay out all rows, and show those in view."""
        rows = [row for words, style in self.words for row in sentence(words, width, style=style)]
        if self.done is not None:
            rows = [*self._intervals(self.done, width), *self._verdicts(self.done, width)]
            rows += [*self._kinds(self.done, width), *self._sentences(self.done, width)]
        self.row_count = len(rows)
        self.top = max(0, min(self.top, len(rows) - height))
        self.hidden = self.top, len(rows) - self.top - height
        self.lines = rows[self.top :]
        self.bottom = key_line(KEYS, width, self.app)

    def _letter(self, letter: str) -> Content:
        return Content.styled(letter, f"bold {self._colours.get(letter, TEXT)}")

    def _intervals(self, done: SignificanceDone, width: int) -> list[Content]:
        """Return a line for each run: its loss, the difference, and the interval as a bar."""
        first = done.models[0]
        by_letter = {one.letter: one for one in done.differences}
        most = max(max(abs(one.low), abs(one.high)) for one in done.differences)
        name = min(MOST_NAME, max(len(one.address) for one in done.models), width // 3)
        used = 2 + name + len(done.unit) + 2 + NUMBER + 2
        room = max(11, min(MOST_BAR, width - used)) // 2 * 2 + 1 - 2
        head = f"{done.unit:>{len(done.unit) + 2}}{f'− {first.letter}':>{NUMBER}}  "
        scale = f"{'better ':>{room // 2}}0{' worse'}"
        rows = [Content.styled(" " * (2 + name) + head + scale, DIM)]
        for one in done.models:
            found = by_letter.get(one.letter)
            loss = figure(one.loss, 3).rjust(len(done.unit) + 2)
            row = [
                self._letter(one.letter),
                Content(" "),
                fitted(safe_content(one.address).stylize(BRIGHT), name + 1, left=True),
                Content.styled(loss, TEXT),
            ]
            if found is None:
                bar, style, value = " " * (room // 2) + "│", DIM, ""
            else:
                bar, style = forest(found, most, room), self._colours.get(one.letter, TEXT)
                value = signed(found.value, decimals(found))
            row += [Content.styled(value.rjust(NUMBER) + "  ", TEXT), Content.styled(bar, style)]
            rows.append(Content.assemble(*row))
        return rows

    def _verdicts(self, done: SignificanceDone, width: int) -> list[Content]:
        rows = [Content("")]
        for one in done.differences:
            style = BRIGHT if one.is_real else TEXT
            rows += sentence(done.verdict(one), width, style=style)
        for words in done.left_out:
            rows += sentence(words, width, style=WARN)
        return [*rows, *sentence(done.about, width, style=DIM)]

    def _kinds(self, done: SignificanceDone, width: int) -> list[Content]:
        """Return the losses by kind of token, as far as there is room for columns."""
        shown = done.models[: max(2, (width - 26) // NUMBER)]
        rows, family, first = [], "", shown[0].letter
        for one in done.kinds:
            if one.family != family:
                family = one.family
                head = Content.styled(f"{family:<24}{'tokens':>{NUMBER}}{first:>{NUMBER}}", DIM)
                for model in shown[1:]:
                    end = Content.assemble(self._letter(model.letter), (f" − {first}", DIM))
                    head += end.pad_left(NUMBER - end.cell_length)
                rows += [Content(""), head]
            row = f"  {one.kind:<22}{one.tokens:>{NUMBER},}{figure(one.loss, 3):>{NUMBER}}"
            cells = [_signed(by, 3, NUMBER) for by in one.differences[: len(shown) - 1]]
            rows.append(Content.assemble((row, TEXT), *cells))
        return rows

    def _sentences(self, done: SignificanceDone, width: int) -> list[Content]:
        """Return the sentences that differ most, each way."""
        rows, measure = [], done.unit.split()[0]
        first = done.models[0].letter
        for found in done.differences:
            for words, sentences in (("better", found.better), ("worse", found.worse)):
                if not sentences:
                    continue
                head = Content.assemble(
                    (f"{measure:>8}  sentences where ", DIM),
                    self._letter(found.letter),
                    (f" is {words} than ", DIM),
                    self._letter(first),
                )
                rows += [Content(""), head]
                for one in sentences:
                    lead = _signed(one.difference, 1, 8) + Content("  ")
                    text = Content.assemble(
                        (f"{one.number:,}: ", DIM), safe_content(one.text, newlines="show")
                    )
                    rows += hanging(lead, text, width, 2)
        return rows


def _signed(value: float | None, digits: int, width: int) -> Content:
    """Return a difference, green if it is better."""
    if value is None:
        return Content.styled(NOTHING.rjust(width), DIM)
    return Content.styled(signed(value, digits).rjust(width), GOOD if value < 0 else WARN)


class SignificanceScreen(Overlay[SignificanceDone]):
    """Tests the differences of the marked runs, and returns the outcome; closing it ends the test.

    Args:
        done: the outcome, if it is known.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "leave"), Binding("t", "leave", id="test_runs"),
    ]  # fmt: skip
    panel = getters.query_one(SignificancePanel)

    def __init__(self, marks: Marks, done: SignificanceDone | None = None) -> None:
        super().__init__()
        self._marks, self._done = marks, done
        self._phase = "starting"
        """What the test does; set by its thread. Empty: it has ended."""

    def compose(self) -> ComposeResult:
        marks = self._marks
        yield SignificancePanel({marks.letter(run): marks.colour(run) for run in marks.names})

    def on_mount(self) -> None:
        self.set_interval(UPDATE_SECONDS, self._show_progress)
        self.call_next(self._test)

    def action_leave(self) -> None:
        """Close; a test that runs ends."""
        self.dismiss(self._done)

    def _show_progress(self) -> None:
        if self._phase:
            self.panel.words = [(f"{self._phase} …", TEXT)]
            self.panel.redraw()

    @act
    async def _test(self) -> None:
        """Test in a child process, which ends when the screen is closed, and show the outcome."""
        marks = self._marks

        def check() -> None:
            if not self.is_open:
                raise _Closed

        def report(at: TaskProgress) -> None:
            check()
            part = f" {at.done / at.total:.0%}" if at.total > 1 else ""
            self._phase = at.phase + part

        try:
            self._done = self._done or await self.context.wait_for(
                lambda: client.significance.find_differences(
                    {marks.letter(run): run for run in marks.names}, report, check=check
                )
            )
            self.panel.done = self._done
        except _Closed:
            return
        except (RnnlmError, OSError) as error:
            words, hint = words_of(error)
            self.panel.words = [(f"✗ {words}", BAD), (hint, DIM)]
        self._phase = ""
        self.panel.redraw()
