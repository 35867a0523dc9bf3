"""What the config pane keeps while a draft is edited: undone edits, and what it is compared with.

Drafts are immutable, so the history is a list of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.tui.palette import BRIGHT
from rnnlm_tui.tui.text import line, safe_content, safe_text
from rnnlm_tui.tui.views.form import (
    FIELDS,
    FORM_FIELDS,
    Draft,
    is_same,
    shown_value,
)

MOST_EDITS = 500
"""Edits that can be undone; older ones are forgotten."""


class EditHistory:
    """The drafts before each edit, and those that were undone."""

    def __init__(self) -> None:
        self._past: list[Draft] = []
        self._future: list[Draft] = []
        self._group = ""

    def record(self, before: Draft, after: Draft, group: str = "") -> None:
        """Remember an edit.

        Args:
            group: edits of one group in a row are undone together, such as the keys typed into a
                field; empty: an edit of its own.
        """
        if after == before:
            return
        self._future.clear()
        if group and group == self._group and self._past:
            if self._past[-1] == after:  # the editor was left without a change
                self._past.pop()
                self._group = ""
            return
        self._group = group
        self._past.append(before)
        del self._past[:-MOST_EDITS]

    def travel(self, current: Draft, direction: int) -> Draft | None:
        """Undo (-1) or redo (1): return the draft before the last edit, or the one that was undone
        last; None if there is none."""
        here, there = (self._past, self._future) if direction < 0 else (self._future, self._past)
        if not here:
            return None
        there.append(current)
        self._group = ""
        return here.pop()


def changed_fields(before: Draft, after: Draft) -> tuple[str, ...]:
    """Return the paths of the fields whose values differ, in the order of the form."""
    return tuple(
        field.path
        for field in FORM_FIELDS
        if not is_same(after.value(field.path), before.value(field.path))
    )


def edit_text(before: Draft, after: Draft) -> str:
    """Describe an edit: `peak rate 3e-3 → 5e-3`, `4 fields`, or another base's name."""
    paths = changed_fields(before, after)
    if before.base_name != after.base_name:
        return after.base_name
    if len(paths) != 1:
        return f"{len(paths)} fields" if paths else "the comments of the file"
    field = FIELDS[paths[0]]
    was, now = (shown_value(field, draft.value(field.path)) or "none" for draft in (before, after))
    return f"{field.title} {was} → {now}"


def comparisons(draft: Draft) -> Sequence[Draft]:
    """Return what a draft is compared with, one after another: base, preset, defaults."""
    preset = PRESETS.get(draft.base.preset)
    found = []
    if draft.parent is not None:
        found.append(Draft(draft.base, draft.parent.address))
    elif not draft.base_name.startswith("preset "):
        found.append(Draft(draft.base, draft.base_name))
    if preset is not None:
        found.append(Draft(preset, f"preset {draft.base.preset}"))
    return (*found, Draft(RunConfig(), "the defaults"))


def draft_identity(draft: Draft, name: str, width: int, *, wide: bool) -> Content:
    """Return line 1 of a draft: its name, and what it is based on; a draft has no status yet."""
    shown = safe_content(name or "new run").stylize(f"bold {BRIGHT}")
    if draft.parent is not None:
        kept = ", optimizer kept" if draft.parent.optimizer == "keep" and wide else ""
        fork = f"draft, fork of {safe_text(draft.parent.address, limit=70)}{kept}"
        return line("{} ○ {}", shown, fork)
    brief = line("{} ○ {}", shown, "draft, not started")
    has_preset = draft.base_name.startswith("preset ")
    kind, name = ("preset", draft.base.preset) if has_preset else ("from", draft.base_name)
    more = line("{}   " + kind + " {}", brief, safe_text(name, limit=40))
    return more if more.cell_length <= width and (wide or not has_preset) else brief
