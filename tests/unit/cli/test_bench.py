"""The verb `bench`: its tables and invalid options."""

from __future__ import annotations

import pytest

from rnnlm_tui.cli.bench import print_report
from rnnlm_tui.cli.main import run
from tests.fakes.bench_report import sample_report


def test_the_tables_show_speed_ratio_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(sample_report())
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "engine float32 8,000 4.00 3.60–4.40 2.00 0.5 GiB 25% 15 min 00 s" in lines
    assert "engine 2,000 20.0 18.00–22.00 2.0 ms yes" in lines
    assert "2 processes 1 7,200 0.90 0.81–0.99 90% 25% 33 MB 33 MB/step" in lines
    assert lines[-1] == "a remark"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "bok"], 'unknown preset "bok"'),
        (["--seconds", "0"], "--seconds must be above 0 and at most 3,600, not 0"),
        (["--seconds", "abc"], "--seconds is abc, must be a number\n"),
        (["--processes", "1,x"], '--processes is "1,x", must be numbers such as 1,2,4'),
        (["--processes", "0"], '--processes is "0", must be numbers such as 1,2,4'),
        (["--processes", "129", "--device", "cpu"], "training.batch_size: is 128, but"),
        (["--processes", "2", "--only", "training"], "--only and --processes are mutually excl"),
        (["--only", "foo"], "--only is foo, must be one of training, sampling\n"),
        (["--device", "tpu"], "training.device"),
        (["--set", "model.hiden_size=3"], "model.hiden_size"),
    ],
)
def test_invalid_benchmark_options_are_rejected(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--json", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_ctrl_c_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rnnlm_tui.bench.runner.run_bench", interrupted)
    assert run(["bench", "--json"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
