"""The verbs `delete`, `trash`, `restore` and `purge` for runs; purge asks for confirmation."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.paths import runs_dir, trash_dir
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.system.locks import RunLock
from tests.unit.cli.calls import Verbs

NAMES = ("brisk-heron", "plain-otter", "amber-crane")


def create(*names: str) -> None:
    for name in names:
        create_run(RunConfig(), name)


def left() -> list[str]:
    return sorted(found.name for found in list_runs())


def test_runs_are_deleted_by_their_full_names_listed_with_sizes_and_restored(verb: Verbs) -> None:
    assert verb("trash").out == "the trash is empty\n"
    create(*NAMES)
    assert 'to delete "brisk-heron", use its full name' in verb("delete brisk", code=2).err
    verb("delete brisk-heron plain-otter brisk-hern", code=2)
    assert len(left()) == 3, "nothing is done where a name is wrong"
    said = verb("delete brisk-heron plain-otter brisk-heron --yes")
    assert [row[0] for row in said.rows] == ["brisk-heron", "plain-otter"]
    assert "`rnnlm-tui restore brisk-heron` restores it" in said.out
    assert left() == ["amber-crane"]
    listed = verb("trash")
    assert listed.firsts[:2] == [found.name for found in list_trash()]
    assert listed.out.splitlines()[-1].startswith("2 deleted runs, ")
    assert [(item["run"], item["bytes"], item["path"]) for item in verb.json("trash")] == [
        (found.name, found.bytes, str(found.path)) for found in list_trash()
    ]
    assert "--as takes one run, got 2" in verb("restore brisk-heron plain-otter --as x", code=2).err
    restored = verb.json("restore brisk-heron plain-otter")
    assert [item["run"] for item in restored] == ["brisk-heron", "plain-otter"]
    assert len(left()) == 3


def test_a_run_is_restored_under_another_name(verb: Verbs) -> None:
    create("brisk-heron")
    verb("delete brisk-heron")
    create("brisk-heron")
    verb("restore brisk-heron", code=2)
    assert verb.json("restore brisk-heron --as other")["run"] == "other"
    assert left() == ["brisk-heron", "other"]
    assert "the trash is empty" in verb("restore brisk-hern", code=2).err


@pytest.mark.parametrize("names", ["brisk-heron", "brisk-heron plain-otter"])
def test_delete_asks_for_several_runs_and_for_a_pinned_one(names: str, verb: Verbs) -> None:
    create(*names.split())
    verb("pin brisk-heron")
    assert "standard input is not a terminal\nadd --yes" in verb(f"delete {names}", code=2).err
    asked = f"{names.replace(' ', ', ')} (pinned: brisk-heron) to the trash? [y/N]"
    assert asked in verb(f"delete {names}", code=1, typed="n\n").err
    assert left() == names.split()
    verb(f"delete {names}", typed="y\n")
    assert left() == []


@pytest.mark.parametrize(
    ("typed", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 1), ("\n", 1), ("y?", 1)]
)
def test_purge_asks_and_only_yes_removes(typed: str, code: int, verb: Verbs) -> None:
    create("brisk-heron")
    verb("delete brisk-heron")
    said = verb("purge brisk-heron", code=code, typed=typed)
    assert said.err.startswith("permanently remove brisk-heron, ")
    assert (list_trash() == []) is (code == 0)
    assert ("brisk-heron permanently removed, " in said.out) is (code == 0)
    assert ("nothing was removed" in said.err) is (code == 1)


def test_purge_without_a_terminal_needs_yes(verb: Verbs) -> None:
    create("brisk-heron", "plain-otter")
    verb("delete brisk-heron plain-otter --yes")
    assert "add --yes" in verb("purge --all", code=2).err
    size = sum(found.bytes for found in list_trash())
    purged = verb.json("purge --all --yes")
    assert (purged["freed"], len(purged["purged"])) == (size, 2)
    assert list(trash_dir().iterdir()) == []
    assert verb("purge --all").out == "the trash is empty\n"


def test_an_ambiguous_or_empty_purge_is_rejected(verb: Verbs) -> None:
    for _ in range(2):
        create("brisk-heron")
        verb("delete brisk-heron")
    folders = [found.path.name for found in list_trash()]
    for words in ("purge --yes", "purge other --yes", "purge brisk-heron --all --yes"):
        verb(words, code=2)
    err = verb("purge brisk-heron --yes", code=2).err
    assert all(folder in err for folder in folders)
    verb(f"purge {folders[0]} {folders[0]} --yes")
    assert [found.path.name for found in list_trash()] == folders[1:]


def test_one_failure_of_several_is_reported_and_the_others_are_done(verb: Verbs) -> None:
    create(*NAMES)
    with RunLock(runs_dir() / "plain-otter" / "worker.lock"):
        said = verb(f"delete {' '.join(NAMES)} --yes", code=3)
    assert [row[0] for row in said.rows] == ["brisk-heron", "amber-crane"]
    assert "plain-otter is running as pid" in said.err
    assert left() == ["plain-otter"]
