"""A guide over the panes, in Textual's Markdown viewer with a table of contents."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import ClassVar

from rich.text import Text
from textual import getters
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Markdown, MarkdownViewer, Tree
from textual.widgets.markdown import MarkdownTableOfContents, TableOfContentsType

from rnnlm_tui.docs import GUIDES, Guide, find_guide, fitted
from rnnlm_tui.errors import InputError
from rnnlm_tui.tui.actions import shown_keys
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
CONTENTS_SHARE = 35
"""Cells of the table of contents, and its largest share of the screen in percent."""
EDGES = 5
"""Cells that border, padding and scroll bar take from the text."""


class Contents(MarkdownTableOfContents):
    """The headings below the guide's title, indented by level."""

    def rebuild_table_of_contents(self, table_of_contents: TableOfContentsType) -> None:
        """List the headings; Textual's own tree spends ten cells of each line on numerals."""
        tree = self.query_one(Tree)
        tree.show_guides = False
        tree.guide_depth = 2
        tree.clear()
        room = contents_width(self.app.size.width) - 2
        for level, name, block_id in table_of_contents:
            if level > 1:
                label = Text("  " * (level - 2) + name)
                label.truncate(room, overflow="ellipsis")
                tree.root.add_leaf(label, {"block_id": block_id})


def contents_width(columns: int) -> int:
    """Cells of the table of contents on a screen of so many columns."""
    return min(CONTENTS_WIDTH, columns * CONTENTS_SHARE // 100)


class GuideViewer(MarkdownViewer):
    """Textual's viewer whose links lead to other guides."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("j", "scroll_down"), ("k", "scroll_up"), ("space", "page_down"),
    ]  # fmt: skip

    def compose(self) -> ComposeResult:
        """The guide and its contents."""
        markdown = Markdown(open_links=False)
        markdown.can_focus = True
        yield markdown
        yield Contents(markdown)

    def on_markdown_table_of_contents_selected(self) -> None:
        """A heading was chosen: the text has the keys from now on."""
        self.document.focus(scroll_visible=False)

    async def go(self, location: str | PurePath) -> None:
        """Open the guide that a link names, at its anchor; show any other address, which no
        terminal can open."""
        file, _, anchor = str(location).partition("#")
        screen = self.screen
        if not isinstance(screen, GuideScreen):
            return
        try:
            guide = find_guide(file.removesuffix(".md")) if file else screen.guide
        except InputError:
            self.notify(str(location), markup=False)
            return
        if guide != screen.guide:
            await screen.show_guide(guide)
        if anchor:
            self.call_after_refresh(self.document.goto_anchor, anchor)


class GuideScreen(Overlay[None]):
    """Shows one guide at a time; `n`, `p`, `g` and links open others, backspace returns."""

    DEFAULT_CSS = """
    GuideScreen {
        TitledContainer {
            width: 100%; height: 100%; padding: 0;
            background: #121212; border-subtitle-color: #808080;
        }
        MarkdownViewer { background: #121212; scrollbar-gutter: auto; }
        Markdown { padding: 0 1; color: #d0d0d0; }
        MarkdownHeader {
            margin: 1 0 1 0; color: #ffffff; background: #121212; text-style: bold;
        }
        MarkdownH1 { content-align: left middle; margin: 0 0 1 0; }
        MarkdownH2 { color: #5fd7ff; }
        Markdown MarkdownBlock:dark > .code_inline { background: #262626; color: #ffffff; }
        MarkdownFence {
            margin: 0 0 1 0; overflow: hidden; background: #262626; color: #d0d0d0;
        }
        MarkdownFence > Label { width: 100%; padding: 0 1; text-wrap: wrap; }
        MarkdownBullet { color: #808080; }
        MarkdownTableContent { keyline: thin #444444; }
        MarkdownTableContent > .header { color: #ffffff; }
        MarkdownTableOfContents {
            width: 26; background: #121212; border-right: solid #444444;
        }
        MarkdownTableOfContents > Tree {
            width: 100%; overflow-x: hidden; padding: 0 0 0 1;
            background: #121212; color: #d0d0d0;
        }
        Tree > .tree--cursor { background: #303030; color: #ffffff; }
    }
    """
    AUTO_FOCUS = "Markdown"
    viewer = getters.query_one(GuideViewer)
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
        contents = self.app.size.width >= WIDE
        with TitledContainer(id="guide-box", classes="-highlighted"):
            yield GuideViewer(self._text(contents=contents), show_table_of_contents=contents)

    async def on_resize(self) -> None:
        if self.query(Contents):  # the first resize arrives before the viewer has its parts
            self.query_one(Contents).styles.width = contents_width(self.app.size.width)
            self._label()
            await self._show_text()

    async def show_guide(self, guide: Guide, *, at: float = 0.0, returns: bool = False) -> None:
        """Show another guide, scrolled down to row `at`."""
        if not returns:
            self._before.append((self.guide, self.viewer.scroll_y))
        self.guide = guide
        self._label()
        await self._show_text()
        self.viewer.scroll_to(y=at, animate=False)

    def _text(self, *, contents: bool) -> str:
        """The guide in the width that the table of contents leaves."""
        columns = self.app.size.width
        room = columns - EDGES - (contents_width(columns) if contents else 0)
        text = re.sub("`[^`]+`", lambda code: shown_keys(code[0], self.app), self.guide.text())
        return fitted(text, room)

    async def _show_text(self) -> None:
        """Show the guide again if it is another one, or its width needs another form."""
        text = self._text(contents=self.viewer.show_table_of_contents)
        if text != self.viewer.document.source:
            await self.viewer.document.update(text)

    def _label(self) -> None:
        box = self.query_one("#guide-box", TitledContainer)
        box.panel_title = f"Guide, {self.guide.title}"
        place = GUIDES.index(self.guide) + 1
        box.legend = f"{place} of {len(GUIDES)}"
        box.border_subtitle = key_line(KEYS, self.app.size.width, self.app)

    async def action_contents(self) -> None:
        """Show or hide the table of contents."""
        self.viewer.show_table_of_contents = not self.viewer.show_table_of_contents
        if not self.viewer.show_table_of_contents:
            self.viewer.document.focus(scroll_visible=False)
        await self._show_text()

    @act
    async def action_guides(self) -> None:
        """Choose a guide from the list."""
        choices = [(guide.topic, guide.summary) for guide in GUIDES]
        topic = await self.context.ask(ChooseScreen("Guides", choices, self.guide.topic))
        if topic and topic != self.guide.topic:
            await self.show_guide(find_guide(topic))

    async def action_step(self, by: int) -> None:
        """Show the next or the previous guide."""
        place = GUIDES.index(self.guide) + by
        if 0 <= place < len(GUIDES):
            await self.show_guide(GUIDES[place])

    async def action_back(self) -> None:
        """Return to the guide shown before, where it was left."""
        if self._before:
            guide, at = self._before.pop()
            await self.show_guide(guide, at=at, returns=True)
