"""The sampler's protocol: lines in, lines out, and cancelled requests."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    ANSWERS,
    CancelRequest,
    InspectRequest,
    LoadRequest,
    SampleDone,
    SampleFailed,
    SampleRequest,
)
from rnnlm_tui.worker.sampler import Mailbox, Writer, read_requests, serve


def read(*lines: bytes) -> tuple[Mailbox, list[SampleFailed]]:
    """The sampler's answers to these lines on stdin."""
    mailbox, output = Mailbox(), io.BytesIO()
    read_requests(io.BytesIO(b"".join(lines)), mailbox, Writer(output))
    return mailbox, [decode_line(line, SampleFailed) for line in output.getvalue().splitlines()]


def sample(name: str) -> bytes:
    return encode_line(SampleRequest(id=name, checkpoint="/c", prompt="We\nmust"))


def test_requests_keep_their_order() -> None:
    mailbox, failures = read(
        sample("a"), encode_line(LoadRequest(id="b", checkpoint="/c")), sample("c")
    )
    assert [mailbox.get().id for _ in range(3)] == ["a", "b", "c"]
    assert failures == []


def test_a_queued_request_that_is_cancelled_is_dropped_and_answered_at_once() -> None:
    mailbox, output = Mailbox(), io.BytesIO()
    asked = (
        SampleRequest(id="a", checkpoint="/c", count=2),
        InspectRequest(id="b", checkpoint="/c"),
        SampleRequest(id="c", checkpoint="/c"),
    )
    lines = b"".join(map(encode_line, (*asked, CancelRequest(id="a"), CancelRequest(id="b"))))
    read_requests(io.BytesIO(lines), mailbox, Writer(output))
    answers = [decode_line(line, *ANSWERS) for line in output.getvalue().splitlines()]
    assert [(type(answer), answer.id) for answer in answers] == [
        (SampleDone, "a"),
        (SampleDone, "a"),
        (SampleFailed, "b"),
    ]
    assert mailbox.get().id == "c"


def test_a_running_request_is_cancelled_and_a_finished_or_unknown_one_is_ignored() -> None:
    mailbox, _ = read(sample("a"), encode_line(CancelRequest(id="unknown")), sample("b"))
    mailbox.get()
    assert not mailbox.is_cancelled()
    assert mailbox.cancel("a") == []
    assert mailbox.is_cancelled()
    mailbox.done()
    mailbox.get()
    mailbox.cancel("a")
    assert not mailbox.is_cancelled()


def test_an_invalid_request_is_answered_with_an_error_and_the_rest_is_served() -> None:
    mailbox, failures = read(
        b"hello\n", b'{"kind": "explode", "id": "x"}\n', b"\xff\n", sample("a")
    )
    assert mailbox.get().id == "a"
    assert len(failures) == 3
    assert all(failure.message.startswith("not a valid message") for failure in failures)


def test_a_sampler_that_cannot_serve_exits_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch is broken')\n")
    sampler = subprocess.Popen(
        [sys.executable, "-m", "rnnlm_tui.worker.sampler"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    with sampler:
        assert sampler.wait(60) == 1
        assert sampler.stderr is not None
        assert b"libtorch is broken" in sampler.stderr.read()


def test_a_sampler_whose_gpu_failed_answers_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request starts another process, in which the GPU may work again."""

    class Broken:
        def __init__(self, device: str) -> None:
            assert device == "cuda"

        def of(self, *_arguments: object) -> object:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")

    class Left(Exception):  # noqa: N818 - not an error
        pass

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr("rnnlm_tui.worker.answers.Answers", Broken)
    monkeypatch.setattr(os, "_exit", leave)
    mailbox, _ = read(sample("a"))
    output = io.BytesIO()
    with pytest.raises(Left, match="4"):
        serve(mailbox, Writer(output), "cuda", 0)
    failed = decode_line(output.getvalue(), SampleFailed)
    assert (failed.id, failed.message, failed.exit_code) == (
        "a",
        "the GPU failed: unspecified launch failure",
        4,
    )
    assert "--device cpu" in failed.hint
