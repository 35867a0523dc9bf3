"""The box a prompt is written in: enter sends it, ctrl+j breaks the line, up and down bring earlier prompts."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.outside_text import is_joiner
from rnnlm_tui.contract.requests import MAX_PROMPT_CHARACTERS
from rnnlm_tui.tui.widgets.ordered_keys import OrderedKeys
from rnnlm_tui.tui.widgets.safe_text import with_line_breaks, without_controls
from rnnlm_tui.tui.widgets.safe_text_area import SafeTextArea


class PromptBox(OrderedKeys, SafeTextArea, can_focus=True):
    """A text area of one to four lines without a blinking cursor; a longer prompt scrolls in it."""

    DEFAULT_CSS = """
    PromptBox { height: auto; min-height: 1; max-height: 4; border: none; padding: 0; background: #121212; color: #eeeeee; scrollbar-size: 0 0; }
    PromptBox:focus { border: none; background-tint: #121212 0%; }
    PromptBox .text-area--cursor-line { background: #121212; }
    PromptBox .text-area--cursor { background: #5fd7ff; color: #121212; text-style: none; }
    PromptBox .text-area--selection { background: #005f87; color: #eeeeee; }
    PromptBox .text-area--placeholder { color: #808080; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", show=False),
        Binding("up", "up_or_earlier", show=False),
        Binding("down", "down_or_later", show=False),
        Binding("ctrl+j", "newline", show=False),
        Binding("ctrl+u", "clear", show=False),
        Binding("pageup", "screen.older_text", show=False, id="older_text"),
        Binding("pagedown", "screen.newer_text", show=False, id="newer_text"),
        Binding("ctrl+k", "screen.next_checkpoint", show=False, id="next_checkpoint"),
        Binding("ctrl+y", "screen.copy_text", show=False, id="copy_text"),
    ]

    class Submitted(Message):
        """Enter on a prompt."""

        def __init__(self, prompt: str) -> None:
            super().__init__()
            self.prompt = prompt
            """The text as written."""

    class HistoryRequested(Message):
        """Up on the first line, or down on the last: an earlier or a later prompt is wanted."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction
            """-1 earlier, 1 later."""

    class PasteShortened(Message):
        """A part of a paste was left out."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words
            """How much, and why."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False, placeholder="")
        self.cursor_blink = False
        self._typed: list[str] = []
        """Characters that wait to be put in, in one go: each change wraps the whole line anew, which keys in a row would pay for one by one."""

    async def _on_key(self, event: events.Key) -> None:
        """Characters that come in a row go in together; every other key, and every reader of the text, finds them there."""
        if event.character is not None and (event.is_printable or is_joiner(event.character)) and self.app.focused is self:
            event.stop()
            event.prevent_default()
            self._typed.append(event.character)
            if len(self._typed) == 1:
                self.call_later(self._put_typed)  # behind the keys that have arrived by now
        else:
            self._put_typed()

    def _put_typed(self) -> None:
        if self._typed:
            text = "".join(self._typed)
            self._typed.clear()
            self.replace(text, *self.selection, maintain_selection_offset=False)

    async def _on_paste(self, event: events.Paste) -> None:
        """What the prompt has no room for, and what would act on a terminal, is left out and said; the text area takes the rest."""
        self._put_typed()
        room = max(0, MAX_PROMPT_CHARACTERS - len(self.text) + len(self.selected_text))
        pasted = with_line_breaks(event.text)
        taken = without_controls(pasted[: 2 * room])[:room]  # Twice: a megabyte need not be looked through
        if taken != pasted:
            event.text = taken
            cut = len(pasted) > room
            self.post_message(
                self.PasteShortened(
                    f"the paste had {counted(len(pasted), 'character')}, a prompt takes {MAX_PROMPT_CHARACTERS:,}: {len(taken):,} taken"
                    if cut
                    else f"removed {counted(len(pasted) - len(taken), 'control character')} from the paste"
                )
            )

    async def _on_mouse_down(self, _event: events.MouseDown) -> None:
        self._put_typed()

    def _on_blur(self, _event: events.Blur) -> None:
        self._put_typed()

    def action_send(self) -> None:
        """Send the prompt."""
        self.post_message(self.Submitted(self.text))

    def action_newline(self) -> None:
        """A line break in the prompt."""
        self.insert("\n")

    def action_clear(self) -> None:
        """An empty box; ctrl+z brings the text back."""
        self.clear()

    def put(self, text: str) -> None:
        """Another text, the cursor at its end."""
        self.load_text(text[:MAX_PROMPT_CHARACTERS])
        self.move_cursor(self.document.end)

    def action_up_or_earlier(self) -> None:
        """A line up; from the first line to an earlier prompt."""
        if self.cursor_location[0] == 0:
            self.post_message(self.HistoryRequested(-1))
        else:
            self.action_cursor_up()

    def action_down_or_later(self) -> None:
        """A line down; from the last line to a later prompt."""
        if self.cursor_location[0] == self.document.line_count - 1:
            self.post_message(self.HistoryRequested(1))
        else:
            self.action_cursor_down()
