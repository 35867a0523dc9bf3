"""The sampler's protocol: lines in, lines out, and cancelled requests."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch

from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    CancelRequest,
    LoadRequest,
    SampleFailed,
    SampleRequest,
)
from rnnlm_tui.worker.sampler import Requests, Writer, read_requests, serve


def read(*lines: bytes) -> tuple[Requests, list[SampleFailed]]:
    """The requests in these lines of stdin, and the answers to invalid ones."""
    requests: Requests = SimpleQueue()
    output = io.BytesIO()
    read_requests(io.BytesIO(b"".join(lines)), requests, Writer(output))
    return requests, [decode_line(line, SampleFailed) for line in output.getvalue().splitlines()]


def sample(name: str) -> bytes:
    return encode_line(SampleRequest(id=name, checkpoint="/c", prompt="We\nmust"))


def test_requests_keep_their_order_and_are_cancelled_by_id() -> None:
    requests, failures = read(
        encode_line(CancelRequest(id="b")),
        sample("a"),
        encode_line(LoadRequest(id="b", checkpoint="/c")),
        sample("c"),
        encode_line(CancelRequest(id="a")),
        sample("a"),
    )
    asked = [requests.get_nowait() for _ in range(4)]
    assert [(request.id, cancelled.is_set()) for request, cancelled in asked] == [
        ("a", True),
        ("b", False),
        ("c", False),
        ("a", False),
    ]
    assert failures == []


def test_an_invalid_request_is_answered_with_an_error_and_the_rest_is_served() -> None:
    requests, failures = read(
        b"hello\n", b'{"kind": "explode", "id": "x"}\n', b"\xff\n", sample("a")
    )
    assert requests.get_nowait()[0].id == "a"
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
    requests, _ = read(sample("a"))
    output = io.BytesIO()
    with pytest.raises(Left, match="4"):
        serve(requests, Writer(output), "cuda", 0)
    failed = decode_line(output.getvalue(), SampleFailed)
    assert (failed.id, failed.message, failed.exit_code) == (
        "a",
        "the GPU failed: unspecified launch failure",
        4,
    )
    assert "--device cpu" in failed.hint
