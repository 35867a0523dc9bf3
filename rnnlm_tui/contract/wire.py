"""Encode and decode messages as one JSON object per line."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rnnlm_tui.errors import InputError

MessageT = TypeVar("MessageT", bound=BaseModel)


def encode_line(message: BaseModel) -> bytes:
    """Encode a message as one line of UTF-8 JSON."""
    return message.model_dump_json(exclude_defaults=False).encode() + b"\n"


def decode_line(line: bytes, *models: type[MessageT]) -> MessageT:
    """Decode a line as the first model that it matches; several models must differ in `kind`.

    Raises:
        InputError: invalid JSON, or not one of these messages.
    """
    problem = "no message expected"
    for model in models:
        try:
            return model.model_validate_json(line)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)[0]
            problem = f"{'.'.join(str(part) for part in details['loc']) or 'line'}: {details['msg']}"
    raise InputError(f"not a valid message: {problem}")
