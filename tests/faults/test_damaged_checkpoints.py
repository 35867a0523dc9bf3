"""Damaged checkpoints: found by their hashes, reported, moved aside, and the one before is used. At
least two valid ones remain."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.errors import CheckpointError, NewerCheckpointError
from rnnlm_tui.store.checkpoints import checkpoint_folders, write_checkpoint
from rnnlm_tui.store.labels import RunLabels, labels_file, read_labels
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.verify import newest_valid
from tests.faults.undisturbed import Bench, bench_in, ending_of, whole_steps
from tests.faults.workers import Workers
from tests.integration.runs import (
    wait_until_ended,
)
from tests.unit.store.damages import DAMAGES, flip
from tests.unit.store.rows import begin, event_row, new_run, write_model

pytestmark = [pytest.mark.usefixtures("warm"), pytest.mark.fault("a checkpoint is damaged")]


@pytest.fixture(scope="module")
def bench(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_in(tmp_path_factory.mktemp("damages"), workers) as bench:
        yield bench


@pytest.fixture(scope="module")
def broken_off(bench: Bench) -> RunDirectory:
    """A run whose worker was killed before its last checkpoint; steps 6 and 9 are saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(bench.home))
        run = create_run(bench.config, "broken-off")
        bench.workers.work(run, "files.before:kill:4")
    assert whole_steps(run) == [6, 9]
    return run


def copy_of(run: RunDirectory, name: str) -> RunDirectory:
    """A copy under another name."""
    copy = RunDirectory(run.path.with_name(name))
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns(run.socket_path.name))
    return copy


@pytest.mark.parametrize("name", ["weights-flipped", "state-flipped", "manifest-a-pipe"])
def test_a_damaged_checkpoint_is_moved_aside_and_the_run_ends_with_the_same_weights(
    bench: Bench, broken_off: RunDirectory, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(bench.home))
    run = copy_of(broken_off, name)
    DAMAGES[name](run.checkpoints_path / "step-000000009")
    assert bench.workers.work(run) == 0
    with RunReader(run) as reader:
        assert reader.attempts()[-1].start_step == 6
        notes = [event.text for event in reader.events() if event.kind == "note"]
    assert [
        note
        for note in notes
        if "the checkpoint of step 9 is damaged, step 6 is used" in note
        and "checkpoints/damaged-step-000000009" in note
    ]
    assert (run.checkpoints_path / "damaged-step-000000009").is_dir()
    assert ending_of(run) == bench.undisturbed
    assert whole_steps(run) == [9, 12]


def test_a_run_whose_checkpoints_are_all_damaged_restarts_from_step_0_and_says_so(
    bench: Bench, broken_off: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(bench.home))
    run = copy_of(broken_off, "all-damaged")
    for _, folder in list(checkpoint_folders(run)):
        flip(folder / "model.safetensors", 900)
    assert bench.workers.work(run) == 0
    with RunReader(run) as reader:
        notes = " ".join(event.text for event in reader.events() if event.kind == "note")
    assert "step 6 is damaged, there is no other, so the run restarts from step 0" in notes
    assert ending_of(run) == bench.undisturbed


@pytest.fixture
def checkpoint() -> Path:
    """A small one."""
    facts = {
        "attempt": 1,
        "epoch": 1.5,
        "train_loss": 3.25,
        "environment": {"torch": "2.13.0", "threads": 1},
    }
    return write_checkpoint(
        new_run(),
        500,
        lambda folder: write_model(folder, random.Random(3).randbytes(100)),
        "step-000000400",
        facts,
    )


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "manifest.json"])
def test_every_flipped_bit_of_a_checkpoint_is_found(checkpoint: Path, file: str) -> None:
    path = checkpoint / file
    content = path.read_bytes()
    draw = random.Random(11)
    for place in range(len(content)):
        for bit in range(8) if file != "manifest.json" else [draw.randrange(8)]:
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError):
                verify_checkpoint(checkpoint)
    path.write_bytes(content)
    assert verify_checkpoint(checkpoint).step == 500


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "manifest.json"])
def test_a_checkpoint_that_is_cut_off_anywhere_is_found(checkpoint: Path, file: str) -> None:
    path = checkpoint / file
    content = path.read_bytes().rstrip()  # a manifest without its last newline is equal
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            verify_checkpoint(checkpoint)


