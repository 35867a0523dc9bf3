"""Prompts: from an argument, from files and from standard input."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted

STANDARD_INPUT = "standard input"
MOST_FILE_BYTES = 16 * 2**20
"""Largest file of prompts, which is read as a whole."""
MOST_PROBLEMS = 5
"""Maximum number of invalid lines of prompt files listed."""


def standard_input() -> TextIO:
    """Return sys.stdin.

    Raises:
        InputError: it is closed (`<&-` in a shell).
    """
    if sys.stdin is None:
        raise InputError("standard input is closed", hint="leave out the -, or pipe a text in")
    return sys.stdin


def read_prompt(prompt: str) -> str:
    """Return the prompt, or standard input for `-`, without its final line break.

    Reads no more of standard input than a prompt may have.

    Raises:
        InputError: not UTF-8, or too long.
    """
    from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS

    try:
        text = prompt
        if prompt == "-":
            text = standard_input().read(MAX_PROMPT_CHARACTERS + 2).removesuffix("\n")
        text.encode()
    except UnicodeError:
        raise InputError(
            "the prompt is not UTF-8", hint="check the terminal's encoding with `rnnlm-tui doctor`"
        ) from None
    if len(text) > MAX_PROMPT_CHARACTERS:
        have = counted(len(text), "character") if prompt != "-" else "too many characters"
        raise InputError(f"the prompt has {have}, the limit is {MAX_PROMPT_CHARACTERS:,}")
    return text


def read_prompts(file: Path) -> list[str]:
    """Read prompts from a file, or from standard input for `-`.

    One per non-empty line; in a .jsonl file, a string or an object with a `prompt`.

    Raises:
        InputError: the file can't be read, is too large, has no prompts, or has invalid lines,
            which are listed.
    """
    from json import loads

    place = STANDARD_INPUT if str(file) == "-" else str(file)
    try:
        opened = nullcontext(standard_input().buffer) if str(file) == "-" else file.open("rb")
        with opened as source:
            data = source.read(MOST_FILE_BYTES + 1)
        if len(data) > MOST_FILE_BYTES:
            raise InputError(
                f"{place} is too large for prompts: the limit is"
                f" {counted(MOST_FILE_BYTES, 'byte')}",
                hint="split it into several files",
            )
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read prompts from {place}: {error.strerror}",
            hint="one prompt per line, or a .jsonl file",
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8 (byte {error.start:,})", hint="save it as UTF-8"
        ) from None
    found, problems = list[str](), list[str]()
    for number, row in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not row:
            continue
        prompt: object = row
        if file.suffix in (".jsonl", ".ndjson"):
            try:
                value: object = loads(row)
            except (ValueError, RecursionError):
                problems.append(f"{place}, line {number:,}: not JSON")
                continue
            prompt = value.get("prompt") if isinstance(value, dict) else value
        if not isinstance(prompt, str):
            problems.append(
                f"{place}, line {number:,}: not a string or an object with a string “prompt”"
            )
        elif problem := _prompt_problem(prompt):
            problems.append(f"{place}, line {number:,}: {problem}")
        else:
            found.append(prompt)
    if problems:
        if len(problems) > MOST_PROBLEMS:
            more = f"and {counted(len(problems) - MOST_PROBLEMS, 'more line')}"
            problems = [*problems[:MOST_PROBLEMS], more]
        raise InputError("\n".join(problems))
    if not found:
        raise InputError(
            f"{place} has no prompts", hint="one prompt per line; empty lines are skipped"
        )
    return found


def _prompt_problem(prompt: str) -> str:
    """Say why a prompt is invalid; empty if it is valid."""
    from rnnlm_tui.schema.sampling import length_problem

    try:
        prompt.encode()
    except UnicodeError:
        return "the prompt is not UTF-8"
    return length_problem(len(prompt))
