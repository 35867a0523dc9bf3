"""BrowseScreen: choose a text or a tokenizer in a list of files, with a look at its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import Resize
from textual.widgets import Input, OptionList, Static

from rnnlm_tui import client
from rnnlm_tui.errors import RnnlmError, in_one_sentence
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, RunConfig
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui import WIDE_FROM, folders
from rnnlm_tui.tui.palette import BAD, DIM, TEXT, TRAIN
from rnnlm_tui.tui.screens.overlay import key_line
from rnnlm_tui.tui.screens.pick import FilteredList, PickItem
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.widgets.form import preview_lines
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_field import SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import Preview

Purpose = Literal["text", "tokenizer"]
"""What is looked for: a text to train on, or a folder with a tokenizer."""

PAUSE_SECONDS = 0.25
"""The cursor rests this long before the text is read and split, so that moving stays quick."""
UP, HERE = "../", "./"
NAME = 26
"""Most cells that the details are indented by; they follow a longer name."""

Line = PickItem[str | Path]
"""What is chosen, or the folder that enter opens."""


def lines_of(
    folder: Path, entries: Sequence[folders.Entry], purpose: Purpose, typed: str
) -> list[Line]:
    """Return the list's lines: the way up, the folder itself, folders, files, built-in texts.

    Args:
        typed: only names with this text; hidden files only if it starts with a dot.
    """
    word = typed.lower()
    lines: list[Line] = []
    if not typed:
        lines.append(PickItem(folder.parent, UP))
        if purpose == "text":
            lines.append(PickItem(str(folder), HERE, "all texts of this folder"))
    for entry in entries:
        is_hidden = entry.name.startswith(".") and not typed.startswith(".")
        if is_hidden or word not in entry.name.lower():
            continue
        if entry.is_folder:
            chosen = purpose == "tokenizer" and entry.is_tokenizer
            value = str(entry.path) if chosen else entry.path
            detail = "tokenizer" if entry.is_tokenizer else ""
            lines.append(PickItem(value, f"{entry.name}/", detail))
        elif purpose == "text":
            size = "" if entry.bytes is None else formatting.disk(entry.bytes)
            lines.append(PickItem(str(entry.path), entry.name, size))
    if purpose == "text":
        lines += [PickItem(name, name, "built in") for name in BUILT_IN_SOURCES if word in name]
    return lines


def with_choice(config: RunConfig, purpose: Purpose, target: str) -> RunConfig:
    """Return the config with another text or tokenizer; blocks while the disk is read.

    Raises:
        ConfigError: another setting doesn't fit the choice.
    """
    changes: dict[str, object] = {"corpus.source": target}
    if purpose == "tokenizer":
        changes = {"tokenizer.kind": "pretrained", "tokenizer.name": target}
        size = client.pretrained.tokenizer_size(parse_config(merge(config, changes)).tokenizer)
        changes |= {} if size is None else {"tokenizer.vocab_size": size}
    elif target in BUILT_IN_SOURCES:
        changes["corpus.layout"] = "auto"
    return parse_config(merge(config, changes))


class BrowseScreen(FilteredList[str | Path]):
    """Returns the path of a text or tokenizer, or a built-in corpus; None for none."""

    NAME_LIMIT = 60
    DEFAULT_CSS = """
    BrowseScreen TitledContainer { width: 116; max-width: 100%; height: 96%; background: #121212; }
    BrowseScreen #browse-both { layout: vertical; height: 1fr; }
    BrowseScreen OptionList { height: 1fr; max-height: 100%; }
    BrowseScreen #browse-folder { height: 1; }
    BrowseScreen #browse-look { height: 8; padding: 1 0 0 0; }
    BrowseScreen.-wide #browse-both { layout: horizontal; }
    BrowseScreen.-wide OptionList { width: 44; height: 100%; }
    BrowseScreen.-wide #browse-look { width: 1fr; height: 100%; padding: 0 0 0 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,right", "open", show=False, priority=True),
        Binding("left,backspace", "up", show=False, priority=True),
    ]

    def __init__(self, purpose: Purpose, config: RunConfig, start: str = "") -> None:
        """Browse.

        Args:
            config: its tokenizer splits the texts, or its text is split by the tokenizers.
            start: the current path; browsing begins in its folder.
        """
        super().__init__()
        self._purpose: Purpose = purpose
        self._config, self._start = config, start
        self._folder: Path | None = None
        self._entries: Sequence[folders.Entry] = ()
        self._came_from = ""
        """The entry to highlight: the folder that was left, or the current text."""
        self._looked_at = ""
        self._cancel = Event()

    def compose(self) -> ComposeResult:
        title = "Choose a text" if self._purpose == "text" else "Choose a tokenizer"
        keys = [("↑ ↓", "move"), ("enter", "choose"), ("→ ←", "folder"), ("esc", "cancel")]
        legend = key_line(keys, 70, self.app)
        with TitledContainer(title=title, legend=legend, classes="-highlighted"):
            yield Static(id="browse-folder", markup=False)
            yield SafeInput(placeholder="type to filter", compact=True)
            with Container(id="browse-both"):
                yield OptionList(markup=False)
                yield Static(id="browse-look", markup=False)

    def on_mount(self) -> None:
        built_in = self._start in BUILT_IN_SOURCES
        self._came_from = self._start if built_in else Path(self._start).name
        self._go(folders.start_folder("" if built_in else self._start))

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= WIDE_FROM, "-wide")
        self._show_folder()
        self._looked_at = ""
        self._look()

    def on_unmount(self) -> None:
        self._cancel.set()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._look()

    # keys

    def action_choose(self) -> None:
        """Open the folder, or close with the text or tokenizer."""
        line = self.current
        if line is not None and isinstance(line.value, Path):
            self._go(line.value)
        else:
            super().action_choose()

    def action_open(self) -> None:
        """Open the folder under the cursor, also one that can be chosen."""
        line = self.current
        if line is not None and line.name.endswith("/") and line.name != HERE:
            self._go(Path(line.value))

    def action_up(self) -> None:
        """Go to the folder above; in a filter, delete the last letter first."""
        box = self.query_one(SafeInput)
        if box.value:
            box.action_delete_left()
        elif self._folder is not None:
            self._go(self._folder.parent)

    @work(group="list", exclusive=True)
    async def _go(self, folder: Path) -> None:
        """List a folder in a thread; one that can't be listed changes nothing."""
        looks = self._purpose == "tokenizer"
        try:
            entries = await to_thread(folders.list_folder, folder, tokenizers=looks)
        except RnnlmError as error:
            self._say(in_one_sentence(error))
            return
        if not self.is_open:
            return
        if self._folder is not None:
            self._came_from = self._folder.name if folder == self._folder.parent else ""
        self._folder, self._entries = folder, entries
        self._show_folder()
        box = self.query_one(SafeInput)
        with self.prevent(Input.Changed):
            box.value = ""
        self.find("")

    def _show_folder(self) -> None:
        """Show the folder's path; its end, if it is too long."""
        if self._folder is None:
            return
        line = self.query_one("#browse-folder", Static)
        path = safe_text(f"{self._folder}/".replace("//", "/"), newlines="space")
        room = max(10, line.size.width or self.size.width - 6)
        shown = path if len(path) <= room else f"…{path[len(path) - room + 1 :]}"
        line.update(Content.styled(shown, DIM))

    def find(self, typed: str) -> None:
        """List what has the text in its name, with the cursor on what was left, or on an entry."""
        if self._folder is None:
            return
        lines = lines_of(self._folder, self._entries, self._purpose, typed)
        left = [line for line in lines if line.name.rstrip("/") == self._came_from and not typed]
        entries = [line for line in lines if line.name not in (UP, HERE)]
        column = min(NAME, max((len(line.name) for line in lines), default=0)) + 2
        self.list_items(lines, column, next(iter((*left, *entries, *lines)), None))
        self._look()

    def named(self, item: Line) -> Content:
        """Return the name, a folder's in colour."""
        return super().named(item).stylize(TRAIN if item.name.endswith("/") else TEXT)

    # the look at the text

    def _look(self) -> None:
        """Show the first lines of the entry under the cursor, as tokens once they are known."""
        line = self.current
        wanted = line.value if line is not None and isinstance(line.value, str) else ""
        if wanted and wanted == self._looked_at:
            return
        self._looked_at = wanted
        self._cancel.set()
        self._cancel = Event()
        self.workers.cancel_group(self, "look")
        if wanted:
            self._read(wanted, self._cancel)
        else:
            self._say("enter opens the folder" if line is not None else "", colour=DIM)

    @work(group="look")
    async def _read(self, target: str, cancel: Event) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        self._say("reading …", colour=DIM)
        words: Preview | None = None
        try:
            config = await to_thread(with_choice, self._config, self._purpose, target)
            if self._purpose == "text":
                words = await to_thread(lambda: client.corpora.preview(config))
            if words is not None:
                self._show(words, note="" if words.exact else "splitting into tokens …")
                if words.exact:
                    return
            tokens = await to_thread(lambda: client.corpora.token_preview(config, cancel.is_set))
        except (RnnlmError, OSError) as error:
            self._show(words, problem=in_one_sentence(error))
            return
        if tokens is not None:
            self._show(tokens)

    def _show(self, preview: Preview | None, *, note: str = "", problem: str = "") -> None:
        """Show the first lines and their layout, and what is to come or why there are no tokens."""
        if not self.is_open:
            return
        width = max(20, self.query_one("#browse-look", Static).size.width - 1)
        lines = [safe_content(problem, newlines="space").stylize(BAD)] if problem else []
        if preview is not None:
            room = self.query_one("#browse-look", Static).size.height - 2 * len(lines) - bool(note)
            rows = room if self.has_class("-wide") else 0
            lines += preview_lines(preview, width, apart=self.app.no_color, height=max(0, rows))
        if note:
            lines.append(Content.styled(f"   {note}", DIM))
        self._show_lines(lines)

    def _say(self, text: str, *, colour: str = BAD) -> None:
        self._show_lines([safe_content(text, newlines="space").stylize(colour)])

    def _show_lines(self, lines: Sequence[Content]) -> None:
        if self.is_open:
            self.query_one("#browse-look", Static).update(Content("\n").join(lines))
