"""The verb `docs`: list the guides, or show one in a pager or as plain Markdown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from io import StringIO

from rnnlm_tui.cli.options import arg
from rnnlm_tui.cli.output import columns, encodable, has_colour, note, table
from rnnlm_tui.docs import GUIDES, Guide, find_guide, fitted

MOST_COLUMNS = 100
"""Longer lines of prose are hard to read."""
STYLES = {
    "markdown.h1": "bold underline",
    "markdown.h2": "bold cyan",
    "markdown.h3": "bold",
    "markdown.code": "bold",
    "markdown.code_block": "none",
    "markdown.table.header": "bold",
    "markdown.table.border": "dim",
}
"""The terminal's own colours, which suit its background."""
_LINK = re.compile(r"\[([^\]]+)\]\(([a-z-]+)\.md(?:#[^)]*)?\)")


def complete_topic() -> list[str]:
    """List the topics, for the shell."""
    return [guide.topic for guide in GUIDES]


def docs(
    topic: str = arg(
        "[TOPIC]",
        "A guide, or the beginning of its name; without it, the list of guides.",
        "",
        complete_topic,
    ),
) -> None:
    """List the guides, or show one.

    A terminal gets the guide rendered, in $PAGER (default: less); a pipe or a file gets Markdown.
    """
    if not topic:
        table(("topic", "what it covers"), [(guide.topic, guide.summary) for guide in GUIDES])
        note("`rnnlm-tui docs TOPIC` shows a guide")
        return
    guide = find_guide(topic)
    width = columns(sys.stdout)
    if width is None:
        write_markdown(guide)
    else:
        page(rendered(guide, width))


def write_markdown(guide: Guide) -> None:
    """Write a guide's Markdown to stdout; a reader that stops early (`| head`) ends it silently."""
    try:
        sys.stdout.write(encodable(guide.text()))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout again at exit, and would report the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def rendered(guide: Guide, width: int) -> str:
    """Render a guide for a terminal of `width` columns; a link to a guide shows its topic."""
    from rich.console import Console
    from rich.theme import Theme

    from rnnlm_tui.docs.rendering import GuideMarkdown

    console = Console(
        file=StringIO(),
        theme=Theme(STYLES),
        width=min(width, MOST_COLUMNS),
        force_terminal=has_colour(),
        color_system="standard" if has_colour() else None,
        highlight=False,
    )
    text = _LINK.sub(r"\1 (`docs \2`)", fitted(guide.text(), min(width, MOST_COLUMNS)))
    with console.capture() as capture:
        console.print(GuideMarkdown(text, code_theme="ansi_light", hyperlinks=False))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return encodable("\n".join(lines) + "\n")


def page(text: str) -> None:
    """Show a text in the pager, or print it if there is none."""
    environment = {"LESS": "FRX", "LESSCHARSET": "utf-8", **os.environ}
    try:
        command = shlex.split(os.environ.get("PAGER", "")) or ["less"]
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    except (OSError, ValueError):
        print(text, end="", flush=True)
        return
    with suppress(BrokenPipeError, KeyboardInterrupt):
        pager.communicate(text.encode())
    while pager.poll() is None:
        with suppress(KeyboardInterrupt):  # less handles Ctrl-C itself
            pager.wait()
