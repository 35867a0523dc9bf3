"""The verbs on checkpoints: list, note, delete, restore, prune, purge and verify."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.errors import RunStateError
from rnnlm_tui.store.averages import keep_average, list_averages, write_average
from rnnlm_tui.store.checkpoints import list_checkpoints, write_checkpoint
from rnnlm_tui.store.labels import pin_checkpoint, read_labels
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.trash import list_trash, trash_path
from tests.unit.cli.calls import Verbs
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


def weights(run: RunDirectory, step: int) -> Path:
    return run.checkpoints_path / f"step-{step:09d}" / "model.safetensors"


def test_checkpoints_are_listed_with_marks_notes_and_damage(
    otter: RunDirectory, verb: Verbs
) -> None:
    verb("note plain-otter@300 good rhythm")
    weights(otter, 400).write_bytes(b"cut")
    listed = verb("checkpoints plain-otter")
    assert listed.firsts == ["600", "500", "400", "300", "200", "100"]
    for row, words in enumerate(
        ("▸ last", "", "✗ damaged", "good rhythm", "★ best", "⚑ pinned"), 1
    ):
        assert words in listed.out.splitlines()[row]
    assert "model.safetensors is damaged: it has 3 bytes" in listed.out.splitlines()[3]
    assert " 0.0 " in listed.out.splitlines()[5]


def test_checkpoints_are_sorted_by_any_column(otter: RunDirectory, verb: Verbs) -> None:
    for column, expected in (
        ("ppl", [200, 500, 300, 100, 600, 400]),
        ("-step", sorted(LOSSES, reverse=True)),
        ("step", sorted(LOSSES)),
    ):
        rows = verb.json(f"checkpoints plain-otter --sort {column}")
        assert [row["step"] for row in rows] == expected
    assert [Path(row["path"]) for row in rows] == [one.path for one in list_checkpoints(otter)]
    assert "ppl" in verb("checkpoints plain-otter --sort pll", code=2).err


def test_a_note_is_one_safe_line_and_is_removed_by_an_empty_one(
    otter: RunDirectory, verb: Verbs
) -> None:
    verb(["note", "plain-otter@300", "\x1b[2J one\n two\u202e"])
    assert read_labels(otter).notes == {300: "␛[2J one two‹202e›"}
    verb(f"note plain-otter@300 {'x' * 501}", code=2)
    verb("note plain-otter@300 ''")
    assert read_labels(otter).notes == {}
    verb("note plain-otter@301 x", code=2)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (100, "it is pinned: unpin it first"),
        (200, "it is the best: no other has a lower validation loss"),
        (500, "a resume needs it: the newest two valid ones are kept"),
        (600, "a resume needs it: the newest two valid ones are kept"),
    ],
)
def test_what_must_be_kept_is_refused_with_the_reason(
    step: int, why: str, otter: RunDirectory, verb: Verbs
) -> None:
    assert (
        f"plain-otter@{step} can't be deleted: {why}"
        in verb(f"delete plain-otter@{step}", code=3).err
    )
    assert steps(otter) == list(LOSSES)


def test_of_the_newest_checkpoints_valid_ones_are_kept(otter: RunDirectory, verb: Verbs) -> None:
    verb("delete plain-otter@700", code=2)
    verb("delete plain@300", code=2)
    weights(otter, 600).write_bytes(b"cut")
    verb("delete plain-otter@400", code=3)
    shown = verb("prune plain-otter --keep-last 2 --dry-run").out
    assert "200 (best); 400 (a resume needs it: the newest two" in shown
    verb("delete plain-otter@600")
    assert steps(otter) == [100, 200, 300, 400, 500]


def test_an_average_is_not_taken_for_the_checkpoint_of_its_step(
    otter: RunDirectory, verb: Verbs
) -> None:
    staged = otter.checkpoints_path / "written"
    write_average(otter, staged, 300, write_model, {})
    average = keep_average(otter, staged)
    for words in ("delete", "pin", "note"):
        err = verb(f"{words} plain-otter@average-300", code=2).err
        assert "`rnnlm-tui average --remove plain-otter@average-300`" in err
    assert steps(otter) == list(LOSSES)
    assert list_averages(otter) == [average]


def test_a_deleted_checkpoint_returns_with_its_note(otter: RunDirectory, verb: Verbs) -> None:
    verb("note plain-otter@300 good")
    verb("delete plain-otter@300 plain-otter@400")
    assert steps(otter) == [100, 200, 500, 600]
    assert len(verb.json("checkpoints plain-otter")) == 4
    listed = verb("trash plain-otter")
    assert set(listed.firsts[:2]) == {"300", "400"}
    assert "kept for" in listed.out
    assert " 7 d\n" in listed.out or " 6 d\n" in listed.out
    verb("tag plain-otter paper")  # labels may change meanwhile
    assert "2 deleted checkpoints of plain-otter" in verb("trash").err
    verb("restore plain-otter@300")
    assert verb("restore plain-otter@all").out == "plain-otter@400 restored\n"
    assert steps(otter) == list(LOSSES)
    verb("restore plain-otter@all", code=2)
    rows = {row["step"]: row for row in verb.json("checkpoints plain-otter")}
    assert (rows[300]["note"], rows[200]["best"]) == ("good", True)


def test_a_step_that_was_saved_again_is_not_overwritten_by_a_restore(
    otter: RunDirectory, verb: Verbs
) -> None:
    verb("delete plain-otter@300")
    write_checkpoint(otter, 300, write_model, None, {})
    assert "plain-otter has saved that step again" in verb("restore plain-otter@300", code=5).err


def test_prune_says_what_goes_and_asks(otter: RunDirectory, verb: Verbs) -> None:
    verb("prune plain-otter --keep-last 1", code=2)
    verb("prune plain-otter --keep-last 2 --keep-every -1", code=2)
    shown = verb("prune plain-otter --keep-last 2 --dry-run").out
    assert "deletes 2 checkpoints" in shown
    assert "keeps 100 (pinned); 200 (best); 500 (newest); 600 (newest)" in shown
    assert "nothing was deleted" in verb("prune plain-otter", code=1, typed="n\n").err
    assert steps(otter) == list(LOSSES)
    pruned = verb.json("prune plain-otter --keep-every 300 --yes")
    assert (pruned["deletes"], pruned["deleted"], pruned["freed"]) == ([400], [400], 0)
    assert pruned["keeps"]["300"] == "every 300"
    assert steps(otter) == [100, 200, 300, 500, 600]
    verb("restore plain-otter@all")
    verb("prune plain-otter --yes --purge")
    assert steps(otter) == [100, 200, 500, 600]
    assert list_trash(otter) == []
    assert "nothing to delete" in verb("prune plain-otter --yes").out


def test_prune_leaves_and_names_a_checkpoint_that_is_pinned_while_it_asks(
    otter: RunDirectory, verb: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(*_: str) -> bool:
        pin_checkpoint(otter, 300)
        return True

    monkeypatch.setattr("rnnlm_tui.cli.output.confirmed", confirmed)
    said = verb("prune plain-otter --keep-last 2", code=RunStateError.exit_code)
    assert "plain-otter@300 was not deleted: it is pinned" in said.err
    assert 300 in steps(otter)
    assert 400 not in steps(otter)


def test_purge_removes_deleted_checkpoints_and_leaves_foreign_folders(
    otter: RunDirectory, verb: Verbs
) -> None:
    verb("delete plain-otter@300 plain-otter@400")
    (trash_path(otter) / "mine").mkdir()
    removed = verb("purge plain-otter@300 --yes").out
    assert "plain-otter@300 permanently removed" in removed
    assert [one.step for one in list_trash(otter)] == [400]
    verb("purge plain-otter@all --yes")
    assert [path.name for path in trash_path(otter).iterdir()] == ["mine"]
    verb("purge plain-otter@all --yes", code=2)


def test_verify_checks_one_checkpoint(otter: RunDirectory, verb: Verbs) -> None:
    path = weights(otter, 300)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    [_, row] = verb("verify plain-otter@200").rows
    assert row == ["200", "✓", "ok", "2", "10", "kB"]
    verb("verify plain-otter@300", code=5)
