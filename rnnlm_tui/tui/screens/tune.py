"""TuneScreen: a learning-rate range test of the edited config, and its suggested peak."""

from __future__ import annotations

from textual.content import Content

from rnnlm_tui import client
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import scientific
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.schema.tuning import RangeDone, range_request
from rnnlm_tui.tui.screens.overlay import Answers, Question
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.charts import range_chart
from rnnlm_tui.tui.widgets.chart import Chart

CLOSE: Answers[float | None] = [("escape,q,U", "close", None)]


class TuneScreen(Question[float | None]):
    """Returns the suggested peak if the user takes it. Closing the box ends the test."""

    DEFAULT_CSS = """
    TuneScreen Chart { width: 90; max-width: 100%; height: 1fr; max-height: 18; }
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__("Learning rate", [], CLOSE, classes="-wide")
        self._config, self._words = config, "starting the test"

    def on_mount(self) -> None:
        self.set_interval(0.25, self._show)
        self.call_next(self._test)

    @act
    async def _test(self) -> None:
        def check() -> None:
            if not self.is_open:
                raise RnnlmError("closed")

        def report(at: TaskProgress) -> None:
            self._words = f"{at.phase}: {at.done:,} of {at.total:,}" if at.total else at.phase

        asked = range_request(self._config)
        try:
            found = await self.context.wait_for(
                lambda: client.start.probe(asked, RangeDone, report, check)
            )
        except (RnnlmError, OSError) as error:
            self._words = str(error)
            return
        if not self.is_open:
            return
        self._words = found.reason
        if len(found.losses) > 1:
            await self.mount(chart := Chart(), before=0)
            chart.show(range_chart(found))
        if (peak := found.suggestion) is not None:
            self._show([("enter", f"set the peak rate to {scientific(peak)}", peak), *CLOSE])

    def _show(self, answers: Answers[float | None] | None = None) -> None:
        self.ask_again([safe_content(self._words), Content("")], answers or self._answers)
