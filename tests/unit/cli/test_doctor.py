"""The verb `doctor`: its checks in simulated environments, and its output."""

from __future__ import annotations

import json
import os
import re
import shutil
import sysconfig
from pathlib import Path

import pytest

from rnnlm_tui.cli.doctor import (
    CheckResult,
    check_gpus,
    check_home,
    check_keymap,
    check_loss_kernel,
    check_matmul,
    check_terminal,
    check_torch,
)
from rnnlm_tui.cli.main import run
from rnnlm_tui.system.disk import filesystem_of, is_network, nearest_existing
from tests.fakes.nvml import NO_DRIVER, UPDATED_DRIVER, Recording, plain_card, replay
from tests.fakes.torch_build import install_torch_build
from tests.unit.cli.pty import sent_to_terminal

FOUND = [
    CheckResult("rnnlm-tui", "ok", "0.1.0 on Python 3.11, /usr/bin/python"),
    CheckResult(
        "logging out",
        "note",
        "a run that is started here ends when its user logs out, since systemd kills it",
        "run `loginctl enable-linger` to keep it running",
    ),
    CheckResult(
        "disk", "bad", "12 MB free", "free some, or set RNNLM_TUI_HOME to a folder on another disk"
    ),
]


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the checks by three results, one per verdict."""
    monkeypatch.setattr("rnnlm_tui.cli.doctor.run_checks", lambda: iter(FOUND))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_doctor_wraps_at_words_on_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    codes = list[int]()
    sent = sent_to_terminal(monkeypatch, width, lambda: codes.append(run(["doctor"])))
    assert codes == [1]
    lines = re.sub(r"\x1b\[\d+m", "", sent).split("\n")[1:]
    assert all(len(line) <= width for line in lines)
    words = " ".join(f"{one.verdict} {one.check} {one.fact} {one.hint}" for one in FOUND).split()
    assert [word for line in lines for word in line.split() if word != "\\"] == words
    assert all(line.startswith(("ok", "note", "bad", " " * 19)) for line in lines if line)
    for colour, verdict in ((32, "ok"), (33, "note"), (31, "bad")):
        assert f"\x1b[{colour}m{verdict}\x1b[0m" in sent


def test_doctor_does_not_wrap_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 5
    assert lines[1] == f"note  logging out  {FOUND[1].fact}"
    assert lines[2] == f"{'':19}{FOUND[1].hint}"


def checked(
    environment: dict[str, str], encoding: str = "utf-8", columns: int = 80, terminal: bool = True
) -> dict[str, CheckResult]:
    found = check_terminal(environment, encoding, os.terminal_size((columns, 24)), terminal)
    return {result.check: result for result in found}


@pytest.mark.parametrize(
    ("environment", "verdict", "words"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ok", "16 million"),
        ({"TERM": "xterm-direct"}, "ok", "256"),
        ({"TERM": "xterm-256color", "SSH_CONNECTION": "a"}, "ok", "256 (over SSH"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/x"}, "ok", "256 (in tmux"),
        ({"TERM": "screen", "TMUX": "/tmp/x"}, "note", "16 (in tmux"),
        ({"TERM": "linux"}, "note", "16 ("),
        ({"TERM": "dumb"}, "note", 'none: TERM="dumb"'),
        ({}, "note", 'none: TERM=""'),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "note", "NO_COLOR"),
    ],
)
def test_colours_follow_from_the_environment(
    environment: dict[str, str], verdict: str, words: str
) -> None:
    result = checked(environment)["colours"]
    assert result.verdict == verdict
    assert words in result.fact
    assert ("tmux-256color" in result.hint) == (words == "16 (in tmux")
    assert ("if this terminal is one" in result.hint) == words.startswith("none: TERM")


@pytest.mark.parametrize(
    ("encoding", "kind", "fact"),
    [
        ("utf-8", "xterm", "utf-8"),
        ("UTF8", "xterm", "UTF8"),
        ("ascii", "xterm", "encoding ascii has no braille for charts"),
        ("", "xterm", "encoding unknown has no braille for charts"),
        ("utf-8", "linux", "the Linux console has no braille"),
    ],
)
def test_braille_needs_utf_8_and_a_font(encoding: str, kind: str, fact: str) -> None:
    result = checked({"TERM": kind}, encoding)["characters"]
    lacks = result.verdict == "note"
    assert lacks == (fact != encoding)
    assert result.fact == (f"{fact}; the app uses ASCII only" if lacks else fact)
    assert ("--no-ascii" in result.hint) == lacks


def test_a_locale_without_braille_is_reported() -> None:
    result = checked({"TERM": "xterm", "LANG": "C"})["characters"]
    assert result.fact == "the locale isn't UTF-8; the app uses ASCII only"


@pytest.mark.parametrize(
    ("columns", "terminal", "verdict"),
    [(80, True, "ok"), (40, True, "bad"), (40, False, "note")],
)
def test_a_small_or_missing_terminal_is_reported(
    columns: int, terminal: bool, verdict: str
) -> None:
    assert checked({}, columns=columns, terminal=terminal)["terminal"].verdict == verdict


def test_each_keymap_error_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "keymap.toml"
    assert check_keymap(path) == []
    path.write_text('pause = "P"\n')
    assert [(result.verdict, result.fact[:1]) for result in check_keymap(path)] == [("ok", "1")]
    path.write_text('pausse = "P"\nsample = "flurp"\n')
    assert [
        "line 1" in result.fact or "line 2" in result.fact for result in check_keymap(path)
    ] == [True, True]


def test_the_longest_mount_point_determines_the_filesystem(tmp_path: Path) -> None:
    mounts = {"/": "ext4", str(tmp_path): "nfs4", str(tmp_path / "a" / "b"): "xfs"}
    assert filesystem_of(tmp_path / "a", mounts) == "nfs4"
    assert filesystem_of(tmp_path / "a" / "b" / "c", mounts) == "xfs"
    assert filesystem_of(Path("/usr"), mounts) == "ext4"


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("nfs4", True),
        ("fuse.sshfs", True),
        ("cifs", True),
        ("ext4", False),
        ("overlay", False),
        ("", False),
    ],
)
def test_network_filesystems_are_recognized(kind: str, network: bool) -> None:
    assert is_network(kind) is network


def test_checking_the_home_creates_nothing(home: Path) -> None:
    found = list(check_home())
    assert not home.exists()
    assert [result.check for result in found] == ["home", "filesystem", "disk"]
    assert str(home) in found[0].fact


def test_a_home_below_a_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RNNLM_TUI_HOME", str(tmp_path / "file" / "home"))
    found = list(check_home())
    assert [result.verdict for result in found] == ["bad"]
    assert nearest_existing(tmp_path / "file" / "home") == tmp_path / "file"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("fpu avx2 avx512_bf16 amx_bf16", "bf16 with amx_bf16"),
        ("fpu avx2 avx512_bf16", "bf16 with avx512_bf16"),
        ("fpu avx2 avx512f", "neither amx_bf16 nor avx512_bf16"),
        ("", "float32; the CPU has neither"),
    ],
)
def test_cpu_flags_determine_the_matmul_precisions(flags: str, words: str) -> None:
    cpuinfo = f"processor\t: 0\nmodel name\t: any\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    assert words in check_matmul(cpuinfo if flags else "").fact


@pytest.mark.parametrize(
    ("version", "built_for", "verdict", "words"),
    [
        ("2.13.0", "12.6", "ok", "2 × NVIDIA H100 PCIe, 80 GiB, driver 550.54.15, CUDA 12.4"),
        ("2.13.0+cpu", None, "bad", "80 GiB, which torch can't use, driver 550.54.15"),
        ("2.13.0", "13.0", "bad", "which torch can't use"),
    ],
)
def test_gpus_that_torch_can_not_use_are_not_ok(
    monkeypatch: pytest.MonkeyPatch, version: str, built_for: str | None, verdict: str, words: str
) -> None:
    replay(monkeypatch, Recording((plain_card(), plain_card(uuid="GPU-2"))))
    install_torch_build(monkeypatch, version, built_for)
    result = check_gpus()
    assert result.verdict == verdict
    assert words in result.fact
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hidden = check_gpus()
    assert (hidden.verdict, "hidden by CUDA_VISIBLE_DEVICES" in hidden.fact) == ("note", True)


@pytest.mark.parametrize(
    ("lacking", "verdict", "words"),
    [
        ("", "ok", "Triton, a C compiler and Python's headers are here"),
        ("triton", "note", "Triton isn't installed: training on a GPU is slower"),
        ("compiler", "note", "Triton finds no C compiler: training on a GPU is slower"),
        ("headers", "note", "Python.h is missing: training on a GPU is slower"),
    ],
)
def test_what_the_loss_kernel_lacks_is_named_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lacking: str, verdict: str, words: str
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(
        "rnnlm_tui.cli.doctor.find_spec", lambda name: None if lacking == "triton" else name
    )
    monkeypatch.setattr(shutil, "which", lambda name: None if lacking == "compiler" else name)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    if lacking != "headers":
        (tmp_path / "Python.h").touch()
    replay(monkeypatch, Recording())
    assert not list(check_loss_kernel())
    replay(monkeypatch, Recording((plain_card(),)))
    (result,) = check_loss_kernel()
    assert (result.verdict, bool(result.hint)) == (verdict, bool(lacking))
    assert words in result.fact


def test_a_broken_driver_is_bad_and_no_gpu_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnlm_tui.system.cuda.pci_cards", lambda: 0)
    replay(monkeypatch, UPDATED_DRIVER)
    assert (check_gpus().verdict, "restart" in check_gpus().hint) == ("bad", True)
    replay(monkeypatch, NO_DRIVER)
    assert check_gpus().fact == "no NVIDIA GPU found; training runs on the CPU"
    monkeypatch.setattr("rnnlm_tui.system.cuda.pci_cards", lambda: 1)
    assert "--gpus all" in check_gpus().hint


def python_that(folder: Path, script: str) -> str:
    """An executable that prints what a Python might, asked about its torch."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return str(python)


