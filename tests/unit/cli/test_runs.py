"""The verbs about runs, with real run directories; the keys of their JSON are fixed."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.client.listing import listed_runs
from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.schema.config import RunConfig, TrainingConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EvaluationRow, EventRow, StepRow
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import RunLabels, labels_file, read_labels
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.trash import delete_run
from tests.fakes import sampler
from tests.unit.client.logs import record

SHOW_KEYS = {
    "run",
    "status",
    "attempt",
    "step",
    "max_steps",
    "epoch",
    "tokens_seen",
    "pid",
    "started",
    "tokens_per_second",
    "eta_seconds",
    "train.loss",
    "train.perplexity",
    "validation.perplexity",
    "test.perplexity",
    "test.bits_per_byte",
    "baseline.perplexity",
    "source.perplexity",
    "checkpoints.best",
    "checkpoints.last",
}


def step_row(step: int, loss: float = 4.0) -> StepRow:
    return StepRow(
        1, step, 700 * step, step / 100, loss, 0.5, 1e-3, 20_000.0, 0.035 * step, 1_000.0 + step
    )


def put_config(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def trained_run(name: str = "brisk-heron", config: RunConfig | None = None) -> RunDirectory:
    """Create a finished run of three steps with two checkpoints."""
    directory = create_run(config or RunConfig(), name)
    record(
        directory,
        Facts(max_steps=3),
        *(step_row(1), step_row(2, math.nan), step_row(3)),
        EvaluationRow(1, 3, "validation", "validation", 4.1, 1000, 1.7, 0.5, 1_003.0),
        EventRow(1, 3, "finished", "", 1_004.0),
    )
    for step, loss in ((2, 4.1), (3, 4.3)):
        write_checkpoint(directory, step, put_config, None, {"validation_loss": loss})
    return directory


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> object:
    """Run a verb with --json and parse its stdout, which holds nothing else."""
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def has_key(value: object, dotted: str) -> bool:
    for part in dotted.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def test_show_and_runs_have_all_json_keys(capsys: pytest.CaptureFixture[str]) -> None:
    trained_run()
    create_run(RunConfig(), "plain-otter")
    shown = json_of(["show", "brisk"], capsys)
    assert [key for key in sorted(SHOW_KEYS) if not has_key(shown, key)] == []
    assert isinstance(shown, dict)
    assert (shown["run"], shown["status"], shown["step"], shown["max_steps"]) == (
        "brisk-heron",
        "finished",
        3,
        3,
    )
    assert shown["validation"]["perplexity"] == pytest.approx(math.exp(4.1))
    listed = json_of(["runs"], capsys)
    assert isinstance(listed, list)
    assert {item["run"]: item["status"] for item in listed} == {
        "brisk-heron": "finished",
        "plain-otter": "draft",
    }
    assert shown in listed


def test_runs_and_show_print_plain_text_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs"]) == 0
    assert "rnnlm-tui train" in capsys.readouterr().out
    trained_run()
    assert run(["runs"]) == 0
    assert "Elman 2×192 tied" in capsys.readouterr().out
    assert run(["show", "brisk-heron"]) == 0
    out = capsys.readouterr().out
    assert "status       finished" in out
    assert "3 / 3 (100 %)" in out
    assert "perplexity 60.3" in out


@pytest.mark.parametrize(
    "words", [["show"], ["show", "--once"], ["metrics"], ["metrics", "--csv"], ["follow"]]
)
@pytest.mark.parametrize("long", [True, False])
def test_a_log_that_takes_long_to_read_shows_how_far_it_is_on_a_terminal(
    words: list[str],
    long: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refresh = RunReader.refresh

    def slow(reader: RunReader, report: Callable[[int, int], None] | None = None) -> object:
        if report is not None:
            report(61_000_000, 145_000_000)
        return refresh(reader)

    trained_run()
    monkeypatch.setattr(RunReader, "refresh", slow)
    monkeypatch.setattr("rnnlm_tui.cli.output.columns", lambda stream: 100)
    monkeypatch.setattr("rnnlm_tui.cli.output.LONG_SECONDS", 0.0 if long else 60.0)
    assert run([*words, "brisk-heron"]) == 0
    told = "\rreading the log of brisk-heron: 61 MB of 145 MB (42 %)\x1b[K\r\x1b[K"
    assert (told in capsys.readouterr().err) is long


def test_csv_has_all_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    trained_run()
    assert run(["metrics", "brisk-heron", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [row["loss"] for row in rows] == ["4.0", "nan", "4.0"]
    assert set(rows[0]) == {
        "attempt",
        "step",
        "tokens_seen",
        "epoch",
        "loss",
        "grad_norm",
        "learning_rate",
        "tokens_per_second",
        "active_seconds",
        "time",
    }


def test_json_metrics_have_null_for_non_finite_losses(capsys: pytest.CaptureFixture[str]) -> None:
    trained_run()
    found = json_of(["metrics", "brisk-heron"], capsys)
    assert isinstance(found, list)
    assert [row["loss"] for row in found] == [4.0, None, 4.0]
    create_run(RunConfig(), "plain-otter")
    assert json_of(["metrics", "plain-otter"], capsys) == []
    evaluations = json_of(["metrics", "brisk-heron", "--evaluations"], capsys)
    assert isinstance(evaluations, list)
    assert evaluations[0]["perplexity"] == pytest.approx(60.34, abs=0.01)


def test_plain_metrics_are_the_latest(capsys: pytest.CaptureFixture[str]) -> None:
    trained_run()
    assert run(["metrics", "brisk-heron"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert run(["metrics", "brisk-heron", "--csv", "--json"]) == 2


def test_runs_are_filtered_and_sorted_with_pinned_ones_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained_run("brisk-heron")
    trained_run("plain-otter", RunConfig(training=TrainingConfig(seed=7)))
    create_run(RunConfig(), "amber-crane")
    assert run(["pin", "amber-crane"]) == 0
    capsys.readouterr()

    def names(*arguments: str) -> list[str]:
        listed = json_of(["runs", *arguments], capsys)
        assert isinstance(listed, list)
        return [item["run"] for item in listed]

    assert names("--filter", "ppl<80 !draft") in (
        ["plain-otter", "brisk-heron"],
        ["brisk-heron", "plain-otter"],
    )
    assert names("--filter", "training.seed=7") == ["plain-otter"]
    assert names("--sort", "name") == ["amber-crane", "brisk-heron", "plain-otter"]
    assert (
        names("--sort", "-name")
        == names("--sort", "name", "--reverse")
        == ["amber-crane", "plain-otter", "brisk-heron"]
    )
    assert names("--sort", "training.seed")[:2] == ["amber-crane", "plain-otter"]
    assert run(["runs", "-f", "nothing-like-it"]) == 0
    assert capsys.readouterr().out == 'no run matches "nothing-like-it" (3 runs)\n'
    assert run(["runs"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()][
        1
    ] == "⚑ amber-crane"
    assert run(["runs", "--filter", "pppl<3"]) == 2
    assert 'did you mean "ppl"' in capsys.readouterr().err
    assert run(["runs", "--sort", "pppl"]) == 2


@pytest.mark.parametrize(
    "verb",
    [
        "show",
        "metrics",
        "checkpoints",
        "follow",
        "pause",
        "resume",
        "stop",
        "checkpoint",
        "evaluate",
        "open",
        "delete",
        "tag",
        "note",
        "pin",
        "compare",
    ],
)
def test_an_unknown_run_suggests_similar_names(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(RunConfig(), "brisk-heron")
    assert run([verb, "brisk-hern"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "brisk-heron" in err


@pytest.mark.parametrize(
    "verb",
    ["show", "metrics", "checkpoints", "follow", "verify", "set", "resume", "queue add", "archive"],
)
def test_a_run_of_an_unreleased_version_is_listed_and_refused_by_name(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = create_run(RunConfig(), "brisk-heron")
    (directory.path / "run.db").touch()
    listed = json_of(["runs"], capsys)
    assert isinstance(listed, list)
    assert [(item["status"], item["unreadable"]) for item in listed] == [("lost", "can't be read")]
    rest = [str(tmp_path / "run.tar.zst")] if verb == "archive" else []
    assert run([*verb.split(), "brisk-heron", *rest]) == 5
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        "rnnlm-tui: brisk-heron was made by an unreleased version of rnnlm-tui\n"
        "keep it for that version, or set RNNLM_TUI_HOME to a new folder\n"
    )


@pytest.mark.parametrize(
    ("prompt", "code", "out"), [("go on", 0, "go on on go\n"), ("fail here", 5, "")]
)
def test_a_prompt_is_printed_with_its_continuation_and_not_before_an_error(
    prompt: str,
    code: int,
    out: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained_run()
    monkeypatch.setattr(
        "rnnlm_tui.client.sampler.python_command",
        lambda *_: [sys.executable, str(Path(sampler.__file__))],
    )
    assert run(["sample", "brisk@last", prompt]) == code
    said = capsys.readouterr()
    assert said.out == out
    assert ("the checkpoint is damaged" in said.err) is (code != 0)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_failure_is_reported_with_its_hint_and_exit_code(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = create_run(RunConfig(), "brisk-heron")
    record(
        directory,
        Facts(message="the disk is full", hint="free some", exit_code=5),
        EventRow(1, 0, "failed", "", 1_004.0),
    )
    assert run(["follow", "brisk-heron", *options]) == 5
    assert "the disk is full\nfree some\n" in capsys.readouterr().err


def test_a_pinned_checkpoint_is_kept_and_marked_until_unpinned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained_run()
    assert run(["pin", "brisk@best"]) == 0
    assert capsys.readouterr().out == "brisk-heron@2 pinned\n"
    assert json_of(["pin", "brisk@2", "--json"], capsys) == {
        "run": "brisk-heron",
        "step": 2,
        "pinned": True,
        "changed": False,
    }
    rows = json_of(["checkpoints", "brisk", "--json"], capsys)
    assert isinstance(rows, list)
    assert {row["step"]: row["pinned"] for row in rows} == {2: True, 3: False}
    run(["checkpoints", "brisk"])
    assert "★ best ⚑ pinned" in capsys.readouterr().out
    run(["show", "brisk"])
    assert "pinned 2, 2 kept" in capsys.readouterr().out
    assert run(["unpin", "brisk@2"]) == 0
    assert capsys.readouterr().out == "brisk-heron@2 unpinned\n"
    assert run(["unpin", "brisk@2"]) == 0
    assert capsys.readouterr().out == "brisk-heron@2 was not pinned\n"


def test_the_pin_of_a_missing_checkpoint_can_be_removed(capsys: pytest.CaptureFixture[str]) -> None:
    directory = trained_run()
    labels_file(directory).write(RunLabels(pins=frozenset({1})))
    assert run(["pin", "brisk@1"]) == 2
    assert "it has best, last and 2, 3" in capsys.readouterr().err
    assert run(["unpin", "brisk@1"]) == 0
    assert read_labels(directory).pins == frozenset()


def test_a_run_deleted_during_listing_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    trained_run("brisk-heron")
    trained_run("plain-otter")

    summary_of = RunMonitor.summary

    def deleted_first(monitor: RunMonitor) -> RunSummary:
        if monitor.run.name == "plain-otter":
            delete_run(monitor.run)
        return summary_of(monitor)

    monkeypatch.setattr(RunMonitor, "summary", deleted_first)
    listing = listed_runs()
    assert ([summary.run for summary in listing.runs], listing.known) == (["brisk-heron"], 1)
