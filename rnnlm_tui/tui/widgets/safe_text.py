"""Text fields that take no control characters: what is pasted into them is drawn by Textual as it is, escape sequences included."""

from __future__ import annotations

from textual.widgets import Input, TextArea
from textual.widgets.text_area import Edit, EditResult

from rnnlm_tui.contract.outside_text import UNSAFE


def without_controls(text: str, *, keep: str = "\n\t") -> str:
    """The text without what could act on a terminal or stand in it unseen; `keep` passes."""
    text = text.replace("\r\n", "\n")
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else "", text)


class SafeInput(Input):
    """One line, without control characters."""

    def validate_value(self, value: str) -> str:
        """Textual's hook for every change of the value."""
        return without_controls(value, keep="")


class SafeTextArea(TextArea):
    """Several lines, without control characters."""

    def _set_document(self, text: str, language: str | None) -> None:
        """Textual's way for every whole text, the first one included."""
        super()._set_document(without_controls(text), language)

    def edit(self, edit: Edit) -> EditResult:
        """Textual's way for every keystroke and paste."""
        edit.text = without_controls(edit.text)
        return super().edit(edit)
