"""The verbs `tag`, `note`, `rename`, and `pin` for runs."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.labels import labels_file
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.system.locks import RunLock


@pytest.fixture(autouse=True)
def heron(home: object) -> None:
    create_run(RunConfig(), "brisk-heron")


def out_of(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """Run a verb and return its stdout."""
    assert run(arguments) == code
    return capsys.readouterr().out


def test_tags_are_added_with_a_plus_or_bare_and_removed_with_a_minus(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert out_of(["tag", "brisk"], capsys) == "brisk-heron has no tags\n"
    assert (
        out_of(["tag", "brisk", "+paper", "hard", "-draft"], capsys)
        == "brisk-heron has the tags paper hard; no such tag: draft\n"
    )
    assert json.loads(out_of(["tag", "brisk", "--json", "-hard", "+V"], capsys)) == {
        "run": "brisk-heron",
        "tags": ["paper", "V"],
        "changed": True,
    }
    assert out_of(["tag", "--", "brisk", "-V"], capsys) == "brisk-heron has the tags paper\n"
    assert "paper" in out_of(["runs"], capsys)
    assert json.loads(out_of(["show", "brisk", "--json"], capsys))["tags"] == ["paper"]
    assert "Add or remove a run's tags" in out_of(["tag", "-h"], capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", "brisk", "a b"],
        ["tag", "brisk", "--bogus"],
        ["tag", "brisk", "-"],
        ["tag"],
        ["tag", "brisk", "+a\x1b[31m"],
        ["note", "brisk", "x" * 501],
    ],
)
def test_invalid_labels_are_rejected_and_change_nothing(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert err
    assert "\x1b" not in err
    assert out_of(["tag", "brisk"], capsys) == "brisk-heron has no tags\n"


def test_a_note_is_written_shown_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert out_of(["note", "brisk"], capsys) == "brisk-heron has no note\n"
    assert (
        out_of(["note", "brisk", "the", "one of\nthe talk"], capsys)
        == "brisk-heron: the one of the talk\n"
    )
    assert out_of(["note", "brisk"], capsys) == "the one of the talk\n"
    assert "the one of the talk" in out_of(["show", "brisk"], capsys)
    assert (
        out_of(["note", "brisk", "-3", "%", "with", "-x"], capsys) == "brisk-heron: -3 % with -x\n"
    )
    assert json.loads(out_of(["note", "brisk", "", "--json"], capsys)) == {
        "run": "brisk-heron",
        "note": "",
        "changed": True,
    }


def test_a_run_is_pinned_to_the_top_of_the_list_and_unpinned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_run(RunConfig(), "newer")
    assert "pinned at the top of the list" in out_of(["pin", "brisk"], capsys)
    assert [item["run"] for item in json.loads(out_of(["runs", "--json"], capsys))] == [
        "brisk-heron",
        "newer",
    ]
    assert json.loads(out_of(["pin", "brisk", "--json"], capsys)) == {
        "run": "brisk-heron",
        "pinned": True,
        "changed": False,
    }
    assert out_of(["unpin", "brisk"], capsys) == "brisk-heron unpinned\n"
    assert out_of(["unpin", "brisk"], capsys) == "brisk-heron was not pinned\n"


def test_a_run_is_renamed_unless_it_is_running_or_the_name_exists(
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_run(RunConfig(), "taken")
    assert (
        out_of(["rename", "brisk", "plain-otter"], capsys) == "brisk-heron renamed to plain-otter\n"
    )
    assert run(["rename", "plain", "taken"]) == 2
    assert 'run "taken" already exists' in capsys.readouterr().err
    assert run(["rename", "plain", "../x"]) == 2
    capsys.readouterr()
    run_directory = next(found for found in list_runs() if found.name == "plain-otter")
    with RunLock(run_directory.lock_path):
        assert run(["rename", "plain", "other"]) == 3
        assert "rnnlm-tui stop plain-otter" in capsys.readouterr().err
    assert json.loads(out_of(["rename", "plain", "other", "--json"], capsys))["run"] == "other"


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", "brisk", "+x"],
        ["tag", "brisk"],
        ["note", "brisk", "again"],
        ["pin", "brisk"],
        ["unpin", "brisk"],
        ["rename", "brisk", "x"],
    ],
)
def test_damaged_labels_are_moved_aside_and_the_file_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    labels_file(list_runs()[0]).path.write_text("junk")
    assert run(arguments) == 0
    (kept,) = list_runs()[0].path.glob("labels.json.unusable")
    assert kept.read_text() == "junk"
    assert (
        "the labels of brisk-heron are damaged: the file is kept as labels.json.unusable"
        in " ".join(capsys.readouterr().err.split())
    )
