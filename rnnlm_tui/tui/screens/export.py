"""ExportScreen: write a checkpoint in another program's format, with progress and result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from rnnlm_tui import client
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.exports import FORMAT_TITLES, FORMATS, ExportFormat
from rnnlm_tui.schema.formatting import counted, disk, user_path
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.tui import folders
from rnnlm_tui.tui.actions import shown_keys
from rnnlm_tui.tui.messages import words_of
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, FOCUS, GOOD, TEXT
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, keys_in_line
from rnnlm_tui.tui.text import safe_text, sentence
from rnnlm_tui.tui.threads import act
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


class ExportScreen(Overlay[None]):
    """Write a checkpoint in a format to a folder. Closing the box leaves the export running."""

    DEFAULT_CSS = """
    ExportScreen TitledContainer { width: 76; }
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
        self._phase = ""
        """Of the running export; set by its thread. Empty: none is running."""
        self._problem = ""
        self._result: Exported | None = None

    def compose(self) -> ComposeResult:
        title = f"Export {safe_text(self._run.name, limit=40)}@{self._checkpoint_name}"
        with TitledContainer(title=title, classes="-highlighted"):
            yield OverlayText(id="export-format")
            yield SafeInput(select_on_focus=False, compact=True)
            yield OverlayText(id="export-text")

    def on_mount(self) -> None:
        self.query_one(SafeInput).focus()
        self._show()
        self.call_next(self._propose)
        self.set_interval(UPDATE_SECONDS, lambda: self._show() if self._phase else None)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Forget the problem with the folder."""
        event.stop()
        self._problem = ""
        self._show()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Export, or close the box after an export."""
        event.stop()
        text = event.value.strip()
        if self._result is not None:
            self.dismiss(None)
        elif self._phase:
            return
        elif text or not self._proposed:
            await self._export(text, FORMATS[self._format])
        else:
            self._problem = "name a folder to write"
            self._show()

    @act
    async def _export(self, text: str, format: ExportFormat) -> None:
        """Export to this folder; the outcome is shown here, or reported once the box is closed."""
        context, self._problem, self._phase = self.context, "", "loading"
        self._show()

        def report(progress: TaskProgress) -> None:
            self._phase = progress.phase

        try:
            if text == self._proposed:  # or about to be, for a format that was just chosen
                text = await context.wait_for(partial(self._free_folder, format))
            folder = user_path(text)
            result = await context.wait_for(
                lambda: client.export.export_checkpoint(
                    self._run, self._checkpoint, folder, format, report=report
                )
            )
        except (RnnlmError, OSError) as error:
            if not self.is_open:
                raise
            self._problem, _ = words_of(error)
        else:
            self._result = result
            if not self.is_open:
                name = f"{self._run.name}@{self._checkpoint_name}"
                context.report(f"{name} exported to {safe_text(str(result.folder))}")
        self._phase = ""
        self._show()

    async def action_format(self, by: int) -> None:
        """Choose the next or previous format; a proposed folder follows it."""
        if self._can_change:
            self._format = (self._format + by) % len(FORMATS)
            self._show()
            await self._propose()

    def action_leave(self) -> None:
        """Close the box."""
        if self._phase:
            self.context.report("the export continues, and its end is reported")
        self.dismiss(None)

    @act
    async def _propose(self) -> None:
        """Propose a free folder, unless the user has typed another."""
        box, format = self.query_one(SafeInput), FORMATS[self._format]
        free = await self.context.wait_for(partial(self._free_folder, format))
        if box.value == self._proposed and format == FORMATS[self._format]:
            self._proposed = box.value = free
            box.cursor_position = len(free)

    def _free_folder(self, format: ExportFormat) -> str:
        name = f"{self._run.name}-{self._checkpoint_name}-{format}"
        return str(folders.free_path(name))

    @property
    def _can_change(self) -> bool:
        return not self._phase and self._result is None

    def _show(self) -> None:
        if not self.is_open:
            return
        chosen, arrows = FORMATS[self._format], shown_keys("↑ ↓", self.app)
        signs = arrows if self._can_change else " " * len(arrows)
        head = Content.assemble(
            ("format  ", DIM),
            (f"{signs} ", f"bold {FOCUS}"),
            (chosen, f"bold {BRIGHT}"),
            (f"  {FORMAT_TITLES[chosen]}\nfolder", DIM),
        )
        if self._result is not None:
            lines, keys = _outcome(self._result), [("enter", "close")]
        elif self._phase:
            lines = [Content.styled(PHASES.get(self._phase, "…"), TEXT)]
            keys = [("esc", "close: it continues")]
        else:
            lines = sentence(self._problem, 68, True, style=BAD) if self._problem else []
            keys = [("enter", "export"), (arrows, "format"), ("esc", "cancel")]
        lines = [Content(""), *lines, Content(""), keys_in_line(keys)]
        self.query_one("#export-format", OverlayText).update(head)
        self.query_one("#export-text", OverlayText).update(Content("\n").join(lines))


def _outcome(result: Exported) -> list[Content]:
    """Return what was written, and what the comparison with the checkpoint found."""
    done = result.done
    facts = (
        f"loaded again: {done.logits_compared:,} logits differ by at most"
        f" {done.largest_difference:.1e},",
        f"{counted(done.greedy_tokens, 'token')} of greedy text are equal",
        *done.notes,
    )
    return [
        Content.assemble(
            ("✓ ", GOOD),
            (f"{counted(len(result.files), 'file')}, {disk(result.bytes)} written", TEXT),
        ),
        *(line for fact in facts for line in sentence(fact, 68, style=DIM, indent=2)),
    ]
