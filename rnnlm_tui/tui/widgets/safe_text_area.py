"""A multi-line text field without control characters.

Apart from the one-line field, because the first paint doesn't need Textual's editor.
"""

from __future__ import annotations

from textual.events import Key
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

from rnnlm_tui.contract.outside_text import is_joiner
from rnnlm_tui.tui.widgets.safe_text import without_controls


class SafeTextArea(TextArea):
    """A text area that removes control characters."""

    async def _on_key(self, event: Key) -> None:
        """Insert a typed joiner: Textual takes it for a key without a character."""
        if is_joiner(event.character):
            event.stop()
            event.prevent_default()
            self.replace(event.character or "", *self.selection, maintain_selection_offset=False)

    def _set_document(self, text: str, language: str | None) -> None:
        """Sanitize a whole text, the initial one included."""
        super()._set_document(without_controls(text), language)

    def edit(self, edit: Edit) -> EditResult:
        """Sanitize every keystroke and paste."""
        edit.text = without_controls(edit.text)
        return super().edit(edit)
