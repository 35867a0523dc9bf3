"""KeptSamplesScreen: everything that was sampled, to search, reuse, export and delete."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Paste

from rnnlm_tui import store
from rnnlm_tui.schema.formatting import age, counted
from rnnlm_tui.store.kept_samples import (
    EXPORT_ENDINGS,
    SAMPLE_EXPORTS,
    SampleExport,
    export,
    matching,
)
from rnnlm_tui.tui import folders
from rnnlm_tui.tui.palette import BRIGHT, DIM, FAINT, TEXT, TRAIN
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.log import MOST_SEARCH, SearchOverlay
from rnnlm_tui.tui.screens.manage import Done, ManageScreen
from rnnlm_tui.tui.screens.overlay import key_line
from rnnlm_tui.tui.text import safe_text, selected, sentence
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.widgets.panel import LinesPanel, first_shown
from rnnlm_tui.tui.widgets.text_field import without_controls
from rnnlm_tui.tui.widgets.transcript import text_rows

if TYPE_CHECKING:
    from rnnlm_tui.store.kept_samples import KeptSample

KEYS = (
    ("enter", "reuse"), ("/", "search"), ("space", "mark"), ("w", "export"), ("d", "delete"),
    ("u", "undo"), ("esc", "close"),
)  # fmt: skip
SEARCH_KEYS = (("enter", "done"), ("^u", "clear"), ("esc", "all samples"))
FORMATS: dict[SampleExport, str] = {
    "text": "prompts and texts, with their settings above",
    "jsonl": "one JSON object a line, with everything that is kept",
    "markdown": "headings and code blocks",
}
RUN_CELLS = 16
"""Most cells of a run's name."""
WITH_SEED = 90
"""Cells from which a row has the seed."""
DETAIL_CHARACTERS = 4_000
"""Characters of the text under the cursor that are laid out."""


