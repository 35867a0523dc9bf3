"""A guide's Markdown as Rich draws it, for a pager and for the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import Heading, Markdown, MarkdownElement, TableElement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table


class GuideHeading(Heading):
    """A heading at the left, whose segments tell its level and title to a table of contents."""

    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.stylize(Style(meta={"heading": (int(self.tag[1:]), self.text.plain)}))
        return super().__rich_console__(console, options)


class GuideTable(TableElement):
    """A table whose long words are broken; Rich cuts them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            if isinstance(part, Table):
                for column in part.columns:
                    column.overflow = "fold"
            yield part


class GuideMarkdown(Markdown):
    """A guide; its console's theme has the colours."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": GuideHeading,
        "table_open": GuideTable,
    }


def headings(lines: Sequence[Sequence[Segment]]) -> list[tuple[int, str, int]]:
    """Return level, title and row of each heading in the lines of a guide."""
    found: list[tuple[int, str, int]] = []
    for row, line in enumerate(lines):
        style = line[0].style if line else None
        level, title = style.meta.get("heading", (0, "")) if style is not None else (0, "")
        if level and (not found or found[-1][1] != title):  # a long title has several rows
            found.append((level, title, row))
    return found
