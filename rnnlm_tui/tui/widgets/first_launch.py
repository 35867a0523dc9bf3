"""FirstLaunch: what the list of runs shows as long as there are none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rnnlm_tui.schema.formatting import MINUTE, disk, duration, gib
from rnnlm_tui.store.paths import home
from rnnlm_tui.tui.actions import ACTIONS, action
from rnnlm_tui.tui.palette import BRIGHT, DIM, FOCUS, GOOD, TEXT
from rnnlm_tui.tui.text import amount, line, safe_content

if TYPE_CHECKING:
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.system.machine import MachineFacts

BLOCK = 66
"""Columns of the text, which is placed a little left of the middle."""


class FirstLaunch(Widget):
    """A few centred lines; nothing moves."""

    DEFAULT_CSS = "FirstLaunch { width: 100%; height: 100%; background: #121212; display: none; }"

    machine: reactive[MachineFacts | None] = reactive(None)
    estimate: reactive[Estimate | None] = reactive(None)

    def render(self) -> Content:
        """Return the text, a little above the middle."""
        width, height = self.size
        lines = [*self._offer(), Content(""), Content(""), *machine_lines(self.machine)]
        middle = (height - len(lines)) // 2
        top = min(2, max(0, middle)) if height < 30 else middle - 1
        left = min(max(1, (width - BLOCK) // 2 - 1), 60) if width >= BLOCK + 8 else 1
        shown = ((" " * left + line).truncate(width, ellipsis=True) for line in lines)
        return Content("\n").join([*[Content("")] * max(0, top), *shown])

    def _offer(self) -> list[Content]:
        """Return what can be started: the demo, or another run."""
        from rnnlm_tui.schema.presets import PRESET_SUMMARIES

        keys = getattr(self.app, "actions", ACTIONS)
        enter, new = (f"{action(name, keys).label:7}" for name in ("open_selected", "new_run"))
        title = f"bold {BRIGHT}"
        return [
            Content.styled("  Train a recurrent language model and watch it learn.", title),
            line("  Configure, train, inspect and sample, by keyboard alone."),
            line("  Training runs on this machine and continues after you log out."),
            Content(""),
            Content(""),
            Content.assemble(("› ", FOCUS), (enter, f"bold {FOCUS}"), ("start the demo", title)),
            Content.styled(f"         {PRESET_SUMMARIES['demo']}", TEXT),
            "         " + self._takes(),
            Content(""),
            Content.assemble((f"  {new}", title), ("configure a new run", TEXT)),
        ]

    def _takes(self) -> Content:
        estimate = self.estimate
        size = disk(estimate.disk_bytes) if estimate is not None else "about 35 MB"
        time, where = "2 min", " on two cores, "
        if estimate is not None and estimate.seconds is not None:
            seconds, where = estimate.seconds, " on this machine, "
            minutes = f"{round(seconds / MINUTE)} min"
            time = minutes if seconds >= 1.5 * MINUTE else duration(seconds)
        return line(f"about {{}}{where}{{}} on disk", time, size)


def machine_lines(machine: MachineFacts | None) -> list[Content]:
    """Return the device, the memory and the disk that there are; None: not known yet."""
    if machine is None:
        return [line("  checking this machine")]
    cores = amount(f"{machine.cpu_count} cores", BRIGHT)
    free, whole = gib(machine.memory_free), gib(machine.memory_total)
    memory = amount(f"{free} of {whole} GiB free", BRIGHT)
    device = line("{} {}", "CPU,", cores)
    if machine.gpu.name:
        device = safe_content(machine.gpu.name, newlines="show", limit=30).stylize(TEXT)
        total, used = machine.gpu.memory_total, machine.gpu.memory_used
        if total is not None and used is not None:
            left = amount(f"{gib(total - used)} GiB free", BRIGHT)
            device = line(f"{{}}, {gib(total)} GiB, {{}}", device, left)
        memory = line("{}   CPU {}", memory, cores)
    place = safe_content(short_path(home()), newlines="show", limit=40).stylize(DIM)
    return [
        line("  device   {}   {} {}", device, ("●", GOOD), "ready"),
        line("  memory   {}", memory),
        line("  disk     {}{}", amount(f"{disk(machine.disk_free)} free in ", BRIGHT), place),
    ]


def short_path(path: Path) -> str:
    """Return a path with `~` for the home directory."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
