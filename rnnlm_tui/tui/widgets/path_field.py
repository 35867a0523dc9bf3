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
        await self.complete()

    async def complete(self, words: Sequence[str] = ()) -> bool:
        """Complete the path in a thread, because disks may be slow; return if there is anything."""
        from rnnlm_tui.tui.folders import complete_path

        typed = self.value
        found = await to_thread(complete_path, typed, words)
        names = found.candidates[:MOST_CANDIDATES]
        more = len(found.candidates) - len(names)
        if self.value == typed:  # not typed on meanwhile
            self.value = found.text
            self.cursor_position = len(found.text)
            rest = f"  and {more:,} more" if more > 0 else ""
            self.post_message(self.Candidates("  ".join(names) + rest))
        return bool(names) or found.text != typed
