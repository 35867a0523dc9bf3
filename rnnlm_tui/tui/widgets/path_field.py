"""A text field for a path: tab completes it, as in a shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.widgets.text_field import SafeInput

MOST_CANDIDATES = 40
"""Names that are shown; more don't help."""


async def completed(text: str, words: Sequence[str] = ()) -> tuple[str, str]:
    """Complete a path in a thread, because disks may be slow.

    Return the text as far as it is unambiguous, and the names that would fit, empty if it is.
    """
    from rnnlm_tui.tui.folders import complete_path

    found = await to_thread(complete_path, text, words)
    names = found.candidates[:MOST_CANDIDATES]
    more = len(found.candidates) - len(names)
    return found.text, "  ".join(names) + (f"  and {more:,} more" if more > 0 else "")


class PathInput(SafeInput):
    """An input whose tab completes a path."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", show=False, priority=True)]

    class Candidates(Message):
        """Several names fit what was typed, or none does (empty)."""

        def __init__(self, names: str) -> None:
            super().__init__()
            self.names = names
            """Separated by blanks."""

    async def action_complete(self) -> None:
        """Complete the path."""
        typed = self.value
        text, names = await completed(typed)
        if self.value == typed:  # not typed on meanwhile
            self.value = text
            self.cursor_position = len(text)
            self.post_message(self.Candidates(names))
