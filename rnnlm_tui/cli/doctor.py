"""The verb `doctor`: what of this machine, terminal and installation may stand in the way."""

from __future__ import annotations

import typer

from rnnlm_tui.cli.arguments import JsonOption


def doctor(json: JsonOption = False) -> None:
    """Check this machine, terminal and installation."""
    from rnnlm_tui.cli.checks import findings
    from rnnlm_tui.cli.output import line, print_json

    found = findings()
    if json:
        print_json([{"check": finding.check, "verdict": finding.verdict, "fact": finding.fact, "hint": finding.hint} for finding in found])
    else:
        width = max(len(finding.check) for finding in found)
        for finding in found:
            line(f"{finding.verdict:<4}  {finding.check:<{width}}  {finding.fact}")
            if finding.hint:
                line(f"{'':<{width + 8}}{finding.hint}")
    if any(finding.verdict == "bad" for finding in found):
        raise typer.Exit(1)
