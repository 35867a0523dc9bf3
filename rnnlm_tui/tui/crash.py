"""When the app itself fails: the traceback goes to a log file, and the terminal shows two lines."""

from __future__ import annotations

import traceback
from datetime import datetime
from pathlib import Path

from rnnlm_tui.contract.outside_text import safe
from rnnlm_tui.store.locations import home

MOST_BYTES = 1_000_000
"""A longer log is overwritten."""


def log_traceback(error: BaseException) -> Path | None:
    """Append the traceback to the app's log in the data home; None if it can't be written."""
    path = home() / "app.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = "a" if not path.exists() or path.stat().st_size < MOST_BYTES else "w"
        with path.open(mode, encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}\n{''.join(traceback.format_exception(error))}\n")
        path.chmod(0o600)
    except OSError:
        return None
    return path


def crash_report(error: BaseException, log: Path | None) -> str:
    """Return two lines for the terminal after the app has failed."""
    where = f"Details: {safe(str(log))}" if log is not None else "Details could not be written."
    return f"rnnlm-tui: the app failed ({type(error).__name__}). Runs keep training; start rnnlm-tui again to come back.\n{where}"
