"""The verbs on checkpoints: list, note, delete, restore, prune, purge and verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.errors import RunStateError
from rnnlm_tui.store.averages import keep_average, list_averages, write_average
from rnnlm_tui.store.checkpoints import list_checkpoints, write_checkpoint
from rnnlm_tui.store.labels import pin_checkpoint, read_labels
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.trash import list_trash, trash_path
from tests.unit.cli.test_trash import Answer
from tests.unit.store.rows import new_run, write_model

LOSSES = {100: 5.0, 200: 3.0, 300: 4.0, 400: None, 500: 3.5, 600: None}


@pytest.fixture
def otter() -> RunDirectory:
    """A run with six checkpoints, the best at step 200; 100 is pinned."""
    otter = new_run()
    for step, loss in LOSSES.items():
        write_checkpoint(otter, step, write_model, None, {"validation_loss": loss})
    pin_checkpoint(otter, 100)
    return otter


def steps(run: RunDirectory) -> list[int]:
    return [entry.step for entry in list_checkpoints(run)]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_checkpoints_are_listed_with_marks_notes_and_damage(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["note", "plain-otter@300", "good", "rhythm"]) == 0
    (otter.checkpoints_path / "step-000000400" / "model.safetensors").write_bytes(b"cut")
    capsys.readouterr()
    assert run(["checkpoints", "plain-otter"]) == 0
    listed = lines(capsys)
    assert [line.split()[0] for line in listed[1:]] == ["600", "500", "400", "300", "200", "100"]
    assert "▸ last" in listed[1]
    assert "✗ damaged" in listed[3]
    assert "model.safetensors is damaged: it has 3 bytes" in listed[3]
    assert "good rhythm" in listed[4]
    assert "★ best" in listed[5]
    assert " 0.0 " in listed[5]
    assert "⚑ pinned" in listed[6]


def test_checkpoints_are_sorted_by_any_column(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for column, expected in (("ppl", [200, 500, 300, 100, 600, 400]), ("-step", None)):
        assert run(["checkpoints", otter.name, "--sort", column, "--json"]) == 0
        found = [row["step"] for row in json.loads(capsys.readouterr().out)]
        assert found == (expected or sorted(LOSSES, reverse=True))
    assert run(["checkpoints", otter.name, "--sort", "step", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in rows] == sorted(LOSSES)
    assert [Path(row["path"]) for row in rows] == [one.path for one in list_checkpoints(otter)]
    assert run(["checkpoints", otter.name, "--sort", "pll"]) == 2
    assert "ppl" in capsys.readouterr().err


def test_a_note_is_one_safe_line_and_is_removed_by_an_empty_one(
    otter: RunDirectory,
) -> None:
    assert run(["note", "plain-otter@300", "\x1b[2J one\n two\u202e"]) == 0
    assert read_labels(otter).notes == {300: "␛[2J one two‹202e›"}
    assert run(["note", "plain-otter@300", "x" * 501]) == 2
    assert run(["note", "plain-otter@300", ""]) == 0
    assert read_labels(otter).notes == {}
    assert run(["note", "plain-otter@301", "x"]) == 2


def test_what_must_be_kept_is_refused_with_the_reason(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for step, why in (
        (100, "it is pinned: unpin it first"),
        (200, "it is the best: no other has a lower validation loss"),
        (500, "a resume needs it: the newest two valid ones are kept"),
        (600, "a resume needs it: the newest two valid ones are kept"),
    ):
        assert run(["delete", f"plain-otter@{step}"]) == 3
        assert f"plain-otter@{step} can't be deleted: {why}" in capsys.readouterr().err
    assert run(["delete", "plain-otter@700"]) == 2
    assert run(["delete", "plain@300"]) == 2
    assert steps(otter) == list(LOSSES)
    # of the newest, valid ones count
    (otter.checkpoints_path / "step-000000600" / "model.safetensors").write_bytes(b"cut")
    assert run(["delete", "plain-otter@400"]) == 3
    assert run(["prune", "plain-otter", "--keep-last", "2", "--dry-run"]) == 0
    assert "200 (best); 400 (a resume needs it: the newest two" in capsys.readouterr().out
    assert run(["delete", "plain-otter@600"]) == 0
    assert steps(otter) == [100, 200, 300, 400, 500]


def test_an_average_is_not_taken_for_the_checkpoint_of_its_step(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    staged = otter.checkpoints_path / "written"
    write_average(otter, staged, 300, write_model, {})
    average = keep_average(otter, staged)
    for verb in ("delete", "pin", "note"):
        assert run([verb, "plain-otter@average-300"]) == 2
        assert "`rnnlm-tui average --remove plain-otter@average-300`" in capsys.readouterr().err
    assert steps(otter) == list(LOSSES)
    assert list_averages(otter) == [average]


def test_a_deleted_checkpoint_returns_with_its_note(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["note", "plain-otter@300", "good"])
    assert run(["delete", "plain-otter@300", "plain-otter@400"]) == 0
    assert steps(otter) == [100, 200, 500, 600]
    capsys.readouterr()
    assert run(["checkpoints", otter.name, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    assert run(["trash", otter.name]) == 0
    assert {line.split()[0] for line in lines(capsys)[1:3]} == {"300", "400"}
    assert run(["tag", otter.name, "paper"]) == 0  # labels may change meanwhile
    assert run(["trash"]) == 0
    assert "2 deleted checkpoints of plain-otter" in capsys.readouterr().err
    assert run(["restore", "plain-otter@300"]) == 0
    assert run(["restore", "plain-otter@all"]) == 0
    assert steps(otter) == list(LOSSES)
    assert run(["restore", "plain-otter@all"]) == 2
    capsys.readouterr()
    assert run(["checkpoints", otter.name, "--json"]) == 0
    rows = {row["step"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows[300]["note"], rows[200]["best"]) == ("good", True)


def test_a_step_that_was_saved_again_is_not_overwritten_by_a_restore(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["delete", "plain-otter@300"])
    write_checkpoint(otter, 300, write_model, None, {})
    assert run(["restore", "plain-otter@300"]) == 5
    assert "plain-otter has saved that step again" in capsys.readouterr().err


def test_prune_says_what_goes_and_asks(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["prune", "plain-otter", "--keep-last", "1"]) == 2
    assert run(["prune", "plain-otter", "--keep-last", "2", "--keep-every", "-1"]) == 2
    capsys.readouterr()
    assert run(["prune", "plain-otter", "--keep-last", "2", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "deletes 2 checkpoints" in shown
    assert "keeps 100 (pinned); 200 (best); 500 (newest); 600 (newest)" in shown
    monkeypatch.setattr("sys.stdin", Answer("n\n"))
    assert run(["prune", "plain-otter", "--keep-last", "2"]) == 1
    assert steps(otter) == list(LOSSES)
    assert run(["prune", "plain-otter", "--keep-every", "300", "--yes", "--json"]) == 0
    capsys.readouterr()
    assert steps(otter) == [100, 200, 300, 500, 600]
    assert run(["restore", "plain-otter@all"]) == 0
    assert run(["prune", "plain-otter", "--yes", "--purge"]) == 0
    assert steps(otter) == [100, 200, 500, 600]
    assert list_trash(otter) == []
    assert run(["prune", "plain-otter", "--yes"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


def test_prune_leaves_and_names_a_checkpoint_that_is_pinned_while_it_asks(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(*_: str) -> bool:
        pin_checkpoint(otter, 300)
        return True

    monkeypatch.setattr("rnnlm_tui.cli.manage.confirmed", confirmed)
    assert run(["prune", "plain-otter", "--keep-last", "2"]) == RunStateError.exit_code
    assert "plain-otter@300 was not deleted: it is pinned" in capsys.readouterr().err
    assert 300 in steps(otter)
    assert 400 not in steps(otter)


def test_purge_removes_deleted_checkpoints_and_leaves_foreign_folders(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["delete", "plain-otter@300", "plain-otter@400"])
    (trash_path(otter) / "mine").mkdir()
    assert run(["purge", "plain-otter@300", "--yes"]) == 0
    assert "plain-otter@300 permanently removed" in capsys.readouterr().out
    assert [one.step for one in list_trash(otter)] == [400]
    assert run(["purge", "plain-otter@all", "--yes"]) == 0
    assert [path.name for path in trash_path(otter).iterdir()] == ["mine"]
    assert run(["purge", "plain-otter@all", "--yes"]) == 2


def test_verify_checks_one_checkpoint(
    otter: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = otter.checkpoints_path / "step-000000300" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run(["verify", "plain-otter@200"]) == 0
    assert len(lines(capsys)) == 2
    assert run(["verify", "plain-otter@300"]) == 5
