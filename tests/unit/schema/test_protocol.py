"""Messages survive a round trip, and others are rejected."""

from __future__ import annotations

import pytest

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.protocol import Command, CommandResult, decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    CancelRequest,
    LoadRequest,
    SampleDone,
    SamplePiece,
    SampleRequest,
)


@pytest.mark.parametrize(
    "message",
    [
        Command(id="1", verb="set", changes={"optimizer.learning_rate": 1e-3}),
        CommandResult(id="1", ok=False, error="no", hint="yes"),
        SampleRequest(
            id="a",
            checkpoint="/x",
            prompt="two\nlines \x1b[31m “ü”",
            settings=SamplingConfig(seed=2**63 - 1),
        ),
        SamplePiece(id="a", text="\r\n\u2028", tokens=3),
        CancelRequest(id="a"),
    ],
)
def test_a_message_is_unchanged_after_a_round_trip_in_one_line(
    message: Command | CommandResult | SampleRequest | SamplePiece | CancelRequest,
) -> None:
    line = encode_line(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_line(line, type(message)) == message


def test_the_name_of_its_class_selects_the_model() -> None:
    load = LoadRequest(id="a", checkpoint="/x")
    assert decode_line(encode_line(load), SampleRequest, CancelRequest, LoadRequest) == load


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"\n", b"{", b"[]", b"null", b"\xff\xfe"),
        b'{"id": "1"}',
        b'{"id": "1", "verb": "dance"}',
        b'{"id": "", "verb": "pause"}',
        b'{"id": "1", "verb": "pause", "extra": 1}',
    ],
)
def test_an_invalid_command_is_rejected_with_a_reason(line: bytes) -> None:
    with pytest.raises(InputError, match="not a valid message"):
        decode_line(line, Command)


def test_a_message_of_another_kind_is_rejected() -> None:
    done = SampleDone(id="a", reason="length", text="x", tokens=1)
    with pytest.raises(InputError):
        decode_line(encode_line(done), SamplePiece)
