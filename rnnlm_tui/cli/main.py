"""The entry point of the command `rnnlm-tui`: runs a verb and turns errors into exit codes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; `arguments` defaults to sys.argv."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        from rnnlm_tui import __version__

        print(f"rnnlm-tui {__version__}")
        return
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are reported on stderr."""
    from rnnlm_tui.errors import EXIT_INTERRUPTED, RnnlmError

    try:
        from rnnlm_tui.cli.start import COMPLETING, open_app, opens_without_options

        if opens_without_options(arguments):
            gc.disable()  # `open_app` enables it again
            from rnnlm_tui.store.runs import find_run

            open_app(find_run(arguments[1]) if arguments else None)
        from rnnlm_tui.cli.app import run_command

        return run_command(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except RnnlmError as error:
        if COMPLETING in os.environ:
            return 0  # nothing to complete; an error would be printed into the line being typed
        from rnnlm_tui.cli.output import print_error

        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        return _report_bug(error)


def _report_bug(error: Exception) -> int:
    """Report an unexpected error in one sentence; the traceback goes to a log file."""
    import traceback
    from pathlib import Path
    from tempfile import mkstemp

    from rnnlm_tui.cli.output import note
    from rnnlm_tui.errors import RnnlmError

    descriptor, log = mkstemp(prefix="rnnlm-tui-", suffix=".log")
    os.close(descriptor)
    words = "".join(traceback.format_exception(error))
    Path(log).write_text(words, encoding="utf-8", errors="backslashreplace")
    what = f"internal error ({type(error).__name__}: {error})"
    note(f"rnnlm-tui: {what}; the traceback is in {log}")
    return RnnlmError.exit_code
