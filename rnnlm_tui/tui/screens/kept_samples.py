"""KeptSamplesScreen: everything that was sampled, to search, reuse, export and delete."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.events import Key, Paste

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
from rnnlm_tui.tui.screens.manage import Done, ManageScreen
from rnnlm_tui.tui.screens.overlay import key_line
from rnnlm_tui.tui.text import WrappedText, safe_text, selected
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.widgets.panel import Panel, first_shown, segments_of
from rnnlm_tui.tui.widgets.text_field import without_controls

if TYPE_CHECKING:
    from rnnlm_tui.store.kept_samples import KeptSample

KEYS = (
    ("enter", "reuse"),
    ("/", "search"),
    ("space", "mark"),
    ("w", "export"),
    ("d", "delete"),
    ("u", "undo"),
    ("esc", "close"),
)
SEARCH_KEYS = (("enter", "done"), ("^u", "clear"), ("esc", "all samples"))
FORMATS: dict[SampleExport, str] = {
    "text": "prompts and texts, with their settings above",
    "jsonl": "one JSON object a line, with everything that is kept",
    "markdown": "headings and code blocks",
}
MAX_QUERY = 200
RUN_CELLS = 16
"""Most cells of a run's name."""
WITH_SEED = 90
"""Cells from which a row has the seed."""
DETAIL_CHARACTERS = 4_000
"""Characters of the text under the cursor that are laid out."""


