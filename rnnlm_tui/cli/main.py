"""The command `rnnlm-tui`: puts the verbs together, turns errors into a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.errors import RnnlmError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; `arguments` defaults to those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        from rnnlm_tui import __version__

        print(f"rnnlm-tui {__version__}")
        return
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command; everything that goes wrong has been said on stderr."""
    from rnnlm_tui.errors import EXIT_INTERRUPTED, RnnlmError

    try:
        from rnnlm_tui.cli.start import open_app, open_run, opened_without_options

        if opened_without_options(arguments):
            if arguments:
                open_run(arguments[1])
            open_app(None)
        from rnnlm_tui.cli.application import build

        build()(list(arguments), prog_name="rnnlm-tui")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except RnnlmError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        return _confess(error)
    return 0


def complain(error: RnnlmError) -> None:
    """The error's message and hint on stderr, with nothing in them that could steer the terminal."""
    from rnnlm_tui.cli.output import note

    note(f"rnnlm-tui: {error.message}")
    if error.hint:
        note(error.hint)


def _confess(error: Exception) -> int:
    """One sentence for a fault of the program itself; the traceback goes to a file, whose path is said."""
    import tempfile
    import traceback

    from rnnlm_tui.cli.output import note
    from rnnlm_tui.errors import RnnlmError

    with tempfile.NamedTemporaryFile("w", prefix="rnnlm-tui-", suffix=".log", encoding="utf-8", errors="backslashreplace", delete=False) as log:
        log.writelines(traceback.format_exception(error))
    note(f"rnnlm-tui: a fault in the program itself ({type(error).__name__}: {error}); the traceback is in {log.name}")
    return RnnlmError.exit_code
