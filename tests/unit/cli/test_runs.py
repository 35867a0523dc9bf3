"""The verbs about runs, with real run directories; the keys of their JSON are fixed."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
from tests.unit.cli.calls import Verbs
from tests.unit.client.logs import record

SHOW_KEYS = [
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
]


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


def test_show_and_runs_have_all_json_keys(verb: Verbs) -> None:
    trained_run()
    create_run(RunConfig(), "plain-otter")
    shown = verb.json("show brisk")
    for dotted in SHOW_KEYS:
        section, _, key = dotted.rpartition(".")
        assert key in (shown[section] if section else shown)
    facts = {key: shown[key] for key in ("run", "status", "step", "max_steps")}
    assert facts == {"run": "brisk-heron", "status": "finished", "step": 3, "max_steps": 3}
    assert shown["validation"]["perplexity"] == pytest.approx(math.exp(4.1))
    listed = verb.json("runs")
    assert {item["run"]: item["status"] for item in listed} == {
        "brisk-heron": "finished",
        "plain-otter": "draft",
    }
    assert shown in listed


def test_runs_and_show_print_plain_text_without_json(verb: Verbs) -> None:
    assert "rnnlm-tui train" in verb("runs").out
    trained_run()
    assert "Elman 2×192 tied" in verb("runs").out
    out = verb("show brisk-heron").out
    assert "status       finished" in out
    assert "3 / 3 (100 %)" in out
    assert "perplexity 60.3" in out


@pytest.mark.parametrize("words", ["show", "show --health", "metrics", "metrics --csv", "follow"])
def test_a_log_that_takes_long_to_read_shows_how_far_it_is_on_a_terminal(
    words: str, monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    refresh = RunReader.refresh

    def slow(reader: RunReader, report: Callable[[int, int], None] | None = None) -> object:
        if report is not None:
            report(61_000_000, 145_000_000)
        return refresh(reader)

    trained_run()
    monkeypatch.setattr(RunReader, "refresh", slow)
    monkeypatch.setattr("rnnlm_tui.cli.output.columns", lambda stream: 100)
    told = "\rreading the log of brisk-heron: 61 MB of 145 MB (42 %)\x1b[K\r\x1b[K"
    for seconds in (0.0, 60.0):
        monkeypatch.setattr("rnnlm_tui.cli.output.LONG_SECONDS", seconds)
        assert (told in verb(f"{words} brisk-heron").err) is (seconds == 0.0)


def test_csv_has_all_metrics(verb: Verbs) -> None:
    trained_run()
    rows = list(csv.DictReader(io.StringIO(verb("metrics brisk-heron --csv").out)))
    assert [(row["step"], row["loss"]) for row in rows] == [
        ("1", "4.0"),
        ("2", "nan"),
        ("3", "4.0"),
    ]
    keys = "attempt step tokens_seen epoch loss grad_norm learning_rate tokens_per_second"
    assert list(rows[0]) == [*keys.split(), "active_seconds", "time"]


def test_json_metrics_have_null_for_non_finite_losses(verb: Verbs) -> None:
    trained_run()
    found = verb.json("metrics brisk-heron")
    assert [row["loss"] for row in found] == [4.0, None, 4.0]
    create_run(RunConfig(), "plain-otter")
    assert verb.json("metrics plain-otter") == []
    assert verb("metrics plain-otter").out == "no metrics yet\n"
    evaluations = verb.json("metrics brisk-heron --evaluations")
    assert evaluations[0]["perplexity"] == pytest.approx(60.34, abs=0.01)


def test_plain_metrics_are_the_latest(verb: Verbs) -> None:
    trained_run()
    assert verb("metrics brisk-heron").firsts == ["1", "1", "1"]
    assert verb("metrics brisk-heron").rows[2][:5] == ["1", "2", "1,400", "0.020", "–"]
    verb("metrics brisk-heron --csv --json", code=2)


def test_runs_are_filtered_and_sorted_with_pinned_ones_first(verb: Verbs) -> None:
    trained_run("brisk-heron")
    trained_run("plain-otter", RunConfig(training=TrainingConfig(seed=7)))
    create_run(RunConfig(), "amber-crane")
    verb("pin amber-crane")

    def names(options: str) -> list[str]:
        return [item["run"] for item in verb(f"runs --json {options}").json]

    assert sorted(names("--filter 'ppl<80 !draft'")) == ["brisk-heron", "plain-otter"]
    assert names("--filter training.seed=7") == ["plain-otter"]
    assert names("--sort name") == ["amber-crane", "brisk-heron", "plain-otter"]
    backwards = ["amber-crane", "plain-otter", "brisk-heron"]
    assert names("--sort -name") == names("--sort name --reverse") == backwards
    assert names("--sort training.seed")[:2] == ["amber-crane", "plain-otter"]
    none = 'no run matches "nothing-like-it" (3 runs)\n'
    assert verb("runs -f nothing-like-it").out == none
    assert verb("runs").rows[1][:2] == ["⚑", "amber-crane"]
    assert 'did you mean "ppl"' in verb("runs --filter pppl<3", code=2).err
    verb("runs --sort pppl", code=2)


@pytest.mark.parametrize(
    "name",
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
def test_an_unknown_run_suggests_similar_names(name: str, verb: Verbs) -> None:
    create_run(RunConfig(), "brisk-heron")
    said = verb(f"{name} brisk-hern", code=2)
    assert said.out == ""
    assert "brisk-heron" in said.err


@pytest.mark.parametrize(
    "words",
    [
        *["show", "metrics", "checkpoints", "follow", "verify", "set", "resume"],
        "queue add",
        "archive brisk-heron x.tar.zst",
    ],
)
def test_a_run_of_an_unreleased_version_is_listed_and_refused_by_name(
    words: str, verb: Verbs
) -> None:
    directory = create_run(RunConfig(), "brisk-heron")
    (directory.path / "run.db").touch()
    (listed,) = verb.json("runs")
    assert (listed["status"], listed["unreadable"]) == ("lost", "can't be read")
    said = verb(words if "archive" in words else f"{words} brisk-heron", code=5)
    assert said.out == ""
    assert said.err.startswith(
        "rnnlm-tui: brisk-heron was made by an unreleased version of rnnlm-tui\n"
        "keep it for that version, or set RNNLM_TUI_HOME to a new folder\n"
    )


@pytest.mark.parametrize(
    ("prompt", "code", "out"), [("go on", 0, "go on on go\n"), ("fail here", 5, "")]
)
def test_a_prompt_is_printed_with_its_continuation_and_not_before_an_error(
    prompt: str, code: int, out: str, verb: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_run()
    command = [sys.executable, str(Path(sampler.__file__))]
    monkeypatch.setattr("rnnlm_tui.client.sampler.python_command", lambda *_: command)
    said = verb(f"sample brisk@last '{prompt}'", code=code)
    assert said.out == out
    assert ("the checkpoint is damaged" in said.err) is (code != 0)


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_failure_is_reported_with_its_hint_and_exit_code(options: str, verb: Verbs) -> None:
    directory = create_run(RunConfig(), "brisk-heron")
    record(
        directory,
        Facts(message="the disk is full", hint="free some", exit_code=5),
        EventRow(1, 0, "failed", "", 1_004.0),
    )
    assert "the disk is full\nfree some\n" in verb(f"follow brisk-heron {options}", code=5).err


def test_a_pinned_checkpoint_is_kept_and_marked_until_unpinned(verb: Verbs) -> None:
    trained_run()
    assert verb("pin brisk@best").out == "brisk-heron@2 pinned\n"
    again = {"run": "brisk-heron", "step": 2, "pinned": True, "changed": False}
    assert verb.json("pin brisk@2") == again
    assert verb("pin brisk@2").out == "brisk-heron@2 is already pinned\n"
    rows = verb.json("checkpoints brisk")
    assert {row["step"]: row["pinned"] for row in rows} == {2: True, 3: False}
    assert "★ best ⚑ pinned" in verb("checkpoints brisk").out
    assert "pinned 2, 2 kept" in verb("show brisk").out
    assert verb("unpin brisk@2").out == "brisk-heron@2 unpinned\n"
    assert verb("unpin brisk@2").out == "brisk-heron@2 was not pinned\n"


def test_the_pin_of_a_missing_checkpoint_can_be_removed(verb: Verbs) -> None:
    directory = trained_run()
    labels_file(directory).write(RunLabels(pins=frozenset({1})))
    assert "it has best, last and 2, 3" in verb("pin brisk@1", code=2).err
    verb("unpin brisk@1")
    assert read_labels(directory).pins == frozenset()
    verb("unpin brisk@1", code=2)


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
