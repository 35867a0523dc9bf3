"""What the config pane keeps while a draft is edited: undone edits, and what it is compared with.

Drafts are immutable, so the history is a list of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.tui.views.form import FORM_FIELDS, Draft, is_same, shown_value, value_at

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

    def undo(self, current: Draft) -> Draft | None:
        """Return the draft before the last edit; None if there is none."""
        if not self._past:
            return None
        self._future.append(current)
        self._group = ""
        return self._past.pop()

    def redo(self, current: Draft) -> Draft | None:
        """Return the draft that was undone last; None if there is none."""
        if not self._future:
            return None
        self._past.append(current)
        self._group = ""
        return self._future.pop()

    def clear(self) -> None:
        """Forget everything: the draft was started, saved or closed."""
        self._past.clear()
        self._future.clear()
        self._group = ""


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
    field = next(field for field in FORM_FIELDS if field.path == paths[0])
    was, now = (shown_value(field, draft.value(field.path)) or "none" for draft in (before, after))
    return f"{field.title} {was} → {now}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A config that the draft is compared with: only fields that differ are shown."""

    name: str
    """As shown: `preset demo`, `the defaults`, `plain-otter`."""
    config: RunConfig

    @property
    def label(self) -> str:
        """The name in front of its value beside a field: `demo`, `default`, `plain-otter`."""
        return {"the defaults": "default"}.get(self.name, self.name.removeprefix("preset "))

    def differing(self, draft: Draft) -> frozenset[str]:
        """Return the paths of the fields that differ."""
        return frozenset(
            field.path
            for field in FORM_FIELDS
            if not is_same(draft.value(field.path), value_at(self.config, field.path))
        )


DEFAULTS = "the defaults"
LAST_PLACE = 9
"""Place of the comparison with a run, behind all others."""


def comparisons(draft: Draft) -> Sequence[Comparison]:
    """Return what a draft is compared with, one after another: base, preset, defaults."""
    preset = PRESETS.get(draft.base.preset)
    found = []
    if draft.parent is not None:
        found.append(Comparison(draft.parent.address, draft.base))
    elif not draft.base_name.startswith("preset "):
        found.append(Comparison(draft.base_name, draft.base))
    if preset is not None:
        found.append(Comparison(f"preset {draft.base.preset}", preset))
    return (*found, Comparison(DEFAULTS, RunConfig()))


class ComparisonCycle:
    """The comparisons that are shown one after another, then all fields again."""

    def __init__(self) -> None:
        self.current: Comparison | None = None
        """The one that is shown; None: all fields."""
        self._place = -1
        """Place of the current one among `comparisons`; behind them: a run; -1: all fields."""

    def reset(self) -> None:
        """Show all fields."""
        self.current, self._place = None, -1

    def show(self, comparison: Comparison) -> None:
        """Show the comparison with a run, the last one of the cycle."""
        self.current, self._place = comparison, LAST_PLACE

    def advance(self, draft: Draft) -> bool:
        """Go to the next comparison; return False if a run has to be chosen for it."""
        known = comparisons(draft)
        self._place += 1
        if self._place < len(known):
            self.current = known[self._place]
            return True
        asks = self._place == len(known)
        self.reset()
        return not asks

    def show_if_differing(self, path: str, draft: Draft | None) -> None:
        """Show all fields, unless the comparison shows this one."""
        if self.current is not None and (
            draft is None or path not in self.current.differing(draft)
        ):
            self.reset()
