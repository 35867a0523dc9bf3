"""Tells alerts: in the footer's place where the pane does not show the same, and to the terminal when it has lost the focus."""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING

from rnnlm_tui.tui.alerts import Alert, Alerts
from rnnlm_tui.tui.messages import Notice
from rnnlm_tui.tui.terminal_signals import call_for_user
from rnnlm_tui.tui.widgets.content import safe_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.tui.laboratory import LaboratoryApp

SETTING = "alerts"
"""Key of the setting: false where the terminal is not to be called."""
SHOWN_BY_THE_RUN = ("finished", "failed", "crashed", "stalled", "lost")
"""What the open run's own pane says at least as loudly."""


class Alerting:
    """Looks at what the app sees and tells what is new in it."""

    def __init__(self, app: LaboratoryApp) -> None:
        self._app = app
        self._alerts = Alerts(since=time())

    @property
    def calls_terminal(self) -> bool:
        """Whether a terminal without the focus is called."""
        return self._app.settings.get(SETTING) is not False

    def toggle(self) -> None:
        """Call the terminal from now on, or no longer."""
        self._app.settings[SETTING] = not self.calls_terminal
        self._app.keep_settings()
        self._app.say("alerts call the terminal when it has lost the focus" if self.calls_terminal else "alerts stay in the app: the terminal is not called")

    def see_snapshot(self, snapshot: RunSnapshot) -> None:
        """The open run, a few times a second."""
        now = time()
        self._tell([*self._alerts.look([snapshot.summary], now), *self._alerts.hear(snapshot.summary.run, snapshot.events, now)])

    def see_runs(self, summaries: Sequence[RunSummary]) -> None:
        """All runs, less often."""
        self._tell(self._alerts.look(summaries, time()))

    def see_machine(self, machine: MachineFacts) -> None:
        """The disk of the runs."""
        self._tell(self._alerts.look_at_disk(machine.disk_free, machine.disk_total))

    def _tell(self, alerts: Sequence[Alert]) -> None:
        app = self._app
        for alert in alerts:
            if not self._stands_there(alert):
                app.show_notice(Notice(safe_text(alert.text, newlines="space"), "trouble" if alert.trouble else "done", stays=True))
            if not app.app_focus and self.calls_terminal:
                app.write_to_terminal(call_for_user(alert.text, os.environ, ascii_only=app.ascii_only))

    def _stands_there(self, alert: Alert) -> bool:
        app = self._app
        open_run = app.run_directory.name if app.run_directory is not None else ""
        return app.current_mode == "train" and alert.run == open_run and alert.kind in SHOWN_BY_THE_RUN
