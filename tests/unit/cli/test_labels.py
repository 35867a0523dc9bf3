"""The verbs `tag`, `note`, `rename`, and `pin` for runs."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.labels import labels_file
from rnnlm_tui.store.runs import create_run, run_named
from rnnlm_tui.system.locks import RunLock
from tests.unit.cli.calls import Verbs


@pytest.fixture(autouse=True)
def heron(home: object) -> None:
    create_run(RunConfig(), "brisk-heron")


def test_tags_are_added_with_a_plus_or_bare_and_removed_with_a_minus(verb: Verbs) -> None:
    assert verb("tag brisk").out == "brisk-heron has no tags\n"
    added = "brisk-heron has the tags paper hard; no such tag: draft\n"
    assert verb("tag brisk +paper hard -draft").out == added
    tagged = {"run": "brisk-heron", "tags": ["paper", "V"], "changed": True}
    assert verb("tag brisk --json -hard +V").json == tagged
    assert verb("tag -- brisk -V").out == "brisk-heron has the tags paper\n"
    assert "paper" in verb("runs").out
    assert verb.json("show brisk")["tags"] == ["paper"]
    assert "Add or remove a run's tags" in verb("tag -h").out


@pytest.mark.parametrize(
    "words",
    ["tag brisk 'a b'", "tag brisk --bogus", "tag brisk -", "tag", "tag brisk '+a\x1b[31m'"],
)
def test_invalid_labels_are_rejected_and_change_nothing(words: str, verb: Verbs) -> None:
    err = verb(words, code=2).err
    assert err
    assert "\x1b" not in err
    assert verb("tag brisk").out == "brisk-heron has no tags\n"


def test_a_note_is_written_shown_and_removed(verb: Verbs) -> None:
    assert verb("note brisk").out == "brisk-heron has no note\n"
    assert verb("note brisk the 'one of\nthe talk'").out == "brisk-heron: the one of the talk\n"
    assert verb("note brisk").out == "the one of the talk\n"
    assert "the one of the talk" in verb("show brisk").out
    assert "500" in verb(f"note brisk {'x' * 501}", code=2).err
    assert verb("note brisk -3 % with -x").out == "brisk-heron: -3 % with -x\n"
    removed = {"run": "brisk-heron", "note": "", "changed": True}
    assert verb.json("note brisk ''") == removed


def test_a_run_is_pinned_to_the_top_of_the_list_and_unpinned(verb: Verbs) -> None:
    create_run(RunConfig(), "newer")
    assert "is pinned at the top of the list" in verb("pin brisk").out
    assert [item["run"] for item in verb.json("runs")] == ["brisk-heron", "newer"]
    again = {"run": "brisk-heron", "pinned": True, "changed": False}
    assert verb.json("pin brisk") == again
    assert "is already pinned at the top" in verb("pin brisk").out
    assert verb("unpin brisk").out == "brisk-heron unpinned\n"
    assert verb("unpin brisk").out == "brisk-heron was not pinned\n"


def test_a_run_is_renamed_unless_it_is_running_or_the_name_exists(verb: Verbs) -> None:
    create_run(RunConfig(), "taken")
    assert verb("rename brisk plain-otter").out == "brisk-heron renamed to plain-otter\n"
    assert verb("rename plain plain-otter").out == "already named plain-otter\n"
    assert 'run "taken" already exists' in verb("rename plain taken", code=2).err
    verb("rename plain ../x", code=2)
    with RunLock(run_named("plain-otter").lock_path):
        assert "rnnlm-tui stop plain-otter" in verb("rename plain other", code=3).err
    assert verb.json("rename plain other")["run"] == "other"


@pytest.mark.parametrize(
    "words",
    [
        "tag brisk +x", "tag brisk", "note brisk again", "pin brisk", "unpin brisk",
        "rename brisk brisk-heron",
    ],
)  # fmt: skip
def test_damaged_labels_are_moved_aside_and_the_file_named(words: str, verb: Verbs) -> None:
    file = labels_file(run_named("brisk-heron")).path
    file.write_text("junk")
    lost = "the labels of brisk-heron are damaged: the file is kept as labels.json.unusable"
    assert lost in " ".join(verb(words).err.split())
    assert file.with_name("labels.json.unusable").read_text() == "junk"
