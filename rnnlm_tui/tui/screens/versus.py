"""VersusScreen: the same prompt, settings and seed on two to four checkpoints, side by side.

Further views: one text scored by two of them, and a grid of checkpoint × temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.events import ScreenResume
from textual.geometry import Size

from rnnlm_tui.errors import RnnlmError, in_one_sentence
from rnnlm_tui.schema.sampling import length_problem
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import bindings_for, following_mode
from rnnlm_tui.tui.sampling import SideScores, draw, read_other_runs, read_tokenizer, stop_drawing
from rnnlm_tui.tui.screens.choose import choose_weights
from rnnlm_tui.tui.screens.states import StatesScreen
from rnnlm_tui.tui.screens.studio import NO_TEXT, StudioScreen
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.prompt import ALREADY_SAMPLING, NO_RUN
from rnnlm_tui.tui.views.sample_tree import Weights
from rnnlm_tui.tui.views.side_facts import (
    TextScores,
    differences_markdown,
    facts_legend,
    facts_within,
    grid_markdown,
    texts_chart,
    texts_markdown,
)
from rnnlm_tui.tui.views.versus import (
    LEAST_SIDES,
    MOST_SIDES,
    SampleRound,
    Side,
    SideBySide,
    SideText,
    settings_line,
)
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.frame import ModeLine
from rnnlm_tui.tui.widgets.panel import Line, LinesPanel
from rnnlm_tui.tui.widgets.prompt import PromptFrame
from rnnlm_tui.tui.widgets.train_layout import Placed
from rnnlm_tui.tui.widgets.versus import (
    DifferenceList,
    DifferenceStrip,
    SampleGrid,
    SideColumns,
    SidePanel,
    VersusView,
    grid_columns,
    shown_sides,
    versus_arrangement,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.summary import RunSummary

FOOTER: dict[VersusView, tuple[str, ...]] = {
    "texts": (
        "next_side", "next_checkpoint", "new_seed", "next_difference", "next_mode", "save_text",
        "copy_text", "leave",
    ),
    "differences": (
        "next_side", "next_difference", "next_checkpoint", "next_mode", "save_text", "leave",
    ),
    "grid": ("next_side", "new_seed", "next_mode", "save_text", "leave"),
}  # fmt: skip
"""Actions of a view after those of enter and esc."""
NOT_IN_BOX = ("next_difference", "save_text", "leave")
"""Of these, those that the footer doesn't name while the prompt is written."""
HINTS: dict[VersusView | Literal["writing"], tuple[tuple[str, str], ...]] = {
    "writing": (("differences", "differences"), ("grid", "grid"), ("↑", "earlier prompts")),
    "texts": (
        ("differences", "differences"), ("grid", "grid"), ("add_side", "add a side"),
        ("choose_weights", "its run"),
    ),
    "differences": (
        ("← →", "token"), ("↑ ↓", "scroll"), ("differences", "texts"), ("grid", "grid"),
    ),
    "grid": (("← → ↑ ↓", "cell"), ("differences", "differences"), ("grid", "texts")),
}  # fmt: skip
"""Keys beside the modes that the footer has no room for: actions, or keys of a view itself."""
TEXT_ROWS = 17
"""Rows of the texts from which facts and chart get more."""
FACT_ROWS, LIST_ROWS = 7, 4
"""Rows of the facts besides one for each side; border and heading of the list of differences."""


