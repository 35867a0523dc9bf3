"""The verbs `delete`, `trash`, `restore` and `purge`; purge asks for confirmation."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.paths import runs_dir, trash_dir
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.system.locks import RunLock


class Answer(io.StringIO):
    """Simulate a user typing this at a terminal."""

    def isatty(self) -> bool:
        return True


def deleted(*names: str) -> None:
    for name in names:
        create_run(RunConfig(), name)
        assert run(["delete", name]) == 0


def test_delete_needs_the_full_name_and_says_how_to_restore(
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_run(RunConfig(), "brisk-heron")
    assert run(["delete", "brisk"]) == 2
    assert [found.name for found in list_runs()] == ["brisk-heron"]
    assert run(["delete", "brisk-heron"]) == 0
    assert "`rnnlm-tui restore brisk-heron` restores it" in capsys.readouterr().out
    assert list_runs() == []


def test_the_trash_is_listed_with_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trash"]) == 0
    assert capsys.readouterr().out == "the trash is empty\n"
    deleted("brisk-heron", "plain-otter")
    capsys.readouterr()
    assert run(["trash"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == [
        "name",
        *(found.name for found in list_trash()),
    ]
    assert lines[-1].startswith("2 deleted runs, ")
    assert run(["trash", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(item["run"], item["bytes"], item["path"]) for item in listed] == [
        (found.name, found.bytes, str(found.path)) for found in list_trash()
    ]


def test_a_run_is_restored_under_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    deleted("brisk-heron")
    create_run(RunConfig(), "brisk-heron")
    assert run(["restore", "brisk-heron"]) == 2
    capsys.readouterr()
    assert run(["restore", "brisk-heron", "--as", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "other"
    assert sorted(found.name for found in list_runs()) == ["brisk-heron", "other"]
    assert run(["restore", "brisk-hern"]) == 2
    assert "the trash is empty" in capsys.readouterr().err


@pytest.mark.parametrize("names", [["brisk-heron"], ["brisk-heron", "plain-otter"]])
def test_delete_asks_for_several_runs_and_for_a_pinned_one(
    names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        create_run(RunConfig(), name)
    assert run(["pin", "brisk-heron"]) == 0
    assert run(["delete", *names]) == 2
    assert "standard input is not a terminal\nadd --yes" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Answer("n\n"))
    assert run(["delete", *names]) == 1
    assert len(list_runs()) == len(names)
    asked = f"{', '.join(names)} (pinned: brisk-heron) to the trash? [y/N]"
    assert asked in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Answer("y\n"))
    assert run(["delete", *names]) == 0
    assert list_runs() == []


@pytest.mark.parametrize(
    ("typed", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1)]
)
def test_purge_asks_and_only_yes_removes(
    typed: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deleted("brisk-heron")
    size = list_trash()[0].bytes
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", Answer(typed))
    assert run(["purge", "brisk-heron"]) == code
    out, err = capsys.readouterr()
    assert err.startswith("permanently remove brisk-heron, ")
    assert (list_trash() == []) is (code == 0)
    if code == 0:
        assert out.startswith("brisk-heron permanently removed, ")
        assert size > 0


def test_purge_without_a_terminal_needs_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deleted("brisk-heron", "plain-otter")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    capsys.readouterr()
    assert run(["purge", "--all"]) == 2
    assert "--yes" in capsys.readouterr().err
    size = sum(found.bytes for found in list_trash())
    assert run(["purge", "--all", "--yes", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert (reported["freed"], len(reported["purged"])) == (size, 2)
    assert list(trash_dir().iterdir()) == []
    assert run(["purge", "--all"]) == 0
    assert capsys.readouterr().out == "the trash is empty\n"


def test_an_ambiguous_or_empty_purge_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    deleted("brisk-heron", "brisk-heron")
    folders = [Path(found.path).name for found in list_trash()]
    for arguments in (
        ["purge", "--yes"],
        ["purge", "other", "--yes"],
        ["purge", "brisk-heron", "--all", "--yes"],
        ["purge", "brisk-heron", "--yes"],
    ):
        capsys.readouterr()
        assert run(arguments) == 2
    err = capsys.readouterr().err
    assert [folder in err for folder in folders] == [True, True]
    assert run(["purge", folders[0], folders[0], "--yes"]) == 0
    assert [found.path.name for found in list_trash()] == folders[1:]


def test_several_runs_are_deleted_and_restored_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("brisk-heron", "plain-otter", "amber-crane"):
        create_run(RunConfig(), name)
    assert run(["delete", "brisk-heron", "plain-otter", "brisk-hern"]) == 2
    assert len(list_runs()) == 3, "nothing is done where a name is wrong"
    capsys.readouterr()
    assert run(["delete", "brisk-heron", "plain-otter", "brisk-heron", "--yes"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["brisk-heron", "plain-otter"]
    assert [found.name for found in list_runs()] == ["amber-crane"]
    assert run(["restore", "brisk-heron", "plain-otter", "--as", "other"]) == 2
    assert "--as takes one run, got 2" in capsys.readouterr().err
    assert run(["restore", "brisk-heron", "plain-otter", "--json"]) == 0
    assert [item["run"] for item in json.loads(capsys.readouterr().out)] == [
        "brisk-heron",
        "plain-otter",
    ]
    assert len(list_runs()) == 3


def test_one_failure_of_several_is_reported_and_the_others_are_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("brisk-heron", "plain-otter", "amber-crane"):
        create_run(RunConfig(), name)
    with RunLock(runs_dir() / "plain-otter" / "worker.lock"):
        assert run(["delete", "brisk-heron", "plain-otter", "amber-crane", "--yes"]) == 3
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["brisk-heron", "amber-crane"]
    assert "plain-otter is running as pid" in err
    assert [found.name for found in list_runs()] == ["plain-otter"]
