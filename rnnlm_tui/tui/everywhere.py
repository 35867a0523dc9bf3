"""The actions that work on every screen, by the names of the action table, and the way out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.tui import steering
from rnnlm_tui.tui.appearance import Appearance, repaint
from rnnlm_tui.tui.colours import COLOUR_WORDS
from rnnlm_tui.tui.laboratory import LaboratoryApp
from rnnlm_tui.tui.narrow_updates import NarrowScreen
from rnnlm_tui.tui.terminal_kind import ColourName
from rnnlm_tui.tui.widgets.content import safe_text

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import Verb
    from rnnlm_tui.contract.summary import RunSummary


class EverywhereActions(LaboratoryApp):
    """What the app does by key or palette, whatever shows."""

    appearance: Appearance
    """The colours and signs that everything is drawn in."""

    def action_show_runs(self) -> None:
        self.open_pane("runs")

    def action_show_config(self) -> None:
        self.open_pane("config")

    def action_show_train(self) -> None:
        self.open_pane("train")

    def action_show_checkpoints(self) -> None:
        self.open_pane("checkpoints")

    def action_show_prompt(self) -> None:
        self.open_pane("prompt")

    def action_command_palette(self) -> None:
        from rnnlm_tui.tui.screens.palette import PaletteScreen

        if not isinstance(self.screen, PaletteScreen):
            self.push_screen(PaletteScreen(id="--command-palette", placeholder="type to search every command"))

    def action_keys(self) -> None:
        from rnnlm_tui.tui.screens.help import HelpScreen

        if self.pane_screen is not None:
            focused = self.pane_screen.focused
            own = [binding.id for bindings in focused._bindings.key_to_bindings.values() for binding in bindings if binding.id] if focused is not None else []
            first = self.pane_screen.help_group()
            self.push_screen(HelpScreen(self.pane_screen.PANE, actions=self.actions, focused=own, first=first, ascii_only=self.ascii_only))

    def action_next_theme(self) -> None:
        self.use_colours(self.appearance.next())
        if self.pane_screen is not None:
            self.pane_screen.refresh_all()  # without colour, curves have letters
        self.remember()
        self.say(f"colours: {COLOUR_WORDS[self.appearance.colours]}")

    def action_next_marks(self) -> None:
        from rnnlm_tui.tui.widgets.chart import Chart

        self.settings["dots"] = "braille" if self.marks_style == "block" else "block"
        for stack in self._screen_stacks.values():
            for screen in stack:
                for chart in screen.query(Chart):
                    chart.marks_style = self.marks_style
        self.remember()
        self.say("charts are drawn in ASCII" if self.ascii_only else f"dots: {'blocks' if self.marks_style == 'block' else 'braille'}")

    def action_pause(self) -> None:
        status = self.snapshot.summary.status if self.snapshot else None
        if status in ("running", "stalled", "degraded"):
            self.send("pause")
        elif self.snapshot is not None and self.snapshot.summary.diverged:
            self.say(steering.NOT_AGAIN)
        elif status in steering.GOING_ON or (status is None and self.run_directory is not None):  # one that can't be read is rebuilt, or says why not
            self.resume()
        elif self.snapshot is not None and status == "finished" and self.snapshot.summary.hint:  # it ended early: there is a way on
            self.notify(safe_text(f"{self.snapshot.summary.message or ''}\n{self.snapshot.summary.hint}".strip(), limit=600), timeout=12, markup=False)
        elif status is not None:
            self.say(steering.WHY_NOT.get(status, f"the run is {status}"))

    def action_show_log(self) -> None:
        from rnnlm_tui.tui.screens.worker_log import WorkerLogScreen
        from rnnlm_tui.tui.widgets.run_lists import event_lines

        if self.run_directory is None:
            self.say("no run is open")
        else:
            self.push_screen(WorkerLogScreen(self.run_directory, [] if self.snapshot is None else event_lines(self.snapshot)))

    def action_sample(self) -> None:
        self._ask_worker("sample")

    def action_checkpoint(self) -> None:
        self._ask_worker("checkpoint")

    def action_evaluate(self) -> None:
        self._ask_worker("evaluate")

    def action_stop(self) -> None:
        self._ask_worker("stop")

    def _ask_worker(self, verb: Verb) -> None:
        """Send it, or say at once why nobody would hear it."""
        summary = self.snapshot.summary if self.snapshot is not None else None
        if summary is None or summary.status in LIVING:
            self.send(verb)
        else:
            self.say(steering.NOT_AGAIN if summary.diverged else steering.NOT_NOW.get(summary.status, f"the run is {summary.status}"))

    def action_leave(self) -> None:
        from rnnlm_tui.tui.screens.quit import QuitScreen

        living = [summary for summary in self.known_summaries() if summary.status in LIVING]
        if living:
            self.push_screen(QuitScreen(living, self.run_directory.name if self.run_directory else None, self.known_summaries), self._left)
        else:
            self.leave_at_once()

    def known_summaries(self) -> tuple[RunSummary, ...]:
        """All runs, the open one at its newest."""
        others = tuple(summary for summary in self.summaries or () if self.snapshot is None or summary.run != self.snapshot.summary.run)
        return others if self.snapshot is None else (self.snapshot.summary, *others)

    def _left(self, choice: str | None) -> None:
        if choice == "leave":
            self.leave_at_once()
        elif choice == "stop" and self.run_directory is not None:
            self.say(steering.BEGINNINGS["stop"])
            self.in_thread(partial(self.services.send, self.run_directory, "stop"), lambda _result: self.leave_at_once())

    def leave_at_once(self) -> None:
        """Out, now; what is remembered is on disk already."""
        self.watcher.close()
        self.exit(0)

    def use_colours(self, colours: ColourName) -> None:
        """Draw in these from now on."""
        self.appearance.use(colours)
        self.no_color = colours == "none"
        repaint(self)
        self._paint_anew()

    def _paint_anew(self) -> None:
        """Everything that shows. Textual does so for another size alone: a window that was made smaller and large again at once stays half empty."""
        for screen in self.screen_stack:
            if isinstance(screen, NarrowScreen):
                screen.forget_terminal()
        self.screen.refresh()
