"""StudioScreen: what the modes of the prompt share, from the session to samples and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from textual import getters, work
from textual.timer import Timer

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.formatting import counted, safe
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui import folders
from rnnlm_tui.tui.sampling import draw, stop_drawing
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.prompt import ALREADY_SAMPLING, CheckpointChoice, PromptSession, draw_seed
from rnnlm_tui.tui.views.sample_tree import Drawing, Sample, SampleTree, with_seed
from rnnlm_tui.tui.widgets.panel import Panel
from rnnlm_tui.tui.widgets.prompt import PromptBox

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory

UPDATE_SECONDS = 0.1
"""Seconds between updates of the text: ten a second read as a stream."""
CELLS_AT_ONCE = 2_000
"""Cells that text in progress may change at once; text that comes faster is shown less often."""
NO_TEXT = "no text yet"


class StudioScreen(PaneScreen):
    """A mode of the prompt. It draws samples, one request at a time."""

    CELLS_PER_SECOND: ClassVar[int] = 5_500
    """Cells that text in progress may change, for a link of 8 KiB/s."""
    NOTHING_TO_UNDO: ClassVar[str] = "nothing to undo"
    NO_BRANCH: ClassVar[str] = ""
    """Said if a text has no other branch."""
    box = getters.query_one(PromptBox)
    """The box for prompts, if the mode has one."""

    def __init__(self) -> None:
        super().__init__()
        self.drawing: Drawing | None = None
        """The running request."""
        self._tree = SampleTree()
        """The tree that its samples are added to."""
        self._ticker: Timer | None = None
        self._credit, self._updated, self._sent = 0.0, 0.0, 0
        """Cells that may be sent by now, when that was counted, and the cells sent until then."""

    @property
    def session(self) -> PromptSession:
        """What the modes of the prompt share."""
        return self.context.prompt_session

    def choice_of(self, wanted: str | None) -> CheckpointChoice | None:
        """Return the open run's weights with these chosen; None if no run is open."""
        snapshot = self.snapshot
        if snapshot is None:
            return None
        rows = (*snapshot.checkpoints, *snapshot.averages)
        living = snapshot.summary.status in LIVING
        return CheckpointChoice.of(snapshot.summary.run, rows, wanted, living=living)

    @work(group="load", exclusive=True)
    async def load_ahead(self, checkpoint: Path) -> None:
        """Load a checkpoint before it is needed, so that the first token comes at once."""
        try:
            await (await self.context.warm_sampler()).load(str(checkpoint))
        except RnnlmError as error:
            self.context.report(error.message, trouble=True)

    def keys_without_run(self) -> dict[str, str]:
        """Return the footer's actions while no run is open."""
        return dict.fromkeys(("show_runs", "command_palette", "keys", "leave"), "")

    def use_seed(self, seed: int) -> None:
        """Use this seed for the next request."""
        session = self.session
        session.settings, session.changed = with_seed(session.settings, seed), True

    def renew_seed(self) -> None:
        """Draw the seed of the next request, if it is random."""
        if self.session.random_seed:
            self.use_seed(draw_seed())

    # sampling

    @property
    def sampling(self) -> bool:
        """Whether something is being sampled."""
        return self._ticker is not None

    def begin_showing(self, update: Callable[[], None]) -> None:
        """Show from now on what is sampled."""
        self._credit, self._updated = float(CELLS_AT_ONCE), monotonic()
        self._sent = self.cells_sent
        self._ticker = self.set_interval(UPDATE_SECONDS, update)

    def end_showing(self) -> None:
        """Show nothing more of what is sampled."""
        self.drawing = None
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None

    def show_within_budget(self, panels: Sequence[Panel]) -> None:
        """Show text in progress in these panels, unless too many cells were sent lately."""
        now, sent = monotonic(), self.cells_sent
        earned = self.CELLS_PER_SECOND * (now - self._updated)
        self._credit = min(self._credit + earned - (sent - self._sent), CELLS_AT_ONCE)
        self._updated, self._sent = now, sent
        if self._credit > 0:
            for panel in panels:
                panel.redraw()

    def draw(self, drawing: Drawing, run: RunDirectory) -> None:
        """Send a request, and show it as it is drawn."""
        self.drawing, self._tree = drawing, self.session.tree
        self.begin_showing(partial(self.show_drawing, drawing))
        self.show_drawing(drawing)
        self._draw(drawing, run)

    @work(group="sample")
    async def _draw(self, drawing: Drawing, run: RunDirectory) -> None:
        await draw(self.context, drawing, run)
        self._end(drawing)

    def _end(self, drawing: Drawing) -> None:
        """Show the end of a request, unless that is done, or it was abandoned."""
        drawing.over = True
        if drawing is self.drawing:
            self.end_showing()
            self._tree.end(drawing)
            self.drawing_ended(drawing)

    def show_drawing(self, drawing: Drawing) -> None:
        """Show what was drawn so far."""

    def drawing_ended(self, drawing: Drawing) -> None:
        """Show the end of a request, also after an error."""

    def stop(self) -> None:
        """Stop the request; one that wasn't sent ends at once."""
        if self.drawing is not None:
            stop_drawing(self.context, self.drawing)
            if self.drawing.over:
                self._end(self.drawing)

    def abandon(self) -> None:
        """Stop the request, and show nothing more of it."""
        if self.drawing is not None:
            stop_drawing(self.context, self.drawing)
        self.end_showing()

    # branches

    def open_text(self) -> Sample | None:
        """Return the open text; without one, or while sampling, report it."""
        text = self.session.tree.current
        if self.sampling or text is None:
            self.context.report(ALREADY_SAMPLING if self.sampling else NO_TEXT)
            return None
        return text

    def action_undo_branch(self) -> None:
        """Go back to the text before the last continuation, edit, branch or new seed."""
        self._walk(SampleTree.undo, self.NOTHING_TO_UNDO)

    def action_redo_branch(self) -> None:
        """Take the last undo back."""
        self._walk(SampleTree.redo, "nothing to redo")

    def action_walk_branches(self, by: int) -> None:
        """Show the branch after this one, or with -1 the one before."""
        self._walk(lambda tree: tree.move(by), self.NO_BRANCH)

    def _walk(self, move: Callable[[SampleTree], bool], otherwise: str) -> None:
        if self.open_text() is not None:
            if move(self.session.tree):
                self.show_branch()
            else:
                self.context.report(otherwise)

    def show_branch(self) -> None:
        """Show the current branch."""

    # states and files

    @act
    async def action_kept_states(self) -> None:
        """List the kept states, to start from one or to keep another."""
        from rnnlm_tui.tui.screens.states import StatesScreen

        snapshot = self.snapshot
        models = {snapshot.summary.run: snapshot.config} if snapshot is not None else {}
        path = await self.context.ask(StatesScreen(models, next(iter(models), "")))
        if path is not None:
            self.session.state = path
            self.show_state()

    def show_state(self) -> None:
        """Show the kept state that was chosen."""

    def save(self, name: str, text: str, ending: str = ".txt") -> None:
        """Save a text to a new file."""
        self.context.in_thread(
            lambda: folders.save_text(name, text, ending),
            lambda path: self.context.report(f"saved as {path}"),
        )

    def copy(self, text: str, saves: str) -> None:
        """Copy a text to the terminal's clipboard, if the terminal allows it."""
        self.app.copy_to_clipboard(safe(text, keep="\n\t"))  # it may be pasted into a shell
        copied = f"copied {counted(len(text), 'character')} (if your terminal allows it)"
        self.context.report(f"{copied}; {{key:save_text}} saves {saves}")
