"""The text field for prompts: enter sends, ctrl+j breaks the line, up and down recall prompts."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.outside_text import is_joiner
from rnnlm_tui.contract.requests import MAX_PROMPT_CHARACTERS
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.widgets.safe_text import with_line_breaks, without_controls
from rnnlm_tui.tui.widgets.safe_text_area import SafeTextArea


class PromptBox(OrderedKeys, SafeTextArea, can_focus=True):
    """A text area of one to four lines; a longer prompt scrolls."""

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
        """Enter was pressed."""

        def __init__(self, prompt: str) -> None:
            super().__init__()
            self.prompt = prompt
            """The text as typed."""

    class HistoryRequested(Message):
        """Up on the first line or down on the last: an earlier or later prompt is wanted."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction
            """-1 for earlier, 1 for later."""

    class PasteShortened(Message):
        """Part of a paste was removed."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words
            """What was removed, and why."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False, placeholder="")
        self.cursor_blink = False
        self._typed: list[str] = []
        """Typed characters, inserted together: each change rewraps the whole line."""

    async def on_key(self, event: events.Key) -> None:
        """Collect characters typed in a row; insert them before any other key is handled."""
        if event.character is not None and (event.is_printable or is_joiner(event.character)) and self.app.focused is self:
            event.stop()
            event.prevent_default()
            self._typed.append(event.character)
            if len(self._typed) == 1:
                self.call_later(self._put_typed)  # after the keys that have arrived by now
        else:
            self._put_typed()

    def _put_typed(self) -> None:
        if self._typed:
            text = "".join(self._typed)
            self._typed.clear()
            self.replace(text, *self.selection, maintain_selection_offset=False)

    async def on_paste(self, event: events.Paste) -> None:
        """Remove from a paste what doesn't fit or could act on a terminal, and report it."""
        self._put_typed()
        room = max(0, MAX_PROMPT_CHARACTERS - len(self.text) + len(self.selected_text))
        pasted = with_line_breaks(event.text)
        taken = without_controls(pasted[: 2 * room])[:room]  # twice: no need to look through a whole megabyte
        if taken != pasted:
            event.text = taken
            cut = len(pasted) > room
            self.post_message(
                self.PasteShortened(
                    f"kept {len(taken):,} of {counted(len(pasted), 'character')} pasted: a prompt takes {MAX_PROMPT_CHARACTERS:,}"
                    if cut
                    else f"removed {counted(len(pasted) - len(taken), 'control character')} from the paste"
                )
            )

    async def on_mouse_down(self, _event: events.MouseDown) -> None:
        self._put_typed()

    def on_blur(self, _event: events.Blur) -> None:
        self._put_typed()

    def action_send(self) -> None:
        """Send the prompt."""
        self.post_message(self.Submitted(self.text))

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

    def action_up_or_earlier(self) -> None:
        """Move a line up, or recall an earlier prompt from the first line."""
        if self.cursor_location[0] == 0:
            self.post_message(self.HistoryRequested(-1))
        else:
            self.action_cursor_up()

    def action_down_or_later(self) -> None:
        """Move a line down, or recall a later prompt from the last line."""
        if self.cursor_location[0] == self.document.line_count - 1:
            self.post_message(self.HistoryRequested(1))
        else:
            self.action_cursor_down()
