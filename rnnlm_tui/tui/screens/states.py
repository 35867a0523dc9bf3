"""StatesScreen: kept states of recurrent models, to start from, keep, delete and copy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui import store
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import ago, counted, disk
from rnnlm_tui.store.states import SUFFIX, check_state_name, state_shape
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FAINT, TEXT, TRAIN
from rnnlm_tui.tui.sampling import keep_state
from rnnlm_tui.tui.screens.manage import Done, ManageScreen
from rnnlm_tui.tui.screens.overlay import AskScreen, keys_in_line
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.threads import act

if TYPE_CHECKING:
    from rnnlm_tui.store.states import DeletedState, StateInfo

KEYS = (
    ("enter", "use"), ("p", "keep the current one"), ("d", "delete"), ("u", "undo"),
    ("e", "copy"), ("esc", "close"),
)  # fmt: skip
MAX_PATH = 1_000


class StatesScreen(ManageScreen["StateInfo | None", str]):
    """Returns the path of the state to start from, empty for the initial state; None for no change.

    Args:
        models: configs of the runs whose models sample, by name; a state that one of them can't
            start from is refused.
        run: the run that a new state is named after; None: there is no text whose state could be
            kept.
    """

    DEFAULT_CSS = """
    StatesScreen TitledContainer { width: 100; }
    """
    LIST_TITLE = "States"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f8", "dismiss", id="kept_states"), ("p", "keep"), ("d", "delete"), ("u", "undo"),
        ("e", "copy"),
    ]  # fmt: skip

    def __init__(self, models: Mapping[str, RunConfig], run: str | None) -> None:
        super().__init__([None])
        self._models, self._run = models, run

    def read(self) -> list[StateInfo | None]:
        """Return the initial state, and those that are kept."""
        return [None, *store.states.list_states()]

    def name_of(self, item: StateInfo | None) -> str:
        return item.name if item else ""

    def legend(self) -> str:
        sizes = [state.bytes for state in self.items if state]
        return f"{counted(len(sizes), 'state')}, {disk(sum(sizes))}" if sizes else "none kept yet"

    def keys(self) -> Content:
        return keys_in_line([key for key in KEYS if self._run is not None or key[0] != "p"], gap=2)

    def row(self, item: StateInfo | None) -> Content:
        """Return two lines."""
        if item is None:
            return Content.assemble(self._sign(""), ("initial state", TEXT), ("  zeros", DIM))
        head = Content.assemble(
            self._sign(str(item.path)), (safe_text(item.name, limit=40, newlines="show"), BRIGHT)
        )
        if item.problem:
            problem = safe_text(item.problem, limit=200, newlines="space")
            return Content.assemble(head, (f"\n    {problem}", BAD))
        run = safe_text(item.run, limit=20, newlines="show")
        facts = [
            safe_text(item.shape, limit=30, newlines="show"),
            f"{run} step {item.step:,}" if run else "",
            counted(item.tokens, "token"),
            ago(time() - item.created),
        ]
        room = max(10, min(self.app.size.width, 100) - 10)
        text = safe_text(item.text[-4 * room :], newlines="space")
        end = text if len(text) <= room else f"…{text[1 - room :]}"
        return Content.assemble(
            head,
            (f"  {'  '.join(filter(None, facts))}", DIM),
            (f"\n    {end}" if end else "", FAINT),
        )

    def _sign(self, path: str) -> tuple[str, str]:
        return ("● " if self.context.prompt_session.state == path else "  ", TRAIN)

    def action_choose(self) -> None:
        """Close with the state under the cursor, if the models can start from it."""
        state = self.chosen
        problem = state and (state.problem or self._refusal(state))
        if problem:
            self.say(problem, trouble=True)
        else:
            self.dismiss(str(state.path) if state else "")

    def _refusal(self, state: StateInfo) -> str:
        """Return why a model can't start from the state, with both shapes."""
        for run, config in self._models.items():
            model = config.model
            shape = state_shape(model.cell_type, model.num_layers, model.hidden_size)
            if shape != state.shape:
                return f"{state.name} is a state of {state.shape}, and {run} is {shape}"
        return ""

    @act
    async def action_keep(self) -> None:
        """Keep the state after the current text, under a name that is asked."""
        context, run = self.context, self._run
        if run is None:
            return
        title, about = "Keep the state after the current text as", "letters, digits and . _ -"
        try:
            free = await context.wait_for(lambda: store.states.free_state_name(run or "state"))
            name = await context.ask(AskScreen(title, free, self._check_name, about=about, most=64))
            if name is None:
                return
            self.say("keeping the state …")  # said on the pane if this screen is closed meanwhile
            kept = await keep_state(context, name)
        except (RnnlmError, OSError) as error:
            self.failed(error)
        else:
            self.say(f"{kept.name} kept: the state after {counted(kept.tokens, 'token')}")
            self.reread(kept.name)

    def _check_name(self, name: str) -> None:
        check_state_name(name)
        if name in map(self.name_of, self.items):
            raise InputError(f'a state "{name}" exists already')

    def action_delete(self) -> None:
        """Delete the state under the cursor."""
        state = self.chosen
        if state is None:
            return

        def deleted(found: DeletedState) -> Done:
            if self.context.prompt_session.state == str(found.path):
                self.context.prompt_session.state = ""
            undo = (lambda: store.states.restore_state(found), f"{state.name} restored")
            return Done(f"{state.name} deleted, u undoes it", state.name, undo)

        self.change(lambda: store.states.delete_state(state.name), deleted)

    @act
    async def action_copy(self) -> None:
        """Copy the state under the cursor to a file, whose path is asked."""
        state = self.chosen
        if state is None:
            return
        title, free = f"Copy {state.name} to", str(Path.cwd() / f"{state.name}{SUFFIX}")
        about = "a new file, or a folder"
        path = await self.context.ask(
            AskScreen(title, free, _check_path, about=about, most=MAX_PATH)
        )
        if path:
            self.change(
                lambda: store.states.copy_state(state.path, path),
                lambda written: Done(f"saved as {written}"),
            )


def _check_path(path: str) -> None:
    if not path.strip():
        raise InputError("give the path of a file")
