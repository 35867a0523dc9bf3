"""Prompts that are empty, far too long, not text or unknown to the model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS
from rnnlm_tui.store.runs import create_run
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, wait_for
from tests.terminal import Terminal

pytestmark = pytest.mark.fault(
    "an endless prompt, a corpus without text, an impossible config or name"
)

DEADLINE = 60.0
MOST_MIB = 120
"""Memory limit of a command that rejects a prompt of any size."""


def limited(*arguments: str | bytes, stdin: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a verb in a process with limited memory."""
    start = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, ({MOST_MIB} << 20,) * 2);"
        " from rnnlm_tui.cli.main import main; main()"
    )
    with (stdin or Path(os.devnull)).open("rb") as file:
        return subprocess.run(
            [sys.executable, "-c", start, *arguments],
            stdin=file,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )


FILE_LIMIT = "is too large for prompts: the limit is 16,777,216 bytes"


@pytest.mark.parametrize(
    ("verb", "limit"),
    [
        (("sample", "plain-otter", "-"), f"the limit is {MAX_PROMPT_CHARACTERS:,}"),
        (("sample", "plain-otter", "--prompts", "/dev/zero"), FILE_LIMIT),
        (("sample", "plain-otter", "--prompts", "LARGE"), FILE_LIMIT),
        (("config", "show", "--config", "/dev/zero"), "too large: the limit is 1,048,576 bytes"),
    ],
)
def test_an_endless_text_is_rejected_with_the_limit_in_constant_memory(
    verb: tuple[str, ...], limit: str, tmp_path: Path
) -> None:
    create_run(RunConfig(), "plain-otter")
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 2**30)  # sparse: it takes no room
    words = (str(large) if word == "LARGE" else word for word in verb)
    ended = limited(*words, stdin=Path("/dev/zero"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert limit in ended.stderr


def test_a_prompt_of_invalid_utf_8_is_rejected(tmp_path: Path) -> None:
    create_run(RunConfig(), "plain-otter")
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"caf\xe9")
    for ended in (
        limited("sample", "plain-otter", b"caf\xe9"),
        limited("sample", "plain-otter", "-", stdin=file),
        limited("sample", "plain-otter", b"\xed\xa0\x80"),
    ):
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "the prompt is not UTF-8" in ended.stderr
        assert "doctor" in ended.stderr


def test_ctrl_c_stops_a_sample_and_leaves_no_process(text: Path, workers: Workers) -> None:
    quiet = {"training.max_steps": 10, "evaluation.every": 0, "checkpoint.every": 0}
    assert workers.work(create_run(tiny_config(text, quiet), "small")) == 0
    command = [
        sys.executable,
        "-m",
        "rnnlm_tui",
        "sample",
        "small@last",
        "The 漢",
        "--max-new-tokens",
        "1000000",
    ]
    with Terminal(command) as opened:
        opened.wait_for(lambda: len(opened.raw) > 200, DEADLINE)
        children = psutil.Process(opened.pid).children(recursive=True)
        assert children
        opened.send("\x03")
        assert opened.wait(DEADLINE) == 128 + signal.SIGINT
        assert "Traceback" not in opened.text
    wait_for(
        lambda: (
            not any(
                child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children
            )
        ),
        "the sampler's end",
    )
