"""Following a run, with a scripted monitor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.cli.follow import ENDED, follow_run
from rnnlm_tui.cli.main import run
from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import EvaluationRow, SampleRow
from rnnlm_tui.schema.queue import QueueEntry, QueueFile
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import (
    BaselineFigures,
    CheckpointFigures,
    EvaluationFigures,
    ModelFigures,
    PatienceFigures,
    RunSummary,
    TrainFigures,
)
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.queue import change_queue
from rnnlm_tui.store.series import SeriesTable
from tests.fakes import scripted_monitor
from tests.unit.client.logs import record
from tests.unit.store.rows import new_run

Followed = Callable[..., tuple[int, str, str]]
RUN = RunDirectory(Path("/nowhere/brisk-heron"))


def summary(status: RunStatus, step: int = 0, attempt: int = 1, **more: object) -> RunSummary:
    figures: dict[str, object] = {
        "model": ModelFigures(
            cell_type="elman", num_layers=2, hidden_size=192, tie_weights=True, parameters=543_104
        ),
        "train": TrainFigures(loss=4.0, perplexity=54.6),
        "test": EvaluationFigures(name="test", perplexity=56.4, bits_per_byte=1.67),
        "baseline": BaselineFigures(perplexity=73.0),
        "checkpoints": CheckpointFigures(last=step, count=1),
        "max_steps": 100,
        "eta_seconds": 61.0,
        **more,
    }
    return RunSummary.model_validate(
        {"run": "brisk-heron", "status": status, "step": step, "attempt": attempt, **figures}
    )


def snapshot(
    shown: RunSummary, evaluations: Sequence[EvaluationRow] = (), samples: Sequence[SampleRow] = ()
) -> RunSnapshot:
    table, rows = SeriesTable.__new__(SeriesTable), (tuple(evaluations), tuple(samples))
    return RunSnapshot(shown, RunConfig(), table, *rows, (), (), (), (), None)


def evaluation(step: int) -> EvaluationRow:
    return EvaluationRow(1, step, "validation", "validation", 4.1, 1000, 1.7, 0.5, float(step))


def sample(step: int, prompt: str = "We must", text: str = " go on.") -> SampleRow:
    return SampleRow(1, step, prompt, text, 3, 7, float(step))


Captured = pytest.CaptureFixture[str]


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Followed:
    """Follow a run whose polls return a script, without pauses: the code, stdout and stderr."""

    def follow(
        *script: RunSnapshot | BaseException | None, json: bool = False, attempt: int = 0
    ) -> tuple[int, str, str]:
        opened = scripted_monitor.play(monkeypatch, script)
        code = follow_run(RUN, json=json, attempt=attempt)
        assert [run for run, _ in opened] == [RUN]
        return code, *capsys.readouterr()

    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr("rnnlm_tui.cli.follow.LINE_SECONDS", 0.0)
    return follow


@pytest.mark.parametrize(
    ("status", "code"),
    [("finished", 0), ("stopped", 3), ("failed", 4), ("crashed", 4), ("lost", 4)],
)
def test_the_exit_code_depends_on_how_the_run_ended(
    status: RunStatus, code: int, followed: Followed
) -> None:
    running, ended = snapshot(summary("running", 5)), snapshot(summary(status, 9))
    assert followed(running, None, ended)[0] == code == ENDED[status]


@pytest.mark.parametrize("status", ["preparing", "paused", "stalled", "running"])
def test_following_continues_while_the_run_may_continue(
    status: RunStatus, followed: Followed
) -> None:
    assert followed(snapshot(summary(status)), snapshot(summary("finished", 100)))[0] == 0


@pytest.mark.parametrize("killed", [False, True], ids=["draft", "killed before it began"])
def test_following_a_run_that_was_never_started_says_so(killed: bool, capsys: Captured) -> None:
    draft = new_run("plain-otter")
    if killed:
        record(draft)
    assert run(["follow", draft.name]) == RunStateError.exit_code
    assert "`rnnlm-tui resume plain-otter` starts it" in capsys.readouterr().err


def test_a_draft_that_waits_in_the_queue_is_followed(followed: Followed) -> None:
    change_queue(lambda _: QueueFile(entries=(QueueEntry(run=RUN.name, added=1.0),)))
    assert followed(snapshot(summary("draft")), snapshot(summary("finished", 100)))[0] == 0


def test_every_json_line_is_an_object_and_the_last_is_the_end(followed: Followed) -> None:
    begun = snapshot(summary("preparing")), snapshot(summary("running", 5)), None, None
    _, out, err = followed(*begun, snapshot(summary("finished", 100)), json=True)
    lines = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [line["status"] for line in lines][:2] == ["preparing", "running"]
    assert lines[-1] == summary("finished", 100).model_dump(mode="json")


def test_plain_lines_show_progress_evaluations_results_and_a_sample(followed: Followed) -> None:
    rows, end = [evaluation(50)], [sample(100, text=" do better."), sample(50)]
    code, out, err = followed(
        snapshot(summary("preparing")),
        snapshot(summary("running", 5)),
        snapshot(summary("running", 50), rows, [sample(50)]),
        snapshot(summary("running", 60), rows, [sample(50)]),
        snapshot(summary("finished", 100), [*rows, evaluation(100)], end),
    )
    assert code == 0
    for words in (
        "brisk-heron: running, Elman 2×192 tied, 543,104 parameters, 100 steps",
        "step 60 / 100 (60 %)  loss 4.000  ppl 54.6",
        "1 min 01 s left",
        "We must go on.",
        "perplexity 56.4, 1.67 bits a byte",
        "perplexity 73.0 on the same test tokens: a 5-gram model",
    ):
        assert words in out
    assert out.count("step 50  validation perplexity") == 1
    assert out.rstrip().endswith("We must do better.")
    assert "rnnlm-tui sample brisk-heron" in err


def test_the_first_prompt_of_the_last_evaluation_is_shown_and_suggested(followed: Followed) -> None:
    """Also those of an own text, which the config doesn't name."""
    asked = [sample(100, prompt)._replace(time=time) for prompt, time in (("c d", 2), ("a b", 1))]
    _, out, err = followed(snapshot(summary("finished", 100), [], [*asked, sample(50)]))
    assert out.rstrip().endswith("a b go on.")
    assert "`rnnlm-tui sample brisk-heron 'a b'` continues a prompt" in err