def test_a_python_without_torch_is_reported_without_a_traceback(tmp_path: Path) -> None:
    message = "ModuleNotFoundError: No module named 'torch'"
    result = check_torch(python_that(tmp_path, f'echo "Traceback\n{message}" >&2; exit 1'))
    assert (result.verdict, result.fact) == ("bad", f"can't be imported: {message}")


@pytest.mark.parametrize(
    ("gpus", "problems", "verdict", "words"),
    [
        ({}, [], "ok", "2.13.0, trains on cpu, 2 threads"),
        ({"cuda:0": "H100"}, [], "ok", "trains on cuda:0 (H100), cpu"),
        ({}, [["torch is built without CUDA", "pip install"]], "bad", "cpu, 2 threads: torch is"),
        ({"cuda:1": "H100"}, [["no code for the P4", "use cu126"]], "note", "no code for the P4"),
    ],
)
def test_torchs_own_answer_about_gpus_is_the_verdict(
    tmp_path: Path, gpus: dict[str, str], problems: list[list[str]], verdict: str, words: str
) -> None:
    answer = {"version": "2.13.0", "threads": 2, "mps": False, "cuda": gpus, "problems": problems}
    result = check_torch(python_that(tmp_path, f"cat <<'end'\n{json.dumps(answer)}\nend"))
    assert result.verdict == verdict
    assert words in result.fact
    assert result.hint == "; ".join(fix for _, fix in problems)
