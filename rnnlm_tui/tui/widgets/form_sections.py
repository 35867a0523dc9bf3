"""The list of the config's sections, with marks for changes and problems."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.strip import Strip

from rnnlm_tui.contract.config import SECTIONS
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.errors import Problem
from rnnlm_tui.tui.widgets.form_draft import Draft, field_of
from rnnlm_tui.tui.widgets.form_fields import section_title
from rnnlm_tui.tui.widgets.palette import BAD, BRIGHT, DIM, SELECTED, TEXT, TRAIN, WARN
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of


def form_legend(draft: Draft, problems: Sequence[Problem], section: str | None, *, locked: bool) -> Content:
    """Return `● 2 changed  ✗ 1 problem` of a section, or of all (None), and a hint if locked."""
    begins = "" if section is None else f"{section}."
    changed = sum(path.startswith(begins) for path in draft.changes)
    wrong = sum(field_of(problem).startswith(begins) for problem in problems)
    parts = []
    if locked:
        parts.append(Content.assemble(("frozen  ", DIM), ("n", f"bold {TEXT}"), (" makes a new run from it", DIM)))
    if changed:
        parts.append(Content.assemble(("● ", WARN), (f"{changed} changed", DIM)))
    if wrong:
        parts.append(Content.styled(f"✗ {counted(wrong, 'problem')}", BAD))
    return Content("  ").join(parts)


class SectionList(Panel):
    """One line per section; a click opens it."""

    class Chosen(Message):
        """A section was clicked."""

        def __init__(self, section: str) -> None:
            super().__init__()
            self.section = section
            """The section's name."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Sections", id=id)
        self._current = SECTIONS[0]
        self._changed: frozenset[str] = frozenset()
        self._wrong: frozenset[str] = frozenset()

    def show(self, draft: Draft, problems: Sequence[Problem], current: str) -> None:
        """Show which sections have changes and problems, and which one is open."""
        self._changed = frozenset(path.partition(".")[0] for path in draft.changes)
        self._wrong = frozenset(field_of(problem).partition(".")[0] for problem in problems)
        self._current = current
        self.redraw()

    def content_line(self, y: int, width: int) -> Strip:
        """Return a section's line, or the legend of the marks at the bottom."""
        if y < len(SECTIONS):
            return self._section_line(SECTIONS[y], width)
        foot = [Content.assemble(("● ", WARN), ("changed", DIM)), Content.assemble(("✗ ", BAD), ("problem", DIM))]
        index = y - (self.inner_size.height - len(foot))
        return padded(segments_of(foot[index]) if index >= 0 else [], width)

    def _section_line(self, section: str, width: int) -> Strip:
        here = section == self._current
        mark = ("✗", BAD) if section in self._wrong else ("●", WARN) if section in self._changed else (" ", TEXT)
        title = section_title(section).ljust(max(0, width - 3))
        back = f" on {SELECTED}" if here else ""
        name_style = f"bold {BRIGHT}" if here else TEXT
        cursor = ("› " if here else "  ", f"{TRAIN}{back}")
        return padded(segments_of(Content.assemble((mark[0], f"{mark[1]}{back}"), cursor, (title, f"{name_style}{back}"))), width)

    def on_click(self, event: Click) -> None:
        if 1 <= event.y <= len(SECTIONS):
            self.post_message(self.Chosen(SECTIONS[event.y - 1]))
