"""StatesScreen: kept states of recurrent models, to start from, keep, delete and copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from rnnlm_tui import store
from rnnlm_tui.errors import InputError, RnnlmError, in_one_sentence
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import age, counted, disk
from rnnlm_tui.store.states import SUFFIX, check_state_name, state_shape
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FAINT, TEXT, TRAIN
from rnnlm_tui.tui.sampling import keep_state
from rnnlm_tui.tui.screens.overlay import AskScreen, ListOverlay, keys_in_line
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.schema.sampling import StateKept
    from rnnlm_tui.store.states import DeletedState, StateInfo
    from rnnlm_tui.tui.app import RnnlmApp

KEYS = (
    ("enter", "use"),
    ("p", "keep the current one"),
    ("d", "delete"),
    ("u", "undo"),
    ("e", "copy"),
    ("esc", "close"),
)
MAX_PATH = 1_000


class StatesScreen(ListOverlay[str]):
    """Returns the path of the state to start from, empty for the initial state; None for no change.

    Args:
        models: configs of the runs whose models sample, by name; a state that one of them can't
            start from is refused.
        run: the run that a new state is named after; None: there is no text whose state could be
            kept.
    """

    DEFAULT_CSS = """
    StatesScreen TitledContainer { width: 100; }
    StatesScreen OptionList { scrollbar-size-vertical: 1; }
    """
    LIST_TITLE = "States"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f8", "leave", show=False),
        Binding("p", "keep", show=False),
        Binding("d", "delete", show=False),
        Binding("u", "undo", show=False),
        Binding("e", "copy", show=False),
    ]

    def __init__(self, models: Mapping[str, RunConfig], run: str | None) -> None:
        super().__init__()
        self._models, self._run = models, run
        self._states: list[StateInfo] | None = None
        self._deleted: list[DeletedState] = []

    def on_mount(self) -> None:
        self._app_context = self.context
        self._show()
        self._read()

    def on_resize(self) -> None:
        self._list()

    @property
    def _chosen(self) -> StateInfo | None:
        at = self.options.highlighted
        states = self._states or []
        return states[at - 1] if at is not None and 0 < at <= len(states) else None

    def _read(self, then: str = "") -> None:
        if not self.is_attached:
            return
        self.context.in_thread(lambda: store.states.list_states(), partial(self._take, then=then))

    def _take(self, states: Sequence[StateInfo], *, then: str = "") -> None:
        """Take the list; the cursor goes to the state named `then`."""
        if self.is_attached:
            self._states = list(states)
            self._list()
            names = [state.name for state in states]
            if then in names:
                self.options.highlighted = names.index(then) + 1
            self._show_legend()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        state = self._chosen
        if state is None:
            self.dismiss("")
            return
        problem = state.problem or self._refusal(state)
        if problem:
            self._show(problem, trouble=True)
        else:
            self.dismiss(str(state.path))

    def _refusal(self, state: StateInfo) -> str:
        """Return why a model can't start from the state, with both shapes."""
        for run, config in self._models.items():
            model = config.model
            shape = state_shape(model.cell_type, model.num_layers, model.hidden_size)
            if shape != state.shape:
                return f"{state.name} is a state of {state.shape}, and {run} is {shape}"
        return ""

    def action_keep(self) -> None:
        """Keep the state after the current text, under a name that is asked."""
        run = self._run
        if run is None:
            return

        def ask(name: str) -> None:
            question = AskScreen(
                "Keep the state after the current text as",
                name,
                self._check_name,
                about="letters, digits and . _ -",
                most=64,
            )
            self.app.push_screen(question, self._keep)

        self.context.in_thread(
            lambda: store.states.free_state_name(run or "state"), ask, self._failed
        )

    def _check_name(self, name: str) -> None:
        check_state_name(name)
        if name in {state.name for state in self._states or ()}:
            raise InputError(f'a state "{name}" exists already')

    def _keep(self, name: str | None) -> None:
        if name is not None:
            self._show("keeping the state …")
            # of the app: it continues when this screen is closed while a long sample is computed
            self.app.run_worker(self._keep_now(self.context, name), group="state")

    async def _keep_now(self, context: RnnlmApp, name: str) -> None:
        try:
            kept: StateKept = await keep_state(context, name)
        except (RnnlmError, OSError) as error:
            self._failed(error)
            return
        self._show(f"{kept.name} kept: the state after {counted(kept.tokens, 'token')}")
        self._read(then=kept.name)

    def action_delete(self) -> None:
        """Delete the state under the cursor."""
        state = self._chosen
        if state is None:
            return

        def deleted(found: DeletedState) -> None:
            self._deleted.append(found)
            if self.context.prompt_session.state == str(found.path):
                self.context.prompt_session.state = ""
            self._show(f"{found.path.stem} deleted, u undoes it")
            self._read()

        self.context.in_thread(lambda: store.states.delete_state(state.name), deleted, self._failed)

    def action_undo(self) -> None:
        """Restore the state that was deleted last."""
        if not self._deleted:
            self._show("nothing to undo")
            return
        state = self._deleted.pop()

        def restored(_nothing: None) -> None:
            self._show(f"{state.path.stem} restored")
            self._read(then=state.path.stem)

        self.context.in_thread(lambda: store.states.restore_state(state), restored, self._failed)

    def action_copy(self) -> None:
        """Copy the state under the cursor to a file, whose path is asked."""
        state = self._chosen
        if state is None:
            return

        def answered(path: str | None) -> None:
            if path:
                self.context.in_thread(
                    lambda: store.states.copy_state(state.path, path),
                    lambda written: self._show(f"saved as {written}"),
                    self._failed,
                )

        question = AskScreen(
            f"Copy {state.name} to",
            str(_folder() / f"{state.name}{SUFFIX}"),
            _check_path,
            about="a new file, or a folder",
            most=MAX_PATH,
        )
        self.app.push_screen(question, answered)

    def _failed(self, error: RnnlmError | OSError) -> None:
        self._show(in_one_sentence(error), trouble=True)

    def _show(self, outcome: str = "", *, trouble: bool = False) -> None:
        """Show the keys, below what just happened; on the pane if this screen is closed."""
        if not self.is_attached:
            if outcome:
                self._app_context.report(outcome, trouble=trouble)
            return
        self.show_below(
            keys_in_line([key for key in KEYS if self._run is not None or key[0] != "p"], gap=2),
            outcome,
            trouble=trouble,
        )

    def _show_legend(self) -> None:
        states = self._states or []
        size = disk(sum(state.bytes for state in states))
        self.query_one(TitledContainer).legend = Content.styled(
            f"{counted(len(states), 'state')}, {size}" if states else "none kept yet", DIM
        )

    def _list(self) -> None:
        """List two lines for each state; the cursor keeps its place."""
        first = Content.assemble(self._sign(""), ("initial state", TEXT), ("  zeros", DIM))
        self.list_options([Option(first), *map(self._option, self._states or [])])

    def _sign(self, path: str) -> tuple[str, str]:
        return ("● " if self.context.prompt_session.state == path else "  ", TRAIN)

    def _option(self, state: StateInfo) -> Option:
        name = (safe_text(state.name, limit=40, newlines="show"), BRIGHT)
        if state.problem:
            problem = safe_text(state.problem, limit=200, newlines="space")
            return Option(
                Content.assemble(self._sign(str(state.path)), name, (f"\n    {problem}", BAD))
            )
        past = age(max(0.0, time() - state.created))
        facts = [
            safe_text(state.shape, limit=30, newlines="show"),
            f"{safe_text(state.run, limit=20, newlines='show')} step {state.step:,}"
            if state.run
            else "",
            counted(state.tokens, "token"),
            past if past == "now" else f"{past} ago",
        ]
        room = max(10, min(self.app.size.width, 100) - 10)
        text = safe_text(state.text[-4 * room :], newlines="space")
        end = text if len(text) <= room else f"…{text[1 - room :]}"
        return Option(
            Content.assemble(
                self._sign(str(state.path)),
                name,
                (f"  {'  '.join(filter(None, facts))}", DIM),
                (f"\n    {end}" if end else "", FAINT),
            )
        )


def _folder() -> Path:
    """Return the current folder, or the home of the user if that was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return Path.home()


def _check_path(path: str) -> None:
    if not path.strip():
        raise InputError("give the path of a file")
