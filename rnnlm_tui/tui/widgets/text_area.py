"""A multi-line text field without control characters.

Apart from the one-line field, because the first paint doesn't need Textual's editor.
"""

from __future__ import annotations

from typing import Any

from textual.events import Key
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

from rnnlm_tui.schema.formatting import is_joiner
from rnnlm_tui.tui.widgets.text_field import without_controls


class SafeTextArea(TextArea):
    """A text area that removes control characters."""

    def __init__(self, text: str = "", **options: Any) -> None:
        super().__init__(without_controls(text), **options)

    async def on_key(self, event: Key) -> None:
        """Insert a typed joiner: Textual takes it for a key without a character."""
        if is_joiner(event.character):
            event.stop()
            event.prevent_default()
            self.replace(event.character or "", *self.selection, maintain_selection_offset=False)

    def load_text(self, text: str) -> None:
        """Replace the whole text."""
        super().load_text(without_controls(text))

    def edit(self, edit: Edit) -> EditResult:
        """Sanitize every keystroke and paste."""
        edit.text = without_controls(edit.text)
        return super().edit(edit)