class VersusScreen(StudioScreen):
    """Samples from all sides, one after the other, and compares their texts."""

    PANE = "versus"
    BINDINGS = bindings_for("versus")
    FIRST_FOCUS = "#prompt-box"
    VERTICAL_BREAKPOINTS = [(34, "-tall")]  # noqa: RUF012 (as Textual declares it)
    """Height from which a blank line separates the footer."""
    CELLS_PER_SECOND = 4_000  # short lines cost more per cell than a transcript's
    DEFAULT_CSS = """
    #versus-body { height: 1fr; }
    VersusScreen ModeLine { height: 1; }
    VersusScreen.-tall ModeLine { height: 2; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = SideBySide()
        """The sides with their texts."""
        self.scores = TextScores(self.found)
        """A text scored by two sides."""
        self._columns = SideColumns(self.found, lambda text: self.context.with_keys(text))
        self._panels = [SidePanel(place, self._columns) for place in range(MOST_SIDES)]
        self._facts = LinesPanel("Same and different", id="versus-facts")
        self._strip = DifferenceStrip(self.scores, id="difference-strip")
        self._list = DifferenceList(self.scores, id="difference-list")
        self._chart = Chart(id="versus-chart")
        self.grid = SampleGrid(id="sample-grid")
        """The grid of checkpoint × temperature."""
        self.frame = PromptFrame(("kept_states",), id="versus-frame")
        """The frame of the box for the prompt."""
        self._of: Path | None = None
        """The open run that the sides were chosen for."""
        self._view: VersusView = "texts"
        self._scorer = SideScores()
        self._stopping = False
        """Whether the texts that aren't drawn yet are dropped."""

    def compose_body(self) -> ComposeResult:
        lower = (self._chart, self._facts, self._list)
        views = (*self._panels, self._strip, self.grid, *lower)
        yield Placed(*views, places={}, id="versus-body")
        yield Line(id="versus-settings")
        yield self.frame
        yield ModeLine(self.PANE, id="versus-modes")

    def on_mount(self) -> None:
        self.query_one(Placed).visible = True
        self.box.put(self.session.prompt)

    # what is shown

    def on_placed_resized(self, _event: Placed.Resized) -> None:
        self._show()

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        """Show the open run. For another run the sides are chosen again."""
        if self.run_path != self._of:
            self.stop()
            self.workers.cancel_group(self, "differences")
            self._of = self.run_path
            self.found.sides, self.found.rounds = [], []
            self.found.chosen, self.found.difference, self._view = 0, None, "texts"
            self.scores.clear()
            self.grid.show(None)
        session, run = self.session, self.context.run_directory
        session.keep_only(self.run_path)
        if snapshot is not None and run is not None:
            if session.run is None:
                session.run, session.settings = run, snapshot.config.sampling
            self.found.take(snapshot, run)
        self._show()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        """Take the prompt that another mode has changed."""
        if self.is_ready and self.box.text != self.session.prompt:
            self.box.put(self.session.prompt)

    def show_runs(self, summaries: tuple[RunSummary, ...] | None) -> None:
        """Take what has changed about the runs of the sides, the open one excepted."""
        by_name = {summary.run: summary for summary in summaries or ()}
        for side in self.found.sides:
            if side.run.name in by_name and side.run.path != self.run_path:
                side.take(by_name[side.run.name], side.choice.rows)

    def _show(self) -> None:
        """Show everything that may have changed, laid out for the number of sides."""
        found, view, wide = self.found, self._view, self.size.width >= WIDE_FROM
        placed = self.query_one(Placed)
        size = placed.size or Size(self.app.size.width, max(1, self.app.size.height - 8))
        places = shown_sides(size.width, len(found.sides), found.chosen)
        self._columns.panels = [self._panels[place] for place in places]
        scored = view == "differences"
        upper, lower = TEXT_ROWS, len(found.sides) + FACT_ROWS
        if scored:
            upper = self._strip.height_in(size.width)
            lower = len(self.scores.order) + LIST_ROWS
        placed.place(versus_arrangement(size, view, places, upper=upper, lower=lower))
        usable = (side for side in found.sides if side.row is not None and not side.problem)
        self.session.compared = tuple(Weights.of(side.run, side.row) for side in usable)
        self._facts.show(partial(facts_within, found), facts_legend(found))
        self._chart.show(self.scores.chart if scored else texts_chart(found, wide=wide))
        for panel in (*self._columns.panels, self._strip, self._list, self.grid):
            panel.redraw()
        session = self.session
        room, seed = self.size.width - 4, session.random_seed
        line = settings_line(session.settings, len(found.sides), room, random_seed=seed)
        self.query_one("#versus-settings", Line).put(Content.assemble("  ", line))
        self.frame.show_facts()
        labels = {entry.id: entry.label for entry in self.context.actions}
        hints = HINTS["writing" if self.box.has_focus else view]
        keys = [(labels.get(key, key), words) for key, words in hints]
        self.query_one(ModeLine).show(keys=keys if self.run_path is not None else ())
        self.refresh_footer()

    # keys

    def footer_entries(self) -> dict[str, str]:
        """Return the actions of the view, by the focus and whether texts are sampled."""
        if self.run_path is None:
            return self.keys_without_run()
        writing, view = self.box.has_focus, self._view
        both = "both" if len(self.found.sides) == LEAST_SIDES else "all"
        generate: dict[VersusView, str] = {
            "texts": f"Generate {both}",
            "differences": "Score" if writing else "Write",
            "grid": "Sample grid" if writing else "Open in Sample",
        }
        verbs = {"generate": generate[view], "next_mode": following_mode(self.PANE)}
        back = "Stop" if self.sampling else "Back" if writing else "Texts"
        names = ["generate", *FOOTER[view]]
        if back != "Texts" or view != "texts":
            names.insert(1, "leave_field")
            verbs["leave_field"] = back
        if self.size.width >= WIDE_FROM and not writing:
            verbs["next_checkpoint"] = "Checkpoint of this side"
        hidden = NOT_IN_BOX if writing else ()
        return {name: verbs.get(name, "") for name in names if name not in hidden}

    def action_leave_field(self) -> None:
        """Stop the sampling, leave the box, or go back to the texts."""
        if self.sampling:
            self.stop()
        elif self.box.has_focus:
            self._focus_view()
        elif self._view != "texts":
            self.action_switch("texts")

    def action_walk_sides(self, by: int) -> None:
        """Go to the side `by` places after this one, or to the prompt."""
        sides = len(self.found.sides)
        if not sides:
            return
        at = sides if self.box.has_focus else self.found.chosen
        at = (at + by) % (sides + 1)
        if at == sides:
            self.set_focus(self.box)
        else:
            self._choose(at)
            self._focus_view()
            if self._view == "differences":
                self._score_text()

    def _choose(self, place: int) -> None:
        if place != self.found.chosen and place < len(self.found.sides):
            self.found.chosen, self.found.difference = place, None
            self._show()

    def _focus_view(self) -> None:
        """Give the focus to what the view shows."""
        side = self._panels[self.found.chosen]
        shown = {"texts": side, "differences": self._strip, "grid": self.grid}
        self.set_focus(shown[self._view])

    def on_descendant_focus(self) -> None:
        if isinstance(self.focused, SidePanel):
            self._choose(self.focused.place)
        self._show()

    def on_text_area_changed(self) -> None:
        session = self.session
        if self.box.text != session.prompt:
            session.prompt, session.changed = self.box.text, True

    def action_scroll_texts(self, lines: int) -> None:
        """Scroll all texts down, or up if negative."""
        if self._view == "texts":
            self._columns.scroll(lines)
        else:
            self._strip.scroll_lines(lines)

    def action_to_older(self, pages: int) -> None:
        """Scroll one page up, or with -1 down."""
        room = self._panels[self.found.chosen].room
        self.action_scroll_texts(-pages * max(1, room - 1))

    # the sides

    def _is_free(self) -> bool:
        """Whether the sides may change; reports if not."""
        if not self.found.sides:
            self.context.report(NO_RUN if self.run_path is None else "reading the run …")
        elif self.sampling:
            self.context.report(ALREADY_SAMPLING)
        else:
            return True
        return False

    def action_next_checkpoint(self) -> None:
        """Choose the next checkpoint of this side that no other side has, and load it."""
        if not self._is_free():
            return
        side = self.found.side
        if side.choice.next() is None:
            self.context.report(side.problem or "no checkpoint yet")
            return
        others = [one for one in self.found.sides if one is not side]
        self._take_side(replace(side, choice=side.next_choice(others)))

    def _take_side(self, side: Side) -> None:
        """Take other weights for the chosen side, which have no texts yet, and load them."""
        self.found.sides[self.found.chosen], self.found.difference = side, None
        if side.row is not None:
            self.load_ahead(side.run.path / side.row.path)
        self._sides_changed()

    def action_add_side(self) -> None:
        """Add a side with the next checkpoint of the chosen side's run."""
        if not self._is_free():
            return
        found = self.found
        if len(found.sides) == MOST_SIDES:
            way = "{key:remove_side} removes one"
            self.context.report(f"{MOST_SIDES} sides are the most possible: {way}")
            return
        side = found.side
        found.sides.append(replace(side, choice=side.next_choice(found.sides)))
        found.chosen = len(found.sides) - 1
        self._sides_changed()

    def action_remove_side(self) -> None:
        """Remove the chosen side."""
        if not self._is_free():
            return
        found = self.found
        if len(found.sides) == LEAST_SIDES:
            way = "{key:next_checkpoint} changes the checkpoint of one"
            self.context.report(f"two sides are the least: {way}")
            return
        del found.sides[found.chosen]
        found.chosen, found.difference = min(found.chosen, len(found.sides) - 1), None
        self._sides_changed()

    def _sides_changed(self) -> None:
        self.scores.clear()
        self.grid.show(None)
        self._show()
        if not self.box.has_focus:
            self._focus_view()
        if self._view == "differences":
            self._score_text()

    @act
    async def action_choose_weights(self) -> None:
        """Choose the run of this side, and its checkpoint."""
        if not self._is_free():
            return
        side = self.found.side
        title = f"Side {LETTERS[self.found.chosen]}"
        found = await choose_weights(self.context, title, side.choice)
        if found is None or self.found.sides[self.found.chosen :][:1] != [side] or self.sampling:
            return  # cancelled, or the sides have changed since
        run, choice, summary = found
        side = Side(run, choice)
        side.take(summary, choice.rows)
        self._take_side(side)

    @act
    async def action_kept_states(self) -> None:
        """List the kept states, to start all sides from one."""
        if not self._is_free():
            return
        runs = dict.fromkeys(side.run.name for side in self.found.sides)

        models = await self.context.wait_for(lambda: self.context.watcher.runs.configs(runs))
        path = await self.context.ask(StatesScreen(models, None))
        if path is not None:
            self.session.state = path
            self.grid.show(None)
            self._show()

    # sampling

    def action_generate(self) -> None:
        """Sample from all sides, score the text, or sample the grid, by the view."""
        if self._view == "grid" and not self.box.has_focus and self.grid.shown is not None:
            self._open_cell()
        elif self._view != "differences":
            self._sample()
        elif self.box.has_focus:
            self._score_text()
        else:
            self.set_focus(self.box)

    def action_new_seed(self) -> None:
        """Use the next seed, and sample again."""
        if self._is_free():
            self.use_seed(self.session.settings.seed + 1)
            if self._view == "grid":
                self.grid.show(None)
            self._show()
            if self.box.text and self._view == "texts":
                self.action_generate()

    def _sample(self) -> None:
        """Sample from all sides, or the grid."""
        if not self._is_free():
            return
        problem = length_problem(len(self.box.text))
        if problem:
            self.context.report(problem, trouble=True)
            return
        self.frame.remember()
        self.renew_seed()
        prompt, settings, start = self.box.text, self.session.settings, self.session.state
        if self._view == "grid":
            asked = SampleRound(self.found.sides, prompt, grid_columns(settings), start)
            self.grid.show(asked, settings.temperature)
        else:
            asked = self.found.begin(prompt, settings, start)
            self._columns.top, self._columns.following = 0, True
        self._stopping = False
        # in few steps if much changes; those of other views aren't displayed
        panels = (self._facts, *self._panels, self.grid)
        self.begin_showing(partial(self.show_within_budget, panels))
        self._show()
        self._draw_texts(asked)

    @work(group="versus")
    async def _draw_texts(self, asked: SampleRound) -> None:
        """Draw one text after the other, those of a side from the same weights; then score the
        newest texts."""
        try:
            await read_other_runs(asked.texts, self.run_path)
            for side, texts in asked.texts.items():
                weights = Weights.of(side.run, side.row)
                for text in texts:
                    if not self._stopping:
                        text.use(weights)
                        text.error = self.context.with_keys(side.problem)
                        if not text.error:
                            self.drawing = text
                            await draw(self.context, text, side.run)
                            self.drawing, weights = None, text.wanted.weights
                    text.over = True
                    self._show()
            if asked is self.found.newest:
                await self._score_texts([text for [text] in asked.texts.values()])
        finally:
            self.end_showing()
            if self.is_attached:
                self.end_notice(ALREADY_SAMPLING)
                self._show()

    async def _score_texts(self, texts: Sequence[SideText]) -> None:
        """Score each text by all sides, its own first."""
        for text in texts:
            if text.done is not None:
                self.frame.tokens[text.wanted.prompt] = text.done.prompt_tokens
            if text.asked:
                await read_tokenizer(text.side, text.wanted.weights)
        self.frame.show_facts()
        for text in texts:
            for by in sorted(texts, key=lambda one: one is not text):
                if not self._stopping:
                    await self._scorer.score(self.context, text, by)
                    self._show()

    def stop(self) -> None:
        """Stop the running request and drop those that have not begun."""
        self._stopping = True
        if self.drawing is not None:
            stop_drawing(self.context, self.drawing)

    # the other views

    def action_switch(self, view: VersusView) -> None:
        """Show another view, or instead of the shown one the texts again."""
        if not self.found.sides:
            return
        self._view = view = "texts" if view == self._view else view
        self.set_focus(None)
        self.call_after_refresh(self._focus_view)
        self._show()
        if view == "differences":
            self._score_text()
        elif view == "grid" and self.grid.shown is None and self.box.text and not self.sampling:
            self._sample()

    def action_walk_differences(self, by: int) -> None:
        """Go to the next difference, or with -1 to the one before."""
        found = self.found
        if self._view == "differences":
            self._mark(by, self.scores.order)
        elif self._view == "texts" and self._columns.walk(by):
            self._facts.redraw()
        elif self._view == "texts":
            none = "the texts don't differ" if found.texts(found.pair) else "no texts yet"
            self.context.report(none)

    def action_walk_text(self, by: int) -> None:
        """Mark the next piece of the scored text, or the one before."""
        self._mark(by, range(len(self.scores.spans)))

    def _mark(self, by: int, among: Sequence[int]) -> None:
        self.scores.walk(by, among)
        self._strip.show_mark()
        self._list.redraw()

    @work(group="differences", exclusive=True)
    async def _score_text(self) -> None:
        """Score the chosen side's text by the two sides; or the prompt, if it has the focus or the
        side has no text."""
        found, scores = self.found, self.scores
        text, session = found.text(found.chosen), self.session
        source = f"{LETTERS[found.chosen]}’s text"
        if self.box.has_focus or text is None or text.done is None:
            source = "the prompt"
            text = SideText(found.side, self.box.text, session.settings, session.state)
        if text.wanted.prompt or text.done is not None:
            scores.clear(source, "scoring …")
            self._show()
            try:
                a, b = await self._scorer.score_pair(self.context, found, text)
                scores.take(a, b, wide=self.size.width >= WIDE_FROM)
            except (RnnlmError, OSError) as error:
                scores.clear(source, in_one_sentence(error), trouble=True)
        else:
            invitation = "Type or paste a text and press {key:generate} to score it."
            scores.clear(source, self.context.with_keys(invitation))
        self._strip.show_mark()
        self._show()

    def _open_cell(self) -> None:
        """Show the chosen cell's text in the mode Sample, to continue it there."""
        cell = self.grid.cell
        if cell is None or cell.done is None:
            self.context.report("this cell has no text yet")
            return
        self.session.open(replace(cell.samples[0]))
        row = cell.wanted.weights.row
        if row is not None and cell.side.run.path == self.run_path:
            self.context.selected_checkpoint = row.path
        self.context.open_pane("prompt")

    # leaving with something

    def action_save_text(self) -> None:
        """Save what is shown to a new Markdown file."""
        found, grid = self.found, self.grid.shown
        if self._view == "texts":
            name, text = "side-by-side", texts_markdown(found) if found.rounds else ""
        elif self._view == "differences":
            name, text = self._view, differences_markdown(self.scores) if self.scores.spans else ""
        else:
            name, text = self._view, grid_markdown(grid) if grid is not None else ""
        if text:
            self.save(f"{found.sides[0].run.name}-{name}", text, ".md")
        else:
            self.context.report("no texts yet")

    def action_copy_newest(self) -> None:
        """Copy the chosen side's newest text to the terminal's clipboard."""
        asked, text = self.found.newest, self.found.text(self.found.chosen)
        if asked is None or text is None or not text.text:
            self.context.report(NO_TEXT)
        else:
            self.copy(asked.prompt + text.text, "all sides")