def test_verify_names_what_is_damaged_newer_or_missing(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(checkpoint.parents[1])
    whole = write_checkpoint(run, 600, write_model, "step-000000100", {})
    assert command(["verify", run.name]) == 0
    said = capsys.readouterr()
    assert said.out.count("✓ ok") == 2
    assert "100, deleted" in said.out
    assert said.err == ""
    flip(whole / "model.safetensors", 777)
    assert command(["verify", run.name]) == 5
    said = capsys.readouterr()
    assert "step 600: checkpoints/step-000000600/model.safetensors is damaged" in said.out
    assert f"1 of 2 checkpoints of {run.name} is damaged" in said.err
    words = f"`rnnlm-tui resume {run.name}` continues from step 500, the latest intact one"
    assert words in said.err
    assert (said.out + said.err).count("model.safetensors") == 1, "each thing is said once"
    assert command(["verify", run.name, "--json"]) == 5
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["whole"], found["damaged_lines"]) == (run.name, False, 0)
    assert [(one["step"], one["whole"], one["files"] > 0) for one in found["checkpoints"]] == [
        (500, True, True),
        (600, False, False),
    ]
    shutil.rmtree(whole)
    manifest = checkpoint / "manifest.json"
    values = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**values, "format": 2}), encoding="utf-8")
    assert command(["verify", run.name]) == 5
    said = capsys.readouterr()
    assert "checkpoints/step-000000500 was written by a newer version of rnnlm-tui" in said.out
    assert "? newer" in said.out
    assert "damaged" not in said.out + said.err
    assert "update rnnlm-tui" in said.err
    labels_file(run).write(RunLabels(pins=frozenset({900})))
    assert command(["verify", run.name]) == 5
    said = capsys.readouterr()
    assert "step 900: checkpoints/step-000000900 is pinned but missing" in said.out
    with pytest.raises(NewerCheckpointError, match="newer version"):
        newest_valid(run)  # and it is not moved aside


@pytest.fixture
def finished() -> RunDirectory:
    """A finished run with checkpoints of steps 400 and 600; the newer one has a flipped bit."""
    run = new_run("exref")
    with begin(run) as log:
        log.append(event_row("finished", 600))
    for step in (400, 600):
        write_checkpoint(run, step, write_model, None, {"epoch": 1.0})
    flip(run.checkpoints_path / "step-000000600" / "model.safetensors", 99)
    return run


def test_every_hint_about_a_finished_runs_damaged_checkpoint_names_the_newest_valid_one(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {
        (
            "verify",
            "exref",
        ): (
            "use step 400, the latest intact one: `rnnlm-tui sample exref@400` or `rnnlm-tui train"
            " --from exref@400`"
        ),
        ("resume", "exref"): "rnnlm-tui train --from exref@400",
        (
            "train",
            "--from",
            "exref@last",
        ): "use exref@400; `rnnlm-tui verify exref` checks all of them",
    }
    for verb, advice in told.items():
        assert command([*verb]) != 0
        said = capsys.readouterr()
        assert advice in said.err, verb
        assert "RUN" not in said.out + said.err
    shutil.rmtree(finished.checkpoints_path / "step-000000400")
    assert command(["train", "--from", "exref@last"]) == CheckpointError.exit_code
    assert "no other checkpoint of exref is valid" in capsys.readouterr().err


def test_an_obviously_damaged_checkpoint_is_not_pinned_and_a_valid_one_is_named(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES["weights-truncated"](finished.checkpoints_path / "step-000000600")
    assert command(["pin", "exref@600"]) == CheckpointError.exit_code
    said = capsys.readouterr().err
    assert "checkpoints/step-000000600" in said
    assert "use exref@400" in said
    assert read_labels(finished).pins == frozenset()
    assert command(["pin", "exref@400"]) == 0


def test_resume_reports_its_first_step_and_what_was_moved_aside(
    bench: Bench,
    broken_off: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(bench.home))
    run = copy_of(broken_off, "told")
    flip(run.checkpoints_path / "step-000000009" / "model.safetensors", 777)
    assert command(["resume", "told", "--detach"]) == 0
    said = capsys.readouterr()
    assert "told resumed at step 6, worker " in said.err
    assert "damaged and moved aside: checkpoints/damaged-step-000000009" in said.err
    assert wait_until_ended(run).status == "finished"
    assert ending_of(run).weights == bench.undisturbed.weights
