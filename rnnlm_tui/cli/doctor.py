"""The verb `doctor`: check the machine, the terminal and the installation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from rnnlm_tui.cli.arguments import JsonOption

if TYPE_CHECKING:
    from rnnlm_tui.cli.checks import CheckResult
    from rnnlm_tui.cli.output import Colour

COLOURS: dict[str, Colour] = {"ok": "good", "note": "warn", "bad": "bad"}
"""Colour of each verdict."""


def doctor(json: JsonOption = False) -> None:
    """Check this machine, terminal and installation."""
    from rnnlm_tui.cli.checks import findings
    from rnnlm_tui.cli.output import print_json

    found = findings()
    if json:
        print_json([{"check": finding.check, "verdict": finding.verdict, "fact": finding.fact, "hint": finding.hint} for finding in found])
    else:
        width = max(len(finding.check) for finding in found)
        for finding in found:
            _print(finding, width)
    if any(finding.verdict == "bad" for finding in found):
        raise typer.Exit(1)


def _print(finding: CheckResult, width: int) -> None:
    """Print a result and its hint below it, each wrapped in its own column."""
    from rnnlm_tui.cli.output import columns, painted, shown, wrapped

    indent, room = width + 8, columns(sys.stdout)
    lead = f"{painted(f'{finding.verdict:<4}', COLOURS[finding.verdict])}  {painted(f'{finding.check:<{width}}', 'dim')}  "
    print(lead + wrapped(shown(finding.fact), room, indent=indent), flush=True)
    if finding.hint:
        print(" " * indent + wrapped(shown(finding.hint), room, indent=indent), flush=True)
