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


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a bench of the book on the CPU."""
    monkeypatch.setattr("sys.argv", ["bench", "--device", "cpu"])


def test_control_characters_in_untrusted_text_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = sample_report()
    named = report.model_copy(
        update={"data": report.data.model_copy(update={"title": "a \x9b31m text – \u202e"})}
    )

    def measure(_options: BenchOptions, say: Callable[[str], None]) -> BenchReport:
        say("a \x1b[31m text")
        return named

    monkeypatch.setattr(program, "run_bench", measure)
    assert program.main() == 0
    out, err = capsys.readouterr()
    assert err == "a ␛[31m text\n"
    assert out.isascii()
    assert BenchReport.model_validate(json.loads(out)) == named


def test_control_characters_in_a_childs_output_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(_options: BenchOptions, _say: Callable[[str], None]) -> BenchReport:
        raise WorkerError("naive ended (exit code 1): \x1b]0;mine\x07", hint="look \x9b2J")

    monkeypatch.setattr(program, "run_bench", measure)
    assert program.main() == WorkerError.exit_code
    assert capsys.readouterr() == ("", "naive ended (exit code 1): ␛]0;mine␇\nlook ‹9b›2J\n")


def test_impossible_options_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--preset", "bok"])
    assert program.main() == 2
    assert 'unknown preset "bok"' in capsys.readouterr().err


def test_ctrl_c_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(_options: BenchOptions, _say: Callable[[str], None]) -> BenchReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "run_bench", measure)
    assert program.main() == 130
    assert capsys.readouterr() == ("", "interrupted\n")
