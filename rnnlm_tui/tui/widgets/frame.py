"""The lines around every pane: identity and panes at the top, keys at the bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive, var
from textual.style import Style
from textual.timer import Timer

from rnnlm_tui.schema.formatting import ranks_text
from rnnlm_tui.tui.actions import (
    ACTIONS,
    PANE_TITLES,
    PROMPT_MODES,
    Action,
    Pane,
    on_pane,
    shown_keys,
)
from rnnlm_tui.tui.actions import action as find_action
from rnnlm_tui.tui.messages import Notice
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, GOOD, TEXT, TRAIN
from rnnlm_tui.tui.text import fitting, line, safe_content, spread
from rnnlm_tui.tui.views.status import machine_label
from rnnlm_tui.tui.widgets.panel import Line

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import RankReading
    from rnnlm_tui.system.machine import MachineFacts

WIDE = 120
"""Terminal width from which the footer uses longer words."""
NOTICE_SECONDS = 4.0
"""How long a notice replaces the footer; the next key ends it earlier."""


class IdentityLine(Line):
    """Line 1: the app, the run, and the device at the right."""

    def show(
        self,
        identity: Callable[[int], Content],
        machine: MachineFacts | None,
        ranks: Sequence[RankReading] = (),
    ) -> None:
        """Show what `identity` returns for the room beside the device, or beside the ranks.

        If the run's name would be cut, the app's name goes first, then the host's.
        """
        width = self.app.size.width
        for app, host in ((True, True), (False, True), (False, False)):
            name = Content.styled(" rnnlm-tui  ", f"bold {DIM}") if app else Content(" ")
            device = machine_label(machine, wide=width >= WIDE, host=host)
            if together := ranks_text(ranks, hosts=host):
                device = safe_content(together, limit=32, newlines="show").stylize(TEXT)
            room = max(8, width - name.cell_length - device.cell_length - 3)
            middle = identity(room)
            if "…" not in middle.plain.split(" ")[0]:
                break
        left = name + middle.truncate(room, ellipsis=True)
        self.put(spread(left, device + Content(" "), width, least=1))


class KeysLine(Line):
    """A line of a pane's keys, which can be clicked."""

    auto_links = var(False)
    """Textual doesn't style what can be clicked."""

    def __init__(self, pane: Pane, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pane = pane

    def find(self, name: str) -> Action:
        """Return an action with the user's keys, as it is on this pane."""
        return on_pane(find_action(name, getattr(self.app, "actions", ACTIONS)), self._pane)


def _clickable(words: Content, entry: Action) -> Content:
    return words.stylize(Style.from_meta({"@click": entry.textual_action}))


class PanesLine(KeysLine):
    """Line 2: the panes with their keys, the current one underlined; at the right, global keys."""

    LEFT: tuple[Pane, ...] = ("config", "train", "checkpoints", "prompt")

    def on_resize(self) -> None:
        here: Pane = "prompt" if self._pane in PROMPT_MODES else self._pane
        start = Content("  ").join(
            self._entry(f"show_{pane}", PANE_TITLES[pane], pane == here) for pane in self.LEFT
        )
        right = [self._entry("show_runs", "Runs", here == "runs")]
        right += [self._entry(name, find_action(name).verb) for name in ("command_palette", "keys")]
        if here == "compare":
            right.insert(0, self._entry("compare_runs", PANE_TITLES["compare"], True))
        end = Content("  ").join(fitting(right, self.size.width - start.cell_length - 4, 2))
        self.put(Content(" ") + spread(start, end, self.size.width - 2, least=2) + Content(" "))

    def _entry(self, name: str, title: str, here: bool = False) -> Content:
        entry = self.find(name)
        words = line(f"{{}} {title}", entry.label)
        if here:
            words = Content.styled(words.plain, f"bold underline {TRAIN}")
        return _clickable(words, entry)


class ModeLine(KeysLine):
    """The modes of the prompt; and beside them keys, or what else a mode shows."""

    def show(
        self,
        left: Content | None = None,
        keys: Sequence[tuple[str, str]] = (),
        *,
        note: str = "",
        problem: str = "",
    ) -> None:
        """Show `left` at the left edge and the modes at the right one, with keys between them.

        Without a `left`, or if there is no room for it, the modes are at the left edge. As many
        keys with their words are shown as fit. A note, or a problem, takes the place of all this.
        """
        room = self.app.size.width - 4
        if note or problem:
            words = safe_content(problem or note, newlines="space")
            told = line("{} {}", ("✗", BAD), words.stylize(TEXT)) if problem else words.stylize(DIM)
            self.put(Content("  ") + told.truncate(room, ellipsis=True))
            return
        titles = Content("  ").join(
            Content.styled(title, f"bold underline {TRAIN}" if mode == self._pane else DIM)
            for mode, title in PROMPT_MODES.items()
        )
        modes = line("mode  {}   {} next", titles, (self.find("next_mode").label, f"bold {BRIGHT}"))
        start, gap, rest = modes, 5, 0
        if left is not None and left.plain and left.cell_length + modes.cell_length + 4 <= room:
            start, gap, rest = left, 3, modes.cell_length + 4
        for key, verb in keys:
            shown = line(f"{{}} {verb}", (shown_keys(key, self.app), f"bold {TEXT}"))
            if start.cell_length + gap + shown.cell_length + rest > room:
                break
            start, gap = Content.assemble(start, " " * gap, shown), 3
        self.put(Content("  ") + (spread(start, modes, room) if rest else start))


class FooterLine(KeysLine):
    """The last line: the most important keys, or a notice for a few seconds."""

    entries: reactive[Sequence[tuple[str, str]]] = reactive((), init=False, repaint=False)
    """Actions by id, each with a verb (empty: the table's); some are left out but never the last.
    """
    notice: reactive[Notice | None] = reactive(None, init=False, repaint=False, always_update=True)
    """Shown for a few seconds, or until a key is pressed if it stays."""
    _timer: Timer | None = None

    def watch_notice(self, notice: Notice | None) -> None:
        if self._timer is not None:
            self._timer.stop()
        ends = notice is not None and not notice.stays
        self._timer = self.set_timer(NOTICE_SECONDS, self.end_notice) if ends else None
        self._draw()

    def end_notice(self, text: str | None = None) -> None:
        """Show the keys again; with a text, only if the notice has that text."""
        if self.notice is not None and text in (None, self.notice.text):
            self.notice = None

    def _draw(self) -> None:
        width = self.size.width or self.app.size.width
        if self.notice is not None:
            sign, colour = {"done": ("✓", GOOD), "fact": ("·", DIM), "trouble": ("✗", BAD)}[
                self.notice.kind
            ]
            text = safe_content(self.notice.text).stylize(TEXT)
            hint = safe_content(self.notice.hint).stylize(DIM)
            told = line(" {} {}  {}", (sign, f"bold {colour}"), text, hint)
            self.put(told.rstrip().truncate(width, ellipsis=True))
            return
        wide = width >= WIDE
        gap = 3 if wide else 2
        items: list[Content] = []
        for name, verb in self.entries:
            entry = self.find(name)
            if entry.label:
                words = verb or (entry.wide_verb if wide else "") or entry.verb
                shown = line(f"{{}} {words}", (entry.label, f"bold {BRIGHT}"))
                items.append(_clickable(shown, entry))
        self.put(Content(" ") + Content(" " * gap).join(fitting(items, width - 2, gap)))

    on_resize = watch_entries = _draw
