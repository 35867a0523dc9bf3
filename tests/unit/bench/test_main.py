"""`python -m rnnlm_tui.bench`: nothing from outside acts on the terminal that it is run in."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from rnnlm_tui.bench import __main__ as program
from rnnlm_tui.bench.report import BenchReport
from rnnlm_tui.bench.runner import BenchOptions
from rnnlm_tui.errors import WorkerError
from tests.fakes.bench_report import sample_report


def shown(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: BenchReport | BaseException,
    *arguments: str,
) -> tuple[int, str, str]:
    """The exit code and both outputs of a bench on the CPU that ends so."""

    def measure(_options: BenchOptions, say: Callable[[str], None]) -> BenchReport:
        if isinstance(outcome, BaseException):
            raise outcome
        say("a \x1b[31m text")
        return outcome

    monkeypatch.setattr("sys.argv", ["bench", "--device", "cpu", *arguments])
    monkeypatch.setattr(program, "run_bench", measure)
    return program.main(), *capsys.readouterr()


def test_control_characters_in_untrusted_text_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = sample_report()
    data = report.data.model_copy(update={"title": "a \x9b31m text – \u202e"})
    named = report.model_copy(update={"data": data})
    code, out, err = shown(monkeypatch, capsys, named)
    assert (code, err) == (0, "a ␛[31m text\n")
    assert out.isascii()
    assert BenchReport.model_validate(json.loads(out)) == named


def test_failures_have_their_exit_codes_and_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    died = WorkerError("naive ended (exit code 1): \x1b]0;mine\x07", hint="look \x9b2J")
    words = "naive ended (exit code 1): ␛]0;mine␇\nlook ‹9b›2J\n"
    assert shown(monkeypatch, capsys, died) == (WorkerError.exit_code, "", words)
    assert shown(monkeypatch, capsys, KeyboardInterrupt()) == (130, "", "interrupted\n")
    code, _, err = shown(monkeypatch, capsys, died, "--preset", "bok")
    assert (code, err.startswith('unknown preset "bok"')) == (2, True)
