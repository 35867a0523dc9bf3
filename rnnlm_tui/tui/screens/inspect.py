"""InspectScreen: the prompt's text token by token, what else it could have said, and the state.

The text is the session's current branch, or the prompt before the first sample. It is scored once;
alternatives, states and gradients are asked for when they are shown.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.geometry import Region, Size
from textual.timer import Timer

from rnnlm_tui import store
from rnnlm_tui.schema.formatting import counted, first_of
from rnnlm_tui.schema.sampling import (
    Alternatives,
    AlternativesRequest,
    Inspection,
    InspectRequest,
    StateMap,
    StatesRequest,
)
from rnnlm_tui.store.states import check_state_name
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.palette import BAD, DIM, TEXT, TRAIN
from rnnlm_tui.tui.sampling import keep_state, take_weights
from rnnlm_tui.tui.screens.asking import Questions
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.overlay import AskScreen
from rnnlm_tui.tui.screens.pane import body_size
from rnnlm_tui.tui.screens.reach_view import ReachView
from rnnlm_tui.tui.screens.studio import StudioScreen
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.inspect import (
    ALONE,
    ScoredText,
    Units,
    alternatives_title,
    as_json,
    as_tsv,
    branched,
    quoted,
    text_note,
    token_lines,
    words_of,
)
from rnnlm_tui.tui.views.prompt import ALREADY_SAMPLING, NO_RUN, CheckpointChoice
from rnnlm_tui.tui.views.sample_tree import Drawing, Sample, Weights
from rnnlm_tui.tui.widgets.alternatives import AlternativesList
from rnnlm_tui.tui.widgets.frame import ModeLine
from rnnlm_tui.tui.widgets.heat_strip import HeatStrip, TokenPointed
from rnnlm_tui.tui.widgets.panel import LinesPanel, Panel
from rnnlm_tui.tui.widgets.state_map import StateMapPanel, UnitList, UnitStrip
from rnnlm_tui.tui.widgets.train_layout import Placed

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.store.paths import RunDirectory

View = Literal["alternatives", "state", "unit", "reach"]
VIEWS: tuple[View, ...] = get_args(View)
LARGE = Size(WIDE_FROM, 30)
"""Size of the body from which the alternatives are beside the text, above another view."""
STILL_SECONDS = 0.06
"""Pause after a move of the cursor before the sampler is asked about its token."""
EAGER_VALUES = 500_000
"""Most activations that are asked for before a view shows them."""
NOT_SCORED = "no text is scored yet"
UNIT_SEARCHES = "for example space, newline, digit, quotes, position in line, e, since e"
"""Of what `engine.units` accepts."""
MOST_TYPED = 200
"""Characters that may be typed in place of a token."""
CONTEXT_TOKENS = 20
"""Tokens before typed ones that are tokenized with them."""


def inspect_places(size: Size, view: View, *, alone: bool = False) -> dict[str, Region]:
    """Return the regions of the pane's widgets by id, for a body of this size.

    Args:
        view: the view below the text.
        alone: it gets the whole body; of the alternatives it is the text.
    """
    body, places = size.region, {}
    if alone:
        return {"strip": body} if view == "alternatives" else view_places(body, view)
    if size.height >= LARGE.height:
        body, places["modes"] = body.split_horizontal(-1)
    if not shows_two(size):
        top = max(4, min(size.height * 2 // 5, body.height - 9))
        places["strip"], body = body.split_horizontal(top)
    else:
        above, body = body.split_horizontal(size.height * 16 // 37)
        side = 46 if size.width < 150 else 56
        places["strip"], places["alternatives"] = above.split_vertical(-side)
        view = "state" if view == "alternatives" else view
    return places | view_places(body, view)


def shows_two(size: Size) -> bool:
    """Whether a body of this size shows the alternatives beside the text."""
    return size.width >= LARGE.width and size.height >= LARGE.height


def view_places(body: Region, view: View) -> dict[str, Region]:
    """Return the regions of the widgets of one view."""
    if view == "reach":
        return dict(zip(("reach", "reach-words"), body.split_horizontal(-1), strict=True))
    side, cells = ("token", 32) if view == "alternatives" else ("units", 30)
    if view == "state" or body.width < (76 if side == "token" else 60):
        return {view: body}
    return dict(zip((view, side), body.split_vertical(-cells), strict=True))


class InspectScreen(StudioScreen):
    """Looks inside the model that reads the prompt's text."""

    PANE = "inspect"
    BINDINGS = bindings_for("inspect")
    FIRST_FOCUS = "#strip"
    NOTHING_TO_UNDO = "nothing to undo: this is the first text"
    NO_BRANCH = "no other branch here: {key:branch} makes one"

    def __init__(self) -> None:
        super().__init__()
        self.cursor = 0
        """The token under the cursor; the number of tokens: the place after the last."""
        self.view: View = "alternatives"
        """The chosen view below the text."""
        self.scored: ScoredText | None = None
        """The text shown, once it is scored."""
        self.units = Units()
        """A layer's states, once they are known."""
        self.strip = HeatStrip("Inspect", id="strip")
        self.choices = AlternativesList(id="alternatives")
        self._token = LinesPanel("Token", id="token")
        self._map = StateMapPanel(self.units, id="state")
        self._unit_strip = UnitStrip(self.units, id="unit")
        self._unit_list = UnitList(self.units, id="units")
        self._unit_list.highlighted = True
        self._alone = False
        self._source: Sample | None = None
        """The text that is shown or asked for."""
        self._wanted: Sample | None = None
        """The same, as the session has it: perhaps without the place of its weights."""
        self._moved = False
        """Whether the cursor belongs to this text; else it goes to its first new token."""
        self._failed = False
        """Whether the text couldn't be scored."""
        self._questions = Questions(self)
        self._reach = ReachView(self._questions)
        self._still: Timer | None = None

    def compose_body(self) -> ComposeResult:
        views = (
            self.strip,
            self.choices,
            self._token,
            self._map,
            self._unit_strip,
            self._unit_list,
        )
        others = (self._reach.chart, self._reach.words, ModeLine("inspect", id="modes"))
        yield Placed(*views, *others, places=self._places(), id="inspected")

    # layout

    def _places(self) -> dict[str, Region]:
        return inspect_places(body_size(self.app.size), self.view, alone=self._alone)

    def _place(self) -> None:
        """Lay out, and ask for what is shown now."""
        self.query_one(Placed).place(self._places())
        self.query_one(ModeLine).show()
        self._show_token()
        self._ask_for_views()
        self.refresh_footer()

    def on_resize(self, _event: Resize) -> None:
        self._place()

    @property
    def active(self) -> View:
        """The view that the keys act on; with room, the alternatives are always shown."""
        if self.view == "alternatives" and shows_two(body_size(self.app.size)):
            return "state"
        return self.view

    def _shows(self, widget: str) -> bool:
        return widget in self.query_one(Placed).places

    # the text

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:  # noqa: ARG002
        """Show the session's text, if it isn't shown already."""
        self._take_text()
        self.query_one(Placed).visible = True

    def _choice(self) -> CheckpointChoice | None:
        """Return the session's choice of weights, else the open run's best checkpoint."""
        return self.session.choice or self.choice_of(None)

    def _take_text(self, *, again: bool = False) -> None:
        """Have the session's text scored, if it isn't the one that is shown, or `again`."""
        session, before = self.session, self._source
        session.keep_only(self.run_path)
        run = self.context.run_directory
        source, choice = session.tree.current, self._choice()
        if source is None and run is not None and choice is not None and choice.possible:
            weights, state = Weights.of(run, choice.row), session.state
            source = Sample(session.prompt, session.settings, weights, state=state, number=ALONE)
        if run is None:
            self.strip.show_when_empty(*self.context.no_run_words)
        elif source is None:
            way = self.context.with_keys("{key:show_train} shows how it trains.")
            self.strip.show_when_empty("This run has no checkpoint yet.", way)
        if self.sampling or (source == self._wanted and not again):
            return
        self._wanted = source
        self._moved = before is not None and source is not None and before.prompt == source.prompt
        self._begin(source)

    def _begin(self, source: Sample | None) -> None:
        """Show a text, and have it scored."""
        self._source, self.scored, self.units.states, self._failed = source, None, None, False
        self._questions.forget()
        self._show_no_states("")
        self._show_units()
        self.choices.show(None)
        self.strip.bottom, self.strip.note = "", Content("")
        if source is None:
            self.strip.show((), 0)
            self.strip.panel_title, self.strip.legend = "Inspect", ""
            self._token.panel_title = "Token"
            self._token.show(lambda _width, _height: [])
            return
        self.strip.legend = self._legend(source)
        first = self._show_words(source.prompt, source.text)
        self.strip.move_to(self.cursor if self._moved else first)
        score = partial(self._score, source)
        self._questions.start("inspect", source, score, self._show_unscored)

    def _show_units(self) -> None:
        self.units.cursor = self.cursor
        self._map.redraw()
        self._unit_strip.update()
        self._unit_list.redraw()

    def _show_words(self, prompt: str, text: str) -> int:
        """Show the words of a text before it is scored. Return how many the prompt has."""
        before, after = words_of(prompt), words_of(text)
        self.strip.show((*before, *after), len(before))
        return len(before)

    async def _score(self, source: Sample) -> None:
        """Have a text scored, and show it."""
        if not source.weights.path:
            run = cast("RunDirectory", self.context.run_directory)
            source = self._source = replace(source, weights=await take_weights(run, None))
        request = source.request(InspectRequest)
        answer = await self._questions.ask(request, Inspection, self._show_unscored)
        self.scored = scored = ScoredText(answer, source)
        self.cursor = min(self.cursor, len(scored)) if self._moved else scored.prompt_tokens
        self._moved = True
        self.strip.bottom = ""
        self.strip.show(scored.texts, scored.prompt_tokens, scored.bits)
        if answer.unknown:
            self.context.report(f"no token for {first_of(answer.unknown, 5)}: read as <unk>")
        self._place()

    def _show_unscored(self, words: str, *, trouble: bool = False) -> None:
        """Show what is waited for, or why the text couldn't be scored."""
        if not trouble:
            self.strip.bottom = Content.assemble(("● ", TRAIN), (words, DIM))
            return
        self._failed = True
        self.strip.bottom = Content.assemble(("✗ ", BAD), ("not scored", DIM))
        source, current = self._source, self._with_current_weights()
        if source and current and current.weights.path != source.weights.path:
            key = self.context.with_keys("{key:score_again}")
            words = f"{words}; {key} scores the text with {current.weights.label}"
        self.choices.show_words(words, trouble=True)
        self.refresh_footer()

    def _with_current_weights(self) -> Sample | None:
        """Return the text with the checkpoint that Sample would use; None if there is none."""
        source, chosen, run = self._source, self.session.choice, self.context.run_directory
        if source is None or run is None or run.name != source.weights.run:
            return None
        choice = self.choice_of(chosen.wanted if chosen and chosen.run == run.name else None)
        if choice is None or not choice.possible:
            return None
        return replace(source, weights=Weights.of(run, choice.row))

    def _legend(self, source: Sample) -> Content:
        """Return `plain-otter @best step 3,700, val 58.1`."""
        choice, run, row = self._choice(), source.weights.run, source.weights.row
        if row is not None and choice is not None and (choice.run, choice.row) == (run, row):
            return choice.legend()
        name = safe_content(run, limit=30, newlines="show").stylize(DIM)
        return Content.assemble(name, (f" {source.weights.label}", TEXT))

    # the cursor

    def _go(self, token: int) -> None:
        """Put the cursor on a token; the sampler is asked once it stays there."""
        token = max(0, min(token, self.strip.tokens))
        if token == self.cursor or self.scored is None:
            return
        self.cursor = token
        self._show_token()
        if self._still is not None:
            self._still.stop()
        self._still = self.set_timer(STILL_SECONDS, self._ask_for_views)

    def _show_token(self) -> None:
        """Show what is known about the token under the cursor."""
        tree, scored, at = self.session.tree, self.scored, self.cursor
        if scored is None:
            return
        several = tree.current is not None and len(tree.branches) > 1
        place = f", branch {(tree.place or 0) + 1} of {len(tree.branches)}" if several else ""
        self.strip.panel_title = f"Inspect{place}"
        self.strip.legend = self._legend(scored.source)
        self.strip.note = Content("") if self._shows("token") else text_note(scored)
        self.strip.move_to(at)
        self._show_units()
        answer = scored.alternatives.get(at)
        if answer is not None:
            self.choices.show(answer, [] if self._shows("token") else scored.facts(answer))
        known = at < len(scored)
        title = f"Token {at + 1:,}" if known else "Next token"
        lines = token_lines(scored, at, answer, self.units.states)
        self._token.set_reactive(Panel.panel_title, title)
        self._token.show(lambda _width, _height: lines, f"of {len(scored):,}" if known else "")
        self._reach.show(at, scored)

    def on_token_pointed(self, event: TokenPointed) -> None:
        self._go(event.token)

    def action_go_by(self, tokens: int) -> None:
        """Move the cursor by tokens."""
        self._go(self.cursor + tokens)

    def action_move_line(self, by: int) -> None:
        """Move the cursor by lines, or among the units in their view."""
        if self.active == "unit":
            self._follow(by)
        else:
            self._go(self.strip.vertical(by))

    def action_move_page(self, by: int) -> None:
        """Move by pages of the text, or of the units."""
        if self.active == "unit":
            self._follow(by * self._unit_list.inner_size.height)
        elif self.active != "state" or not self._map.scroll_units(by):
            self._go(self.strip.vertical(by * self.strip.page_lines))

    def _follow(self, by: int) -> None:
        self.units.follow(by)
        self._show_units()

    def action_to_surprise(self, by: int) -> None:
        """Go to the next surprising token, or with -1 to the one before."""
        found = self.scored.next_surprise(self.cursor, by) if self.scored is not None else None
        if found is None:
            where = "after" if by > 0 else "before"
            self.context.report(f"no token of 5 bits or more {where} this one")
        else:
            self._go(found)

    # views

    def action_turn_view(self, by: int) -> None:
        """Show the view `by` places after this one."""
        views = VIEWS[1:] if shows_two(body_size(self.app.size)) else VIEWS
        self.view = views[(views.index(self.active) + by) % len(views)]
        if self.view != "alternatives":
            self.set_focus(self.strip)
        self._place()

    def action_panel_alone(self) -> None:
        """Give the view the whole pane, or the text where alternatives are shown."""
        self._alone = not self._alone
        self.set_focus(self.strip)
        self._place()

    def _ask_for_views(self) -> None:
        """Ask for what the views that are shown need and don't have."""
        scored = self.scored
        if scored is None:
            return
        if self.cursor not in scored.alternatives:
            find = partial(self._find_alternatives, scored, self.cursor)
            self._questions.start("alternatives", self.cursor, find, self.choices.show_words)
        few = len(scored) * scored.answer.hidden_size <= EAGER_VALUES
        if self.units.states is None and (few or self._shows("state") or self._shows("unit")):
            self._ask_for_states()
        if self._shows("reach") and not self._reach.show(self.cursor, scored):
            find = partial(self._find_reach, scored, self.cursor)
            self._questions.start("reach", self.cursor, find, self._reach.show_nothing)

    async def _find_alternatives(self, scored: ScoredText, position: int) -> None:
        if not scored.predicts(position):
            way = f"{self.key_of('next_token')} goes to the next one."
            self.choices.show_words(f"Nothing predicts the first token. {way}")
            return
        request = scored.source.request(AlternativesRequest, position=position)
        answer = await self._questions.ask(request, Alternatives, self.choices.show_words)
        scored.alternatives[position] = answer
        if position == self.cursor:
            self._show_token()

    # states

    def _ask_for_states(self) -> None:
        wanted = tuple(self.units.wanted.values())
        if self.scored is None:
            self.context.report(NOT_SCORED)
        else:
            find = partial(self._find_states, self.scored)
            self._questions.start("states", wanted, find, self._show_no_states)

    async def _find_states(self, scored: ScoredText) -> None:
        request = scored.source.request(StatesRequest, **self.units.wanted)
        answer = await self._questions.ask(request, StateMap, self._show_no_states)
        self.units.take(answer, scored)
        self._show_token()

    def _show_no_states(self, words: str, *, trouble: bool = False) -> None:
        """Show what is waited for, or why there are no states; report a search that failed."""
        if trouble and self.units.order == "search":
            # its units are still shown
            self.units.order, self.units.query = "memory", ""
            self.context.report(words, trouble=True)
            return
        self._map.show_words(words, trouble=trouble)
        self._unit_strip.show_when_empty(words)

    def action_next_layer(self) -> None:
        layers = self.scored.answer.num_layers if self.scored is not None else 0
        if layers < 2:
            self.context.report("this model has one layer" if layers else NOT_SCORED)
            return
        self.units.layer = (self.units.layer + 1) % layers
        self._ask_for_states()

    def action_unit_order(self) -> None:
        """Sort the units by memory, by number, or by the last search."""
        self.units.next_order()
        self._ask_for_states()

    @act
    async def action_search_units(self) -> None:
        before = self.units.query
        question = AskScreen("Units that follow", before, str, about=UNIT_SEARCHES, most=60)
        query = await self.context.ask(question)
        if query:
            self.units.order, self.units.unit = "search", 0
            self.units.query = query.strip() or query
            if self.active not in ("state", "unit"):
                self.view = "unit"
                self._place()
            self._ask_for_states()

    # reach

    async def _find_reach(self, scored: ScoredText, position: int) -> None:
        if position >= len(scored) or not scored.predicts(position):
            self._reach.show_nothing("choose a token that the model predicts")
            return
        await self._reach.find(scored, position, self.session.compared)
        if position == self.cursor:
            self._reach.show(position, scored)

    # branches

    def action_branch(self) -> None:
        """Go to the alternatives, or have a text scored again that couldn't be."""
        if self._failed and self._source is not None:
            self._begin(self._source)
        elif self.sampling:
            self.context.report(ALREADY_SAMPLING)
        elif self.scored is None or not self.scored.predicts(self.cursor):
            key = self.key_of("next_token")
            self.context.report(f"nothing predicts this token: {key} goes to the next one")
        else:
            if not self._shows("alternatives"):
                self.view, self._alone = "alternatives", False
            self._place()
            self.set_focus(self.choices)

    def action_score_again(self) -> None:
        """Score the text with the checkpoint that Sample would use: its own may be gone."""
        source, current = self._source, self._with_current_weights()
        if source is None or current is None:
            self.context.report("no checkpoint to score with")
        elif self.sampling:
            self.context.report(ALREADY_SAMPLING)
        elif current.weights.path == source.weights.path and not self._failed:
            self.context.report(f"scored with {source.weights.label} already")
        else:
            self._begin(current)

    @act
    async def on_alternatives_list_chosen(self, event: AlternativesList.Chosen) -> None:
        answer, scored, chosen = self.choices.answer, self.scored, event.alternative
        if answer is None or scored is None or answer.position != self.cursor:
            return  # those of the token before the cursor moved
        if chosen is not None:
            text = chosen.text
            ids: tuple[int, ...] = (chosen.token,)
        else:
            about = "a token, or several words: with a space in front if it begins a word"
            title = alternatives_title(answer).plain
            question = AskScreen(title, " ", str, about=about, most=MOST_TYPED)
            text = await self.context.ask(question) or ""
            ids = await self._typed(scored, answer, text)
        run = self.context.run_directory
        if not ids:
            return
        if self.sampling or run is None:
            self.context.report(ALREADY_SAMPLING if self.sampling else NO_RUN)
            return
        drawing = branched(scored, answer.position, ids, text)
        self.draw(drawing, run)
        self.set_focus(self.strip)
        self.refresh_footer()

    async def _typed(self, scored: ScoredText, answer: Alternatives, text: str) -> tuple[int, ...]:
        """Return the tokens of a typed text at a position: an alternative, or those it has there.

        Without any, report why.
        """
        row = next((row for row in answer.rows if row.text == text), None)
        if row is not None or not text:
            return (row.token,) if row is not None else ()
        first = max(0, answer.position - CONTEXT_TOKENS)
        before = "".join(scored.texts[first : answer.position])
        for context in (before, ""):  # alone if its first token would begin before it
            alone = replace(scored.source, prompt=context + text, ids=(), state="")
            request = alone.request(InspectRequest)
            answered = await self._questions.ask(request, Inspection, lambda _words: None)
            ids = ScoredText(answered, alone).ids_after(context)
            if ids is not None:
                break
        if answered.unknown:
            words = f"no token for {first_of(answered.unknown, 5)}"
            self.context.report(words, trouble=True)
            return ()
        return ids or ()

    def show_drawing(self, drawing: Drawing) -> None:
        """Show a branch that grows."""
        sample = drawing.samples[0]
        self.strip.bottom = drawing.status()
        self._show_words(sample.prompt, sample.text)
        self.strip.move_to(self.strip.tokens)

    def drawing_ended(self, drawing: Drawing) -> None:
        """Show the branch, or again the text that it should have left."""
        self.show_drawing(drawing)
        if drawing.error:
            self.context.report(drawing.error, trouble=True)
        self._take_text(again=True)
        self.refresh_footer()

    def show_branch(self) -> None:
        self._take_text()

    def action_leave_field(self) -> None:
        """Stop a sample, leave the alternatives, show all views again, or go back to Sample."""
        if self.sampling:
            self.stop()
        elif self.choices.has_focus:
            self.set_focus(self.strip)
        elif self._alone:
            self.action_panel_alone()
        else:
            self.context.open_pane("prompt")

    # files

    @act
    async def action_keep_state(self) -> None:
        scored = self.scored
        if scored is None or not len(scored):
            self.context.report(NOT_SCORED)
            return
        position, weights = min(self.cursor, len(scored) - 1), scored.source.weights
        title = f"Keep the state after {quoted(scored.texts[position])}"
        wanted = f"{weights.run}-{weights.step}-{position + 1}"
        free = await self.context.wait_for(lambda: store.states.free_state_name(wanted))
        about = "the name of the state: letters, digits, . _ and -"
        name = await self.context.ask(AskScreen(title, free, check_state_name, about=about))
        if name is None:
            return
        kept = await keep_state(self.context, name, position)
        read = counted(kept.tokens, "token")
        lists = "{key:kept_states} lists the states"
        self.context.report(f"kept {kept.name}, the state after {read}: {lists}")

    def show_state(self) -> None:
        self._take_text()
        state = self.session.state
        where = f"the state {Path(state).stem}" if state else "the initial state"
        self.context.report(f"the next sample starts from {where}")

    @act
    async def action_write_inspection(self) -> None:
        scored = self.scored
        if scored is None:
            self.context.report(NOT_SCORED)
            return
        choices = (("tsv", "a row a token, for a spreadsheet"), ("json", "one object"))
        ending = await self.context.ask(ChooseScreen("Write the inspection as", choices))
        if ending:
            text = as_tsv(scored) if ending == "tsv" else as_json(scored)
            self.save(f"{scored.source.weights.run}-inspection", text, f".{ending}")

    # the footer

    def on_descendant_focus(self) -> None:
        self.refresh_footer()

    def footer_entries(self) -> dict[str, str]:
        if self.sampling:
            return {"leave_field": "Stop"}
        if self.choices.has_focus:
            return {"branch": "Take it", "next_line": "Choose", "leave_field": "Cancel"}
        if self.scored is None:
            again = {"branch": "Try again", "score_again": ""} if self._failed else {}
            return {**again, "next_mode": "", "leave_field": "Back"}
        wide, view = self.size.width >= WIDE_FROM, self.active
        of_states = (
            ("next_layer", "search_units", "unit_order") if view in ("state", "unit") else ()
        )
        return {
            "next_token": "",
            "next_line": "Unit" if view == "unit" else "",
            "next_surprise": "Next surprise" if wide else "Surprise",
            "branch": "Branch here" if wide else "",
            "next_view": "",
            **({} if wide else {"next_mode": ""}),
            **dict.fromkeys(of_states, ""),
            "keep_state": "Keep state",
            "undo_here": "Undo",
            "next_mode": "",
            "leave_field": "Back",
        }
