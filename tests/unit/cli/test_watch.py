"""`show --watch` and `--once`: figures as plain lines, updated in place or appended."""

from __future__ import annotations

import io
import re
import sys
from functools import cache
from typing import get_args

import pytest

from rnnlm_tui.cli import watch
from rnnlm_tui.cli.main import run
from rnnlm_tui.cli.output import cells, clipped
from rnnlm_tui.cli.watch import frame_lines
from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.client.remaining import Eta, SteadyEta
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.schema.metrics import EvaluationRow, GpuRow
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import LockPage
from tests.fakes.nvml import read_machine
from tests.fakes.scripted_monitor import play
from tests.tui.demo_run import HOUR, NOW, demo_run, readings, seen
from tests.unit.cli.calls import Verbs
from tests.unit.cli.test_runs import trained_run
from tests.unit.client.logs import record


class Terminal(io.StringIO):
    """A screen that interprets the few codes that frames use."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[int, str] = {}
        self.row = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for code in re.findall(r"\x1b\[\d*[ABKJ]|\r|\n|[^\x1b\r\n]+", text):
            if code[0] != "\x1b":
                self.row += code == "\n"
                if code not in ("\r", "\n"):
                    self.lines[self.row] = code
            elif code[-1] in "AB":
                self.row += int(code[2:-1]) * (1 if code[-1] == "B" else -1)
            elif code[-1] == "J":
                self.lines = {row: line for row, line in self.lines.items() if row < self.row}
        return super().write(text)

    @property
    def shown(self) -> list[str]:
        return [self.lines.get(row, "") for row in range(max(self.lines, default=-1) + 1)]


@cache
def running() -> RunSnapshot:
    """The demo run while it trains."""
    return seen(demo_run())


def test_a_frame_has_the_dashboards_figures_and_fits_its_width() -> None:
    now = running()
    for width in (40, 60, 79, 119, 199):
        for ascii_only in (False, True):
            lines = frame_lines(now, Eta(24.0, 3.0), width, ascii_only=ascii_only)
            assert max(map(cells, lines)) <= width
            assert not ascii_only or all(line.isascii() for line in lines)
        (curve,) = [line for line in lines if line.startswith(" curve")]
        assert curve[-1].isdigit(), "it ends with the last value"
    text = "\n".join(frame_lines(now, Eta(24.0, 3.0), 119))
    figures = ["plain-otter ● running", "3,751 / 4,754", "24 s left ±3", "3,700: The state"]
    for figure in (*figures, "tok/s", "val ppl", "machine", "GPU", "sample"):
        assert figure in text


def test_every_status_has_a_frame() -> None:
    for status in set(get_args(RunStatus)) - {"draft", "preparing"}:
        last = NOW - HOUR if status == "lost" else NOW
        now = seen(demo_run(status, name=f"{status}-otter", now=last, curve=False))
        assert now.summary.status == status
        said = {"message": "what happened", "hint": "what to do"}
        reported = now._replace(summary=now.summary.model_copy(update=said))
        lines = frame_lines(reported, None)
        assert any("what happened" in line for line in lines)
        assert any(line.startswith(" to do   what to do") for line in lines)
    page = LockPage(progress=("encoding", 900_000, 1_880_000))
    now = seen(demo_run("preparing", 0, page=page))
    assert any("turning text into tokens" in line for line in frame_lines(now, None))


def test_each_other_gpu_has_a_line() -> None:
    others = (GpuRow(1, "NVIDIA L4", 12.0, 3 * 2**30, None, 24 * 2**30, 33.0, 41.0), GpuRow(2))
    now = seen(demo_run(hardware=readings(others=others), curve=False))
    assert " GPU 1   NVIDIA L4 12 %, 3.0 / 24 GiB used, 33 W, 41 °C" in frame_lines(now, None)


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (
            "h100",
            "NVIDIA H100 80GB HBM3 99 %, 41 GiB own, 42 / 80 GiB used, 698 / 700 W, 64 °C,"
            " 1,725 / 1,980 MHz, throttled: power cap",
        ),
        (
            "mig",
            "NVIDIA A100-SXM4-40GB MIG 3g.20gb, 14 GiB own, 14 / 20 GiB used, 186 / 400 W, 47 °C,"
            " 1,410 / 1,410 MHz",
        ),
        ("gpu-lost", "NVIDIA H100 80GB HBM3, card lost"),
    ],
)
def test_a_gpu_is_described_as_far_as_its_driver_reports_it(machine: str, text: str) -> None:
    card, others = read_machine(machine)
    now = seen(demo_run(hardware=readings(card=card, others=others), curve=False))
    assert f" GPU     {text}" in [line.rstrip() for line in frame_lines(now, None, 400)]


@pytest.mark.parametrize(
    ("text", "taken", "width", "cut"),
    [
        ("abc", 3, 3, "abc"),
        ("日本語", 6, 4, "日…"),
        ("e\u0301", 1, 1, "e\u0301"),
        ("❤\ufe0f" * 11, 22, 20, "❤\ufe0f" * 9 + "…"),
        ("👩\u200d👧" * 10, 20, 20, "👩\u200d👧" * 10),
    ],
)
def test_wide_and_joined_characters_are_measured_and_clipped_as_terminals_do(
    text: str, taken: int, width: int, cut: str
) -> None:
    assert cells(text) == taken
    assert clipped(text, width) == cut


def test_watching_in_a_terminal_rewrites_the_frame_until_the_run_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained_run()
    terminal, ended = Terminal(), seen(demo_run("finished", name="old-otter", curve=False))
    play(monkeypatch, [running(), None, ended])
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert run(["show", "brisk", "--watch", "--fps", "60"]) == 0
    assert terminal.shown == frame_lines(ended, None)
    assert [line for line in terminal.shown if "● running" in line] == []


def test_watching_without_a_terminal_prints_what_follow_prints(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    trained_run()
    stopped = seen(demo_run("stopped", name="old-otter", curve=False))
    play(monkeypatch, [running(), None, stopped])
    out = verb("show brisk --watch", code=3).out
    assert out.startswith("plain-otter: running, Elman")
    assert "old-otter stopped at step 3,751 / 4,754 (79 %), after" in out
    play(monkeypatch, [running(), KeyboardInterrupt()])
    assert "keeps running" in verb("show brisk --watch", code=130).err


def test_one_frame_of_a_finished_run_and_of_a_draft(verb: Verbs) -> None:
    trained_run()
    create_run(RunConfig(), "plain-otter")
    out = verb("show brisk --once").out
    assert "brisk-heron ✓ finished" in out
    assert "saved   best 2, last 3, 2 kept" in out
    assert "plain-otter o draft" in verb("show plain --once --ascii").out
    assert verb.json("show brisk --once")["run"] == "brisk-heron"
    assert verb.json("show brisk --watch")["status"] == "finished"


def test_health_has_a_line_a_figure_and_advice_or_says_why_there_is_none(verb: Verbs) -> None:
    trained_run()
    assert "its evaluations have none" in verb("show brisk --health").out
    run = create_run(RunConfig(), "plain-otter")
    assert "no evaluation yet" in verb("show plain --health").out
    figures = {"saturated": 0.9, "dead": 0.0, "memory": 2e3}
    record(run, *(HealthRow(1, step, {"layer 2": figures}, 0.0) for step in (500, 1_000)))
    lines = verb("show plain --health --ascii").out.splitlines()
    assert lines[0] == "2 of 3 out of range at step 1,000"
    assert re.match(r"! layer 2 +saturated units +90 % +up to 85 %", lines[1])
    assert lines[2].strip() == "-> lower the learning rate or init_scale"
    answer = verb.json("show plain --health")
    assert [one["step"] for one in answer["evaluations"]] == [500, 1_000]
    assert len(answer["advice"]) == 2


@pytest.mark.parametrize(
    "options", ["--watch --once", "--once --health", "--watch --fps 0", "--watch --fps x"]
)
def test_invalid_watch_options_are_rejected(options: str, verb: Verbs) -> None:
    trained_run()
    assert verb(f"show brisk {options}", code=2).out == ""


def test_a_frame_is_printed_over_the_last_one_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    terminal.write("$ rnnlm-tui show plain-otter --watch\n")
    printer = watch.FramePrinter(terminal, ascii_only=False)
    now = running()
    shorter = now._replace(events=(), samples=())
    for snapshot, size in (
        (now, (119, 40)), (shorter, (119, 40)), (now, (139, 40)), (now, (139, 30)),
        (now, (149, 40)), (shorter, (149, 30)),
    ):  # fmt: skip
        monkeypatch.setattr(watch, "_size", lambda _stream, size=size: size)
        printer.update(snapshot)
        wanted = frame_lines(snapshot, None, size[0])[: size[1] - 1]
        shown = [line for line in terminal.shown if line]
        assert shown[0].startswith("$ rnnlm-tui")
        assert [line[:8] for line in shown[1:]] == [line[:8] for line in wanted if line]
    sent = len(terminal.getvalue())
    printer.update(shorter)
    assert len(terminal.getvalue()) == sent, "an equal frame isn't sent again"


def test_lines_rewrapped_by_a_narrower_terminal_are_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO()
    printer = watch.FramePrinter(terminal, ascii_only=False)
    frames = iter((["x" * 100, "", "y" * 40], ["z"], ["z"] * 40, ["end"]))
    monkeypatch.setattr(watch, "frame_lines", lambda *_, **__: next(frames))
    sizes = iter(((119, 30), (49, 30), (49, 50), (49, 10)))
    monkeypatch.setattr(watch, "_size", lambda _stream: next(sizes))
    sent = []
    for _ in range(4):
        printer.update(running())
        sent.append(terminal.getvalue())
        terminal.truncate(terminal.seek(0))
    assert sent[0].startswith("\rxxx")
    assert sent[1] == "\x1b[4A\rz\x1b[K\n\x1b[J", "two rows, an empty one, one row"
    assert sent[2].startswith("\x1b[1A\r")
    assert sent[3].startswith("\x1b[9A\r"), "no further than the terminal is high"


def test_the_first_drop_does_not_flatten_the_curve_of_a_long_run() -> None:
    losses = [9.0, 7.0, 6.0, *(5.0 - number / 40 for number in range(37))]
    rows = tuple(
        EvaluationRow(1, 100 * number, "validation", "validation", loss, 1, 1.0, 1.0, 1.0)
        for number, loss in enumerate(losses, 1)
    )
    curve = next(
        line
        for line in frame_lines(running()._replace(evaluations=rows), None, 119)
        if line.startswith(" curve")
    )
    assert {"█", "▆", "▅", "▃", "▁"} <= set(curve)


def test_the_time_left_counts_down_and_starts_over_with_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter((0.0, 10.0, 20.0, 21.0))
    monkeypatch.setattr("rnnlm_tui.client.remaining.monotonic", lambda: next(clock))
    steady, run = SteadyEta(), running().summary
    one, other, paused = (
        run.model_copy(update=changes)
        for changes in (
            {"eta_seconds": 100.0},
            {"run": "calm-badger", "eta_seconds": 101.0},
            {"status": "paused"},
        )
    )
    shown = [steady.of(summary, 2.0) for summary in (one, one, other, paused)]
    assert [None if eta is None else eta.seconds for eta in shown] == [100.0, 90.0, 101.0, None]
