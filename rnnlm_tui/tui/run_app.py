"""Run the app on this terminal with the settings of the last session and the user's keys."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from rnnlm_tui.store.locations import keymap_file
from rnnlm_tui.tui import remembered, threads
from rnnlm_tui.tui.actions import PANES, Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.appearance import Display
from rnnlm_tui.tui.colours import colour_name
from rnnlm_tui.tui.keymap import read_keymap
from rnnlm_tui.tui.terminal_kind import terminal_kind

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory


def run_app(
    run: RunDirectory | None = None, pane: str | None = None, *, ascii: bool | None = None, fps: float = 2.0, mouse: bool = True, colours: str = "auto"
) -> int:
    """Run the app on this terminal and return its exit code.

    Without a run it opens where the last session ended, or on the list of runs. ASCII (`ascii` None) and colours
    ("auto") are chosen by what the terminal can show.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the terminal's encoding lacks is one cell, not an error
    settings, warning = remembered.load_settings()
    kind = terminal_kind(os.environ, sys.stdout.encoding or "")
    place: Pane | None = next((known for known in PANES if known == pane), None)
    restored = run is None and place is None
    if restored:
        run, place = remembered.last_session(settings)
    display = Display(kind, colour_name(colours), ascii_only=not kind.braille if ascii is None else ascii)
    app = RnnlmApp(run, place, settings=settings, display=display, keymap=read_keymap(keymap_file()), fps=fps, warning=warning)
    app.prefer_running = restored and place == "runs"
    code = app.run(mouse=mouse)
    threads.wait_for_threads()
    app.save_last_changes()
    return code if code is not None else app.return_code or 0
