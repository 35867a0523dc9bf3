"""What a line that is no command is answered with, beside what was wrong with it."""

from __future__ import annotations

from typing import get_args

from pydantic_core import from_json

from rnnlm_tui.contract.commands import Verb
from rnnlm_tui.errors import did_you_mean


def of_refused(line: bytes) -> tuple[str, str]:
    """The id of a refused line where it has one, and a hint when its verb is unknown."""
    try:
        value = from_json(line)
    except ValueError:
        return "", "send one JSON object a line"
    if not isinstance(value, dict):
        return "", "send one JSON object a line"
    verb = value.get("verb")
    verbs: tuple[str, ...] = get_args(Verb)
    hint = "" if verb in verbs else did_you_mean(str(verb)[:64], verbs) or f"verbs are {', '.join(verbs)}"
    return str(value.get("id", ""))[:64], hint