class KeptSamplesPanel(Panel):
    """A list of samples with a cursor, and below it the whole sample under the cursor."""

    def __init__(self) -> None:
        super().__init__(title="Samples", id="samples-box")
        self.samples: Sequence[KeptSample] | None = None
        """Newest first; None until they are read."""
        self.marked: set[str] = set()
        """Ids of marked samples."""
        self.query_text = ""
        self.searching = False
        """Whether keys go to the query."""
        self.outcome = Content("")
        """What just happened."""
        self._at = self._top = 0
        self.page = 1
        """Rows of the list."""
        self._run_cells = 0
        self.highlighted = True

    @property
    def current(self) -> KeptSample | None:
        """The sample under the cursor."""
        samples = self.samples or ()
        return samples[self._at] if self._at < len(samples) else None

    def show(self, samples: Sequence[KeptSample]) -> None:
        """Show these; the cursor keeps its place."""
        self.samples = samples
        self.move(0)

    def move(self, by: int) -> None:
        """Move the cursor, as far as there are samples."""
        self._at = max(0, min(self._at + by, len(self.samples or ()) - 1))
        self.redraw()

    def prepare(self, width: int, height: int) -> None:
        """Lay out query, list, outcome and detail."""
        samples = self.samples or ()
        head: list[Content] = []
        if self.searching or self.query_text:
            cursor = Content.styled("█", TRAIN) if self.searching else Content("")
            query = safe_text(self.query_text, newlines="space")
            head = [Content.assemble(("/ ", f"bold {BRIGHT}"), (query, BRIGHT), cursor)]
        self.page = max(1, min(len(samples), (height - len(head)) * 2 // 5))
        self._top = first_shown(self._top, self._at, self.page, len(samples))
        if self.samples is None:
            rows = [Content.styled("reading …", DIM)]
        elif not samples:
            words = "no sample has all these words" if self.query_text else "nothing sampled yet"
            rows = [Content.styled(words, DIM)]
        else:
            shown = samples[self._top : self._top + self.page]
            self._run_cells = max(
                cell_len(safe_text(sample.run, limit=RUN_CELLS, newlines="show"))
                for sample in shown
            )
            rows = [self._row(sample, width) for sample in shown]
        lines = [*head, *rows, self.outcome if self.outcome.plain else Content("")]
        self.lines = [*lines, *self._detail(width, height - len(lines))][:height]

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return the keys."""
        keys = SEARCH_KEYS if self.searching else KEYS
        return [(3, segments_of(key_line(keys, width, self.app)))]

    def legend_within(self, room: int) -> Content:
        """Return how many samples are listed and marked."""
        samples = self.samples or ()
        parts = [(counted(len(samples), "sample"), DIM)] if samples else []
        if self.marked:
            parts += [(", ", DIM), (f"{len(self.marked)} marked", TEXT)]
        legend = Content.assemble(*parts)
        return legend if legend.cell_length <= room else Content("")

    def _row(self, sample: KeptSample, width: int) -> Content:
        current = sample is self.current
        seed = "greedy" if sample.seed is None else f"seed {sample.seed}"
        facts = Content.assemble(
            ("› " if current else "  ", f"bold {TRAIN}"),
            ("● " if sample.id in self.marked else "  ", TRAIN),
            (age(max(0.0, time() - sample.time)).rjust(6), TEXT),
            "  ",
            (safe_text(sample.run, limit=RUN_CELLS, newlines="show").ljust(self._run_cells), DIM),
            (f"{sample.step:,}".rjust(8), TEXT),
            "  ",
            (seed.ljust(13) if width >= WITH_SEED else "", DIM),
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
        sample = self.current
        if sample is None or room < 2:
            return []
        about = WrappedText(width, safe_text(", ".join(sample.facts), newlines="show"))
        title = safe_text(f"{sample.title} · {sample.when}", limit=width, newlines="space")
        lines = [Content.styled(title, TEXT)]
        lines += [
            Content.styled(about.text[slice(*about.span(line))], FAINT)
            for line in range(len(about))
        ]
        prompt = safe_text(sample.prompt[:DETAIL_CHARACTERS])
        wrapped = WrappedText(width, prompt)
        wrapped.append(safe_text(sample.text[:DETAIL_CHARACTERS]))
        for line in range(min(len(wrapped), max(0, room - len(lines) - 1))):
            start, end = wrapped.span(line)
            split = min(max(len(prompt), start), end)
            lines.append(
                Content.assemble(
                    (wrapped.text[start:split], f"bold {BRIGHT}"), (wrapped.text[split:end], TEXT)
                )
            )
        lines.insert(1 + len(about), Content(""))
        if len(wrapped) > room - len(about) - 2:
            lines[room - 1 :] = [Content.styled("…", DIM)]
        return lines


class KeptSamplesScreen(ManageScreen["KeptSample", "KeptSample"]):
    """Returns the sample to reuse, None for none."""

    DEFAULT_CSS = """
    KeptSamplesScreen KeptSamplesPanel { width: 100%; max-width: 140; height: 90%;
        background: #121212; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "leave"), ("q,f7", "dismiss"), ("enter", "choose"), ("space", "mark"),
        ("w", "export"), ("d", "delete"), ("u", "undo"), ("up,k", "move(-1)"),
        ("down,j", "move(1)"), ("pageup", "page(-1)"), ("pagedown", "page(1)"),
        ("home", "move(-1000000)"), ("end", "move(1000000)"),
    ]  # fmt: skip

    def compose(self) -> ComposeResult:
        yield KeptSamplesPanel()

    @property
    def panel(self) -> KeptSamplesPanel:
        """The list."""
        return self.query_one(KeptSamplesPanel)

    def read(self) -> list[KeptSample]:
        return store.kept_samples.search()

    def show(self, items: Sequence[KeptSample], at: str = "") -> None:  # noqa: ARG002
        """List those that the query finds; the cursor keeps its place."""
        panel, self.items = self.panel, items
        if items or not self.unread:
            panel.marked &= {sample.id for sample in items}
            panel.show(matching(items, panel.query_text) if panel.query_text else items)

    def show_outcome(self) -> None:
        self.panel.outcome = self.outcome
        self.panel.redraw()

    @property
    def _picked(self) -> list[KeptSample]:
        """The marked samples, or the one under the cursor."""
        panel = self.panel
        if panel.marked:
            return [sample for sample in self.items if sample.id in panel.marked]
        return [panel.current] if panel.current is not None else []

    # the query

    def on_key(self, event: Key) -> None:
        """While searching, keys write the query.

        The key that begins it is handled here too: a binding runs only after the letters that were
        typed right after it have arrived.
        """
        panel = self.panel
        if not panel.searching and event.key != "slash":
            return
        if not panel.searching:
            panel.searching = True
            self.say()
        elif event.key == "backspace":
            self._search(panel.query_text[:-1])
        elif event.key == "ctrl+u":
            self._search("")
        elif event.key == "enter":
            panel.searching = False
            panel.redraw()
        elif event.is_printable and event.character:
            self._search(panel.query_text + event.character)
        else:
            return
        event.stop()
        event.prevent_default()

    def on_paste(self, event: Paste) -> None:
        if self.panel.searching:
            self._search(self.panel.query_text + without_controls(event.text, keep=""))

    def _search(self, query: str) -> None:
        self.panel.query_text = query[:MAX_QUERY]
        self.show(self.items)

    # keys

    def action_leave(self) -> None:
        """List all samples again after a search, else close."""
        panel = self.panel
        if panel.searching or panel.query_text:
            panel.searching = False
            self._search("")
        else:
            self.dismiss(None)

    def action_choose(self) -> None:
        """Close, and take the prompt and settings of the sample under the cursor."""
        if self.panel.current is not None:
            self.dismiss(self.panel.current)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self.panel.move(by)

    def action_page(self, pages: int) -> None:
        """Move the cursor by pages."""
        self.panel.move(pages * self.panel.page)

    def action_mark(self) -> None:
        """Mark the sample under the cursor, or unmark it, and go to the next."""
        panel = self.panel
        if panel.current is not None:
            panel.marked ^= {panel.current.id}
            panel.move(1)

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
