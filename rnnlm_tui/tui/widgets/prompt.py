"""The text field for prompts and its frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events, getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui import store
from rnnlm_tui.schema.formatting import counted, is_joiner
from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.actions import ACTIONS, Action, action
from rnnlm_tui.tui.palette import BAD, TEXT
from rnnlm_tui.tui.text import line
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_area import SafeTextArea
from rnnlm_tui.tui.widgets.text_field import with_line_breaks, without_controls

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp


class PromptHistory:
    """Prompts from oldest to newest; recalling one keeps the unsent text.

    An unsent text that other prompts contain is a search: only those are recalled.
    """

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self._found: list[str] = []
        """While one is recalled: all prompts, or those with the unsent text, and at the end that
        text."""
        self._place = -1
        """The recalled one, counted from the end."""

    def load(self, prompts: Sequence[str]) -> None:
        """Add prompts of earlier sessions before those of this one."""
        self.prompts, self._place = [*prompts, *self.prompts], -1

    def add(self, prompt: str) -> bool:
        """Add a sent prompt; return False if it is empty or repeats the newest."""
        self._place = -1
        if not prompt.strip() or self.prompts[-1:] == [prompt]:
            return False
        self.prompts.append(prompt)
        return True

    def matches(self, text: str) -> list[str]:
        """Return the longer prompts that contain a text, in any case; none for an empty one."""
        wanted = text.strip().casefold()
        if not wanted or text in self.prompts:
            return []
        return [prompt for prompt in self.prompts if wanted in prompt.casefold()]

    def recall(self, present: str, by: int) -> str | None:
        """Return the prompt before (-1) or after (1) the recalled one; None at the end.

        Args:
            present: the unsent text, if none is recalled.
        """
        if self._place == -1:
            self._found = [*(self.matches(present) or self.prompts), present]
        if not -len(self._found) <= self._place + by < 0:
            return None
        self._place += by
        return self._found[self._place]


class PromptBox(OrderedKeys, SafeTextArea, can_focus=True):
    """A text area of one to four lines; a longer prompt scrolls."""

    DEFAULT_CSS = """
    PromptBox {
        height: auto; min-height: 1; max-height: 4; border: none; padding: 0; background: #121212;
        color: #eeeeee; scrollbar-size: 0 0;
    }
    PromptBox:focus { border: none; background-tint: #121212 0%; }
    PromptBox .text-area--cursor-line { background: #121212; }
    PromptBox .text-area--cursor { background: #5fd7ff; color: #121212; text-style: none; }
    PromptBox .text-area--selection { background: #005f87; color: #eeeeee; }
    PromptBox .text-area--placeholder { color: #808080; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.generate", show=False),
        Binding("up", "line_or_prompt(-1)", show=False),
        Binding("down", "line_or_prompt(1)", show=False),
        Binding("ctrl+j", "newline", show=False),
        Binding("ctrl+u", "clear", show=False),
        Binding("pageup", "screen.to_older(1)", show=False, id="older_text"),
        Binding("pagedown", "screen.to_older(-1)", show=False, id="newer_text"),
        Binding("ctrl+k", "screen.next_checkpoint", show=False, id="next_checkpoint"),
        Binding("ctrl+y", "screen.copy_text", show=False, id="copy_text"),
        # Textual selects text with these two
        Binding("f6", "screen.undo_branch", show=False, id="undo_branch"),
        Binding("f7", "screen.kept_samples", show=False, id="kept_samples"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, highlight_cursor_line=False)
        self.cursor_blink = False
        self._typed: list[str] = []
        """Typed characters, inserted together: each change rewraps the whole line."""

    def takes(self, key: str, character: str | None) -> bool:
        """Take the focus for a key that types, from anything but another text field.

        A digit with a meaning on the screen is typed only if the box has the focus already.
        """
        if character is None or not (character.isprintable() or is_joiner(character)):
            return False
        focused = self.app.focused
        if self.app.screen is not self.screen or focused is self:
            return focused is self
        if focused is not None and focused.check_consume_key("", " "):
            return False
        if key.isdigit() and key in self.screen.active_bindings:
            return False
        self.screen.set_focus(self)
        return True

    async def on_key(self, event: events.Key) -> None:
        """Collect characters typed in a row; insert them before any other key is handled."""
        if self.takes(event.key, event.character):
            event.stop()
            event.prevent_default()
            self._typed.append(event.character or "")
            if len(self._typed) == 1:
                self.call_later(self._put_typed)  # after the keys that have arrived by now
        else:
            self._put_typed()

    def _put_typed(self) -> None:
        if self._typed:
            text = "".join(self._typed)
            self._typed.clear()
            self.replace(text, *self.selection, maintain_selection_offset=False)

    on_mouse_down = on_blur = _put_typed

    async def on_paste(self, event: events.Paste) -> None:
        """Remove from a paste what doesn't fit or could act on a terminal, and report it."""
        self._put_typed()
        room = max(0, MAX_PROMPT_CHARACTERS - len(self.text) + len(self.selected_text))
        pasted = with_line_breaks(event.text)
        taken = without_controls(pasted[: 2 * room])[
            :room
        ]  # twice: no need to look through a whole megabyte
        if taken != pasted:
            event.text = taken
            cut = len(pasted) > room
            words = (
                f"kept {len(taken):,} of {counted(len(pasted), 'character')} pasted: a prompt"
                f" takes {MAX_PROMPT_CHARACTERS:,}"
                if cut
                else f"removed {counted(len(pasted) - len(taken), 'control character')} from the"
                " paste"
            )
            cast("RnnlmApp", self.app).report(words, trouble=True)

    def action_newline(self) -> None:
        """Insert a line break."""
        self.insert("\n")

    def action_clear(self) -> None:
        """Clear the text; ctrl+z restores it."""
        self.clear()

    def put(self, text: str) -> None:
        """Replace the text and put the cursor at its end."""
        self.load_text(text[:MAX_PROMPT_CHARACTERS])
        self.move_cursor(self.document.end)

    def action_line_or_prompt(self, by: int) -> None:
        """Move a line up or down; from the first recall an earlier prompt, from the last a later
        one."""
        if not 0 <= self.cursor_location[0] + by < self.document.line_count:
            cast(PromptFrame, self.parent).recall(by)
        elif by > 0:
            self.action_cursor_down()
        else:
            self.action_cursor_up()


class PromptFrame(TitledContainer):
    """The prompt's box in a frame, with the size of its text. A text to edit takes its place."""

    DEFAULT_CSS = """
    PromptFrame { height: auto; max-height: 6; }
    PromptFrame.-editing { max-height: 70%; }
    PromptFrame.-editing PromptBox { max-height: 100; }
    """
    box = getters.query_one(PromptBox)

    def __init__(self, named: Sequence[str] = (), *, id: str | None = None) -> None:
        """Name these actions in the bottom edge; the last lines have no room for them."""
        super().__init__(title="Prompt", id=id)
        self._named = named
        self.history = PromptHistory()
        """Prompts that up and down recall."""
        self.tokens: dict[str, int] = {}
        """Tokens of texts, where they are known."""
        self._editing = False
        """Whether the box holds a text to edit instead of the prompt."""

    def compose(self) -> ComposeResult:
        yield PromptBox(id="prompt-box")

    def on_mount(self) -> None:
        context = cast("RnnlmApp", self.app)
        context.in_thread(lambda: store.state.read_history(), self.history.load)

    def remember(self) -> None:
        """Add the prompt in the box to the history: it is sent."""
        prompt = self.box.text
        if self.history.add(prompt):
            context = cast("RnnlmApp", self.app)
            context.in_thread(lambda: store.state.append_history(prompt))

    def edit(self, text: str, *, editing: bool = True) -> None:
        """Put a text to edit in the place of the prompt, or afterwards the prompt."""
        self._editing = editing
        self.set_class(editing, "-editing")
        self.box.put(text)
        self.show_facts()

    def recall(self, by: int) -> None:
        """Show an earlier prompt in the box, or a later one; not in place of a text to edit."""
        if not self._editing:
            text = self.history.recall(self.box.text, by)
            if text is not None:
                self.box.put(text)

    def show_facts(self) -> None:
        """Show what the box is for, from which kept state samples start, and its text's length."""
        text, self.legend = self.box.text, ""
        state = Path(cast("RnnlmApp", self.app).prompt_session.state).stem
        if text:
            number, _, noun = counted(len(text), "character").partition(" ")
            tokens = f", {counted(self.tokens[text], 'token')}" if text in self.tokens else ""
            colour = BAD if len(text) > MAX_PROMPT_CHARACTERS else TEXT
            self.legend = line(f"{{}} {noun}{tokens}", (number, colour))
        actions: Sequence[Action] = getattr(self.app, "actions", ACTIONS)
        named = [] if self._editing else [action(name, actions) for name in self._named]
        keys = (line(f"{{}} {one.verb.lower()}", (one.label, f"bold {TEXT}")) for one in named)
        self.border_subtitle = Content("   ").join(keys).markup
        title = f"Prompt, from state {state}" if state else "Prompt"
        self.panel_title = "Edit the text" if self._editing else title

    on_text_area_changed = show_facts