class KeptSamplesScreen(SearchOverlay["KeptSample"], ManageScreen["KeptSample", "KeptSample"]):
    """Lists the samples with a cursor, and below them the whole sample under the cursor.

    Returns the sample to reuse, None for none.
    """

    DEFAULT_CSS = """
    KeptSamplesScreen LinesPanel { width: 100%; max-width: 140; height: 90%;
        background: #121212; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "leave"), ("q", "dismiss"), ("enter", "choose"), ("space", "mark"),
        ("w", "export"), ("d", "delete"), ("u", "undo"), ("up,k", "move(-1)"),
        ("down,j", "move(1)"), ("pageup", "page(-1)"), ("pagedown", "page(1)"),
        ("home", "move(-1000000)"), ("end", "move(1000000)"),
        Binding("f7", "dismiss", id="kept_samples"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._found: Sequence[KeptSample] = ()
        """The samples that the query finds, newest first."""
        self._marked: set[str] = set()
        """Ids of marked samples."""
        self._at = self._top = 0
        self._page = 1
        """Rows of the list."""

    def compose(self) -> ComposeResult:
        yield LinesPanel("Samples", id="samples-box")

    def on_mount(self) -> None:
        self.query_one(LinesPanel).highlighted = True

    @property
    def chosen(self) -> KeptSample | None:
        return self._found[self._at] if self._at < len(self._found) else None

    def read(self) -> list[KeptSample]:
        return store.kept_samples.search()

    def show(self, items: Sequence[KeptSample], at: str = "") -> None:  # noqa: ARG002
        """List those that the query finds; the cursor keeps its place."""
        self.items, self._found = items, matching(items, self.search) if self.search else items
        self._marked &= {sample.id for sample in items}
        self.action_move(0)

    def show_outcome(self) -> None:
        panel, keys = self.query_one(LinesPanel), SEARCH_KEYS if self.typing else KEYS
        panel.bottom = key_line(keys, panel.size.width, self.app)
        parts = [(counted(len(self._found), "sample"), DIM)] if self._found else []
        if self._marked:
            parts += [(", ", DIM), (f"{len(self._marked)} marked", TEXT)]
        panel.show(self._lines, Content.assemble(*parts))

    def _lines(self, width: int, height: int) -> list[Content]:
        """Return query, list, outcome and detail."""
        lines: list[Content] = []
        if self.typing or self.search:
            cursor = ("█" if self.typing else "", TRAIN)
            query = safe_text(self.search, newlines="space")
            lines = [Content.assemble(("/ ", f"bold {BRIGHT}"), (query, BRIGHT), cursor)]
        self._page = max(1, min(len(self._found), (height - len(lines)) * 2 // 5))
        self._top = first_shown(self._top, self._at, self._page, len(self._found))
        shown = self._found[self._top : self._top + self._page]
        runs = [safe_text(sample.run, limit=RUN_CELLS, newlines="show") for sample in shown]
        cells = max(map(cell_len, runs), default=0)
        for sample, run in zip(shown, runs, strict=True):
            lines.append(self._row(sample, run.ljust(cells), width))
        if not shown:
            words = "no sample has all these words" if self.search else "nothing sampled yet"
            unread = self.unread and not self.items
            lines.append(Content.styled("reading …" if unread else words, DIM))
        lines.append(self.outcome)
        return [*lines, *self._detail(width, height - len(lines))][:height]

    def _row(self, sample: KeptSample, run: str, width: int) -> Content:
        current = sample is self.chosen
        seed = "greedy" if sample.seed is None else f"seed {sample.seed}"
        facts = Content.assemble(
            ("› " if current else "  ", f"bold {TRAIN}"),
            ("● " if sample.id in self._marked else "  ", TRAIN),
            (age(time() - sample.time).rjust(6), TEXT),
            (f"  {run}", DIM),
            (f"{sample.step:,}".rjust(8), TEXT),
            (f"  {seed:13}" if width >= WITH_SEED else "  ", DIM),
        )
        room = max(0, width - facts.cell_length)
        prompt = safe_text(sample.prompt, limit=max(room, 1), newlines="space")
        text = Content.assemble(
            (prompt, f"bold {BRIGHT}" if current else TEXT),
            (safe_text(sample.text, limit=max(room, 1), newlines="space"), DIM),
        )
        row = Content.assemble(facts, text.truncate(room, ellipsis=True))
        return selected(row, width) if current else row

    def _detail(self, width: int, room: int) -> list[Content]:
        """Return the sample under the cursor, as far as there is room."""
        sample = self.chosen
        if sample is None or room < 2:
            return []
        title = safe_text(f"{sample.title} · {sample.when}", limit=width, newlines="space")
        about = sentence(", ".join(sample.facts), width, style=FAINT)
        prompt, text = sample.prompt[:DETAIL_CHARACTERS], sample.text[:DETAIL_CHARACTERS]
        shown = text_rows(prompt, text, width, bright=True)
        lines = [Content.styled(title, TEXT), *about, Content(""), *shown]
        return lines if len(lines) <= room else [*lines[: room - 1], Content.styled("…", DIM)]

    @property
    def _picked(self) -> list[KeptSample]:
        """The marked samples, or the one under the cursor."""
        if self._marked:
            return [sample for sample in self.items if sample.id in self._marked]
        return [self.chosen] if self.chosen is not None else []

    # the search

    def searched(self) -> None:
        self.say()
        self.show(self.items)

    def on_paste(self, event: Paste) -> None:
        if self.typing:
            self.search = (self.search + without_controls(event.text, keep=""))[:MOST_SEARCH]
            self.searched()

    # keys

    def action_leave(self) -> None:
        """List all samples again after a search, else close."""
        if self.search:
            self.search = ""
            self.searched()
        else:
            self.dismiss(None)

    def action_choose(self) -> None:
        """Close, and take the prompt and settings of the sample under the cursor."""
        if self.chosen is not None:
            self.dismiss(self.chosen)

    def action_move(self, by: int) -> None:
        """Move the cursor, as far as there are samples."""
        self._at = max(0, min(self._at + by, len(self._found) - 1))
        self.show_outcome()

    def action_page(self, pages: int) -> None:
        """Move the cursor by pages."""
        self.action_move(pages * self._page)

    def action_mark(self) -> None:
        """Mark the sample under the cursor, or unmark it, and go to the next."""
        if self.chosen is not None:
            self._marked ^= {self.chosen.id}
            self.action_move(1)

    @act
    async def action_export(self) -> None:
        """Write the marked samples, or the one under the cursor, to a new file."""
        chosen = self._picked
        if not chosen:
            return
        title = f"Export {counted(len(chosen), 'sample')} as"
        word = await self.context.ask(ChooseScreen(title, list(FORMATS.items())))
        format = next((known for known in SAMPLE_EXPORTS if known == word), None)
        if format is not None:
            self.context.in_thread(
                lambda: folders.save_text(
                    "samples", export(chosen, format), EXPORT_ENDINGS[format]
                ),
                lambda path: self.say(f"saved as {path}"),
                self.failed,
            )

    def action_delete(self) -> None:
        """Delete the marked samples, or the one under the cursor."""
        ids = [sample.id for sample in self._picked]

        def deleted(samples: list[KeptSample]) -> Done:
            count = counted(len(samples), "sample")
            undo = (lambda: store.kept_samples.restore(samples), f"{count} restored")
            return Done(f"{count} deleted, u undoes it", undo=undo)

        if ids:
            self.change(lambda: store.kept_samples.delete(ids), deleted)
