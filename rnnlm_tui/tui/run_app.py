"""Runs the app on this terminal: what it can show, what was kept from the last time, and the user's own keys."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from rnnlm_tui.store.locations import keymap_file
from rnnlm_tui.tui import remembered, threads
from rnnlm_tui.tui.actions import PANES, Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.colours import colour_name
from rnnlm_tui.tui.keymap import read_keymap
from rnnlm_tui.tui.terminal_kind import terminal_kind

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory


def run_app(
    run: RunDirectory | None = None, pane: str | None = None, *, ascii: bool | None = None, fps: float = 2.0, mouse: bool = True, colours: str = "auto"
) -> int:
    """Run the app on this terminal until it is left; the exit code.

    Without a run it opens where it was left, or on the list of runs. Signs (`ascii` None) and `colours` ("auto") are chosen by what the terminal can.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sign that the terminal's encoding lacks is one cell, not an error or its code
    settings, trouble = remembered.recall()
    kind = terminal_kind(os.environ, sys.stdout.encoding or "")
    place: Pane | None = next((known for known in PANES if known == pane), None)
    recalled = run is None and place is None
    if recalled:
        run, place = remembered.last_place(settings)
    signs = not kind.braille if ascii is None else ascii
    keymap = read_keymap(keymap_file())
    app = RnnlmApp(run, place, ascii_only=signs, fps=fps, settings=settings, kind=kind, colours=colour_name(colours), keymap=keymap, trouble=trouble)
    app.prefer_living = recalled and place == "runs"
    code = app.run(mouse=mouse)
    threads.wait_for_threads()
    app.keep_what_is_left()
    return code if code is not None else app.return_code or 0
