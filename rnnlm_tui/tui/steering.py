"""SteersRuns: the actions of panes that change a live run and undo its last change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.threads import act

if TYPE_CHECKING:
    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.protocol import CommandResult
    from rnnlm_tui.store.paths import RunDirectory


class SteersRuns(PaneScreen):
    """A pane that shows a live run."""

    def steered_run(self) -> str | None:
        """Return the run that a change is for; None: none is open or selected."""
        run = self.context.run_directory
        return None if run is None else run.name

    @act
    async def action_steer(self) -> None:
        """Open the form that changes the run while it trains."""
        name = self.steered_run()
        if name is None:
            self.context.report("no run open")
            return

        def read() -> tuple[RunDirectory, SteeringState]:
            run = store.runs.find_run(name)
            state = client.steering.read_steering(run)
            client.control.check_live(state.summary)
            return run, state

        found = await self.context.wait_for(read)
        if self.app.screen is self:
            from rnnlm_tui.tui.screens.steer import SteerScreen

            self.app.push_screen(SteerScreen(*found))

    @act
    async def action_undo_setting(self) -> None:
        """Undo the run's newest change of settings."""
        name = self.steered_run()
        if name is None:
            self.context.report("no run open")
            return
        self.context.report("requested: undo the last change …")

        def undo() -> tuple[CommandResult, RunConfig]:
            run = store.runs.find_run(name)
            return client.control.send(run, "undo"), client.steering.read_steering(run).config

        from rnnlm_tui.tui.views.steer import confirmed_text

        result, config = await self.context.wait_for(undo)
        self.context.watcher.poll_now()
        self.context.report(confirmed_text(result, config.checkpoint))
