"""One JSON object a line: how commands, requests and their answers travel."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rnnlm_tui.errors import InputError

MessageT = TypeVar("MessageT", bound=BaseModel)


def encode_line(message: BaseModel) -> bytes:
    """The message as one line of UTF-8 JSON, newline included; a newline inside a text is escaped by JSON."""
    return message.model_dump_json(exclude_defaults=False).encode() + b"\n"


def decode_line(line: bytes, *models: type[MessageT]) -> MessageT:
    """The first of `models` that the line fits; for several, each must have its own `kind`.

    Raises:
        InputError: not JSON, or no message of these kinds.
    """
    problem = "nothing was expected"
    for model in models:
        try:
            return model.model_validate_json(line)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)[0]
            problem = f"{'.'.join(str(part) for part in details['loc']) or 'line'}: {details['msg']}"
    raise InputError(f"not a valid message: {problem}")
