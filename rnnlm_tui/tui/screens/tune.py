"""TuneScreen: a learning-rate range test of the edited config, and its suggested peak."""

from __future__ import annotations

from threading import Event
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from rnnlm_tui import client
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import counted, percent, scientific
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.tui.messages import words_of
from rnnlm_tui.tui.palette import BAD, TEXT
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, keys_in_line
from rnnlm_tui.tui.text import sentence
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.tuning import range_chart
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.panel import TitledContainer

UPDATE_SECONDS = 0.25
"""Seconds between two looks at the progress."""


class TuneScreen(Overlay[float | None]):
    """Returns the suggested peak if the user takes it. Closing the box ends the test."""

    DEFAULT_CSS = """
    TuneScreen > Vertical { width: 100; max-width: 100%; height: 100%; max-height: 26;
        background: #121212; }
    TuneScreen TitledContainer { width: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "dismiss"),
        ("enter", "take"),
        Binding("U", "dismiss", id="find_rate"),
    ]

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._config = config
        self._closed = Event()
        self._progress = TaskProgress(phase="starting")
        """Set by the thread of the test."""
        self._peak: float | None = None

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Chart(id="tune-chart")
            with TitledContainer(title="Learning rate", classes="-highlighted"):
                yield OverlayText()

    async def on_mount(self) -> None:
        self._showing = self.set_interval(UPDATE_SECONDS, self._show_progress)
        self._show_progress()
        await self._test()

    def on_unmount(self) -> None:
        self._closed.set()

    def action_take(self) -> None:
        """Close with the suggested peak, if there is one yet."""
        if self._peak is not None:
            self.dismiss(self._peak)

    @act
    async def _test(self) -> None:
        from rnnlm_tui.schema.tuning import range_request

        def report(progress: TaskProgress) -> None:
            self._progress = progress

        try:
            found = await self.context.wait_for(
                lambda: client.start.run_range_test(
                    range_request(self._config), report, self._closed.is_set
                )
            )
        except (RnnlmError, OSError) as error:
            if self.is_open:
                self._end(" ".join(words_of(error)), BAD)
            return
        if found is None or not self.is_open:
            return
        chart, self._peak = self.query_one(Chart), found.suggestion
        chart.show(range_chart(found))
        self._end(found.reason, TEXT if found.suggestion else BAD)

    def _end(self, words: str, style: str) -> None:
        self._showing.stop()
        keys = [("esc", "close")]
        if self._peak is not None:
            keys.insert(0, ("enter", f"set the peak rate to {scientific(self._peak)}"))
        self._say(words, style, keys)

    def _show_progress(self) -> None:
        at = self._progress
        words = f"preparing the text: {at.phase}"
        if at.phase == "steps":
            words = f"training with a growing rate: {at.done} of {counted(at.total, 'step')}"
        elif at.total:
            words += f" {percent(at.done / at.total)}"
        self._say(words, TEXT, [("esc", "cancel")])

    def _say(self, words: str, style: str, keys: list[tuple[str, str]]) -> None:
        width = max(20, min(100, self.app.size.width) - 6)
        lines = sentence(words, width, style == BAD, style=style)
        self.query_one(OverlayText).update(Content("\n").join([*lines, keys_in_line(keys)]))