def test_patience_is_printed_after_the_evaluation(followed: Followed) -> None:
    waits = summary("running", 50, patience=PatienceFigures(waited=2, limit=5))
    ended: dict[str, Any] = {
        "message": "stopped early: 5 evaluations without a better one",
        "hint": "take `train`",
    }
    over = summary("finished", 80, patience=PatienceFigures(waited=5, limit=5), **ended)
    _, out, err = followed(*(snapshot(one, [evaluation(50)]) for one in (waits, waits, over)))
    assert out.count("no better validation loss for 2 evaluations, training stops at 5") == 1
    assert all(words in err for words in ended.values())


def test_earlier_evaluations_are_not_repeated(followed: Followed) -> None:
    old = [evaluation(10), evaluation(20)]
    end = snapshot(summary("finished", 100), [*old, evaluation(30)])
    _, out, _ = followed(snapshot(summary("running", 25), old), end)
    assert "step 20  " not in out
    assert "step 30  " in out


def test_ctrl_c_detaches_and_says_how_to_return(followed: Followed) -> None:
    code, _, err = followed(snapshot(summary("running", 5)), KeyboardInterrupt(), json=True)
    assert code == 130
    assert "brisk-heron keeps running" in err
    for verb in ("follow", "open", "stop"):
        assert f"`rnnlm-tui {verb} brisk-heron`" in err


def test_the_end_of_an_earlier_attempt_is_ignored(followed: Followed) -> None:
    stopped, running = summary("stopped", 50), summary("running", 60, attempt=2)
    ends = [snapshot(one) for one in (stopped, running, summary("finished", 100, attempt=2))]
    assert followed(*ends, attempt=2)[0] == 0


def test_following_ends_if_the_worker_never_begins(
    monkeypatch: pytest.MonkeyPatch, followed: Followed
) -> None:
    monkeypatch.setattr("rnnlm_tui.cli.follow.BEGIN_SECONDS", -1.0)
    assert followed(snapshot(summary("crashed", 50)), attempt=2)[0] == 4


def test_a_failed_run_says_why_and_how_to_resume(followed: Followed) -> None:
    _, _, err = followed(snapshot(summary("failed", 50, message="out of memory\x1b[0m")))
    assert "out of memory" in err
    assert "\x1b" not in err
    assert "rnnlm-tui resume brisk-heron" in err
