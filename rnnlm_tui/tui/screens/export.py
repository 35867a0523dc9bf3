"""ExportScreen: write a checkpoint in another program's format, with progress and result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from rnnlm_tui import client
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.exports import FORMAT_TITLES, FORMATS
from rnnlm_tui.schema.formatting import counted, disk, user_path
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.tui import folders
from rnnlm_tui.tui.actions import shown_keys
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FOCUS, GOOD, TEXT
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.text_field import SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.client.export import Exported
    from rnnlm_tui.store.paths import RunDirectory

UPDATE_SECONDS = 0.25
"""Seconds between two looks at the phase of a running export."""
PHASES = {
    "loading": "loading the checkpoint …",
    "writing": "writing the files …",
    "checking": "loading them again and comparing logits and text …",
}


class ExportScreen(Overlay[bool]):
    """Returns True if a checkpoint was exported. Closing the box leaves it running."""

    DEFAULT_CSS = """
    ExportScreen TitledContainer { width: 76; max-width: 100%; height: auto; background: #121212; }
    ExportScreen OverlayText { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("up", "format(-1)", show=False, priority=True),
        Binding("down", "format(1)", show=False, priority=True),
    ]

    def __init__(self, run: RunDirectory, checkpoint: Path, name: str) -> None:
        """Ask for format and folder.

        Args:
            checkpoint: its folder.
            name: as in an address: `1500`.
        """
        super().__init__()
        self._run, self._checkpoint, self._checkpoint_name = run, checkpoint, name
        self._format = 0
        self._proposed = ""
        """The folder that was proposed for the format; another one is the user's."""
        self._export_phase = ""
        """Of the running export; set by its thread."""
        self._exporting = False
        self._problem = ""
        self._result: Exported | None = None

    def compose(self) -> ComposeResult:
        title = f"Export {safe_text(self._run.name, limit=40)}@{self._checkpoint_name}"
        with TitledContainer(title=title, classes="-highlighted"):
            yield OverlayText(id="export-format")
            yield SafeInput(select_on_focus=False, compact=True)
            yield OverlayText(id="export-text")

    def on_mount(self) -> None:
        box = self.query_one(SafeInput)
        box.cursor_blink = False
        box.focus()
        self._propose()
        self._show()
        self.set_interval(UPDATE_SECONDS, self._show_phase)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Forget the problem with the folder."""
        event.stop()
        self._problem = ""
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Export, or close the box after an export."""
        event.stop()
        if self._result is not None:
            self.dismiss(True)
            return
        text = event.value.strip()
        if self._exporting:
            return
        if not text:
            self._problem = "name a folder to write"
            self._show()
            return
        self._exporting, self._problem, self._export_phase = True, "", "loading"
        self._show()
        folder, format = user_path(text), FORMATS[self._format]
        self.context.in_thread(
            lambda: client.export.export_checkpoint(
                self._run, self._checkpoint, folder, format, report=self._report
            ),
            self._exported,
            self._failed,
        )

    def action_format(self, by: int) -> None:
        """Choose the next or previous format; a proposed folder follows it."""
        if not self._exporting and self._result is None:
            self._format = (self._format + by) % len(FORMATS)
            self._propose()
            self._show()

    def action_leave(self) -> None:
        """Close the box."""
        if self._exporting:
            self.context.report("the export continues, and its end is reported")
        self.dismiss(self._result is not None)

    def _propose(self) -> None:
        """Propose a free folder, unless the user has typed another."""
        box = self.query_one(SafeInput)
        if box.value == self._proposed:
            name = f"{self._run.name}-{self._checkpoint_name}-{FORMATS[self._format]}"
            self._proposed = str(folders.free_folder(name))
            box.value = self._proposed
            box.cursor_position = len(box.value)

    def _report(self, progress: TaskProgress) -> None:
        """Take the phase; called in the export's thread."""
        self._export_phase = progress.phase

    def _exported(self, result: Exported) -> None:
        self._exporting, self._result = False, result
        if self.is_attached:
            self._show()
        else:
            folder = safe_text(str(result.folder))
            self.context.report(f"{self._run.name}@{self._checkpoint_name} exported to {folder}")

    def _failed(self, error: RnnlmError | OSError) -> None:
        self._exporting = False
        if self.is_attached:
            self._problem = error.message if isinstance(error, RnnlmError) else str(error)
            self._show()
        else:
            self.context.report_error(error)

    def _show_phase(self) -> None:
        if self._exporting:
            self._show()

    def _show(self) -> None:
        if not self.is_attached:
            return
        chosen = FORMATS[self._format]
        signs = self._arrows if self._can_change else " " * len(self._arrows)
        head = Content.assemble(
            ("format  ", DIM),
            (f"{signs} ", f"bold {FOCUS}"),
            (chosen, f"bold {BRIGHT}"),
            (f"  {FORMAT_TITLES[chosen]}", DIM),
        )
        self.query_one("#export-format", OverlayText).update(
            Content("\n").join([head, Content.styled("folder", DIM)])
        )
        self.query_one("#export-text", OverlayText).update(Content("\n").join(self._lines()))

    @property
    def _arrows(self) -> str:
        return shown_keys("↑ ↓", self.app)

    @property
    def _can_change(self) -> bool:
        return not self._exporting and self._result is None

    def _lines(self) -> list[Content]:
        result, lines = self._result, [Content("")]
        if result is not None:
            done = result.done
            lines += [
                Content.assemble(
                    ("✓ ", GOOD),
                    (f"{counted(len(result.files), 'file')}, {disk(result.bytes)} written", TEXT),
                ),
                Content.styled(
                    f"  loaded again: {done.logits_compared:,} logits differ by at most"
                    f" {done.largest_difference:.1e},",
                    DIM,
                ),
                Content.styled(
                    f"  {counted(done.greedy_tokens, 'token')} of greedy text are equal", DIM
                ),
            ]
            for note in done.notes:
                wrapped = safe_content(note, newlines="space").wrap(68)
                lines += [Content.styled(f"  {line.plain}", DIM) for line in wrapped]
            keys = [("enter", "close")]
        elif self._exporting:
            lines.append(Content.styled(PHASES.get(self._export_phase, "…"), TEXT))
            keys = [("esc", "close: it continues")]
        else:
            if self._problem:
                wrapped = safe_content(self._problem, newlines="space").wrap(68)
                lines += [
                    Content.assemble(("✗ " if not index else "  ", BAD), (line.plain, BAD))
                    for index, line in enumerate(wrapped)
                ]
            keys = [("enter", "export"), (self._arrows, "format"), ("esc", "cancel")]
        line = Content("   ").join(
            Content.assemble((key, f"bold {BRIGHT}"), (f" {word}", DIM)) for key, word in keys
        )
        return [*lines, Content(""), line]
