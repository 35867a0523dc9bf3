"""A guide over the panes, beside its table of contents."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock
from rich.padding import Padding
from rich.style import Style
from rich.theme import Theme
from textual import getters
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Click
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import OptionList

from rnnlm_tui.docs import GUIDES, Guide, find_guide, fitted
from rnnlm_tui.docs.rendering import GuideMarkdown, headings
from rnnlm_tui.errors import InputError
from rnnlm_tui.tui.actions import shown_keys
from rnnlm_tui.tui.palette import BACKGROUND, BORDER, BRIGHT, DIM, FIELD, FOCUS, TEXT, ink
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.widgets.panel import TitledContainer

KEYS = (
    ("↑ ↓", "scroll"), ("tab", "contents"), ("n p", "next guide, previous"), ("g", "guides"),
    ("t", "hide contents"), ("esc", "close"),
)  # fmt: skip
WIDE = 76
"""Columns from which the table of contents is shown at first."""
CONTENTS_WIDTH = 26
EDGES = 5
"""Cells that border, padding and scroll bar take from the text."""
STYLES = {
    "markdown.h1": ink(BRIGHT, bold=True),
    "markdown.h2": ink(FOCUS, bold=True),
    "markdown.h3": ink(BRIGHT, bold=True),
    "markdown.code": ink(BRIGHT, background=FIELD),
    "markdown.code_block": ink(TEXT, background=FIELD),
    "markdown.link_url": ink(TEXT) + Style(underline=True),
    "markdown.item.bullet": ink(DIM),
    "markdown.item.number": ink(DIM),
    "markdown.table.header": ink(BRIGHT, bold=True),
    "markdown.table.border": ink(BORDER),
}


class GuideCode(CodeBlock):
    """Lines of code on a ground of their own."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.rstrip()
        yield Padding(self.text, (0, 1), style="markdown.code_block")


class GuideLines(GuideMarkdown):
    """A guide as the app draws it."""

    elements: ClassVar = {**GuideMarkdown.elements, "fence": GuideCode, "code_block": GuideCode}


class GuideText(ScrollView, can_focus=True):
    """The text of a guide, drawn once for its width."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("j", "scroll_down"), ("k", "scroll_up"), ("space", "page_down"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[tuple[int, str, int]] = []
        """Level, title and row of each heading."""
        self._rows: list[Strip] = []

    def draw(self, text: str, width: int) -> None:
        """Show this Markdown."""
        lines = Console(width=width, theme=Theme(STYLES)).render_lines(GuideLines(text))
        self._rows = [Strip(line, width) for line in lines]
        self.headings = headings(lines)
        self.virtual_size = Size(width, len(lines))
        self.refresh()

    def go_to(self, anchor: str) -> None:
        """Scroll to the heading of a link."""
        for _, title, row in self.headings:
            if re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") == anchor:
                self.scroll_to(y=row, animate=False)

    def render_line(self, y: int) -> Strip:
        """Return a row in view (Textual's hook)."""
        row = self.scroll_offset.y + y
        strip = self._rows[row] if row < len(self._rows) else Strip([])
        under = ink(TEXT, background=BACKGROUND)
        return strip.extend_cell_length(self.size.width).apply_style(under)


class GuideScreen(Overlay[None]):
    """Shows one guide at a time; `n`, `p`, `g` and links open others, backspace returns."""

    DEFAULT_CSS = f"""
    GuideScreen TitledContainer {{ width: 100%; height: 100%; padding: 0; layout: horizontal;
        border-subtitle-color: {DIM}; }}
    GuideScreen OptionList {{ width: {CONTENTS_WIDTH}; height: 100%; max-height: 100%;
        padding: 0 0 0 1; border-right: solid {BORDER}; }}
    GuideScreen OptionList:focus {{ border-right: solid {BORDER}; }}
    GuideText {{ width: 1fr; height: 100%; padding: 0 0 0 1; background: {BACKGROUND}; }}
    """
    AUTO_FOCUS = "GuideText"
    text = getters.query_one(GuideText)
    contents = getters.query_one(OptionList)
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "dismiss"), ("t", "contents"), ("g", "guides"), ("n", "step(1)"),
        ("p", "step(-1)"), ("backspace", "back"),
    ]  # fmt: skip

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.guide = find_guide(topic)
        self._before: list[tuple[Guide, float]] = []
        """The guides that were shown before, and how far each was scrolled."""

    def compose(self) -> ComposeResult:
        contents = OptionList(markup=False)
        contents.display = self.app.size.width >= WIDE
        with TitledContainer(classes="-highlighted"):
            yield contents
            yield GuideText()

    def _draw(self) -> None:
        """Show the guide in the width that the table of contents leaves."""
        columns = self.app.size.width
        room = columns - EDGES - (CONTENTS_WIDTH if self.contents.display else 0)
        text = re.sub("`[^`]+`", lambda code: shown_keys(code[0], self.app), self.guide.text())
        self.text.draw(fitted(text, room), room)
        titles = ["  " * (level - 2) + title for level, title, _ in self.text.headings[1:]]
        self.contents.clear_options().add_options(titles)
        box = self.query_one(TitledContainer)
        box.panel_title = f"Guide, {self.guide.title}"
        box.legend = f"{GUIDES.index(self.guide) + 1} of {len(GUIDES)}"
        box.border_subtitle = key_line(KEYS, columns, self.app)

    on_resize = _draw

    def open_guide(self, guide: Guide, at: float = 0.0) -> None:
        """Show another guide, scrolled down to row `at`; backspace returns to this one."""
        self._before.append((self.guide, self.text.scroll_y))
        self.guide = guide
        self._draw()
        self.text.scroll_to(y=at, animate=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go to the heading; the text has the keys from now on."""
        _, _, row = self.text.headings[event.option_index + 1]
        self.text.scroll_to(y=row, animate=False)
        self.text.focus()

    def on_click(self, event: Click) -> None:
        """Open the guide that a link names, at its anchor; show any other address, which no
        terminal can open."""
        file, _, anchor = (event.style.link or "").partition("#")
        try:
            guide = find_guide(file.removesuffix(".md")) if file else self.guide
        except InputError:
            self.context.show_notification(file, "information", 5)
            return
        if guide != self.guide:
            self.open_guide(guide)
        self.text.go_to(anchor)

    def action_contents(self) -> None:
        """Show or hide the table of contents."""
        self.contents.display = not self.contents.display
        if not self.contents.display:
            self.text.focus()
        self._draw()

    @act
    async def action_guides(self) -> None:
        """Choose a guide from the list."""
        choices = [(guide.topic, guide.summary) for guide in GUIDES]
        topic = await self.context.ask(ChooseScreen("Guides", choices, self.guide.topic))
        if topic and topic != self.guide.topic:
            self.open_guide(find_guide(topic))

    def action_step(self, by: int) -> None:
        """Show the next or the previous guide."""
        place = GUIDES.index(self.guide) + by
        if 0 <= place < len(GUIDES):
            self.open_guide(GUIDES[place])

    def action_back(self) -> None:
        """Return to the guide shown before, where it was left."""
        if self._before:
            self.open_guide(*self._before.pop())
            self._before.pop()
