"""The verb `samples`: searching, exporting and deleting kept samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.store.kept_samples import KeptSample, search
from rnnlm_tui.store.paths import samples_file
from tests.unit.store.test_kept_samples import keep, make


@pytest.fixture
def three() -> list[KeptSample]:
    """Three samples of two runs, newest first."""
    keep(
        make("The Union", id="aa1111", time=1.0),
        make("The\neconomy ", id="aa2222", text="\x1b[31m" + "grows " * 20, run="brisk-heron"),
        make("We must", id="bb3333", seed=None, time=3.0),
    )
    return search()


def rows(out: str) -> list[str]:
    """First column of the list's rows."""
    return [line.split()[0] for line in out.splitlines()[1:]]


def test_samples_are_listed_newest_first_one_line_each(
    three: list[KeptSample], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["samples"]) == 0
    out, err = capsys.readouterr()
    assert rows(out) == ["bb3333", "aa2222", "aa1111"]
    assert err == ""
    lines = out.splitlines()
    assert "plain-otter@3700" in lines[1]
    assert " – " in lines[1]
    assert "The\\neconomy " in lines[2]
    assert lines[2].endswith("…")


def test_a_query_a_run_and_a_limit_choose_samples(
    three: list[KeptSample], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["samples", "THE", "strong"]) == 0
    assert rows(capsys.readouterr().out) == ["aa1111"]
    assert run(["samples", "--run", "plain-otter"]) == 0
    assert rows(capsys.readouterr().out) == ["bb3333", "aa1111"]
    assert run(["samples", "--limit", "1"]) == 0
    out, err = capsys.readouterr()
    assert rows(out) == ["bb3333"]
    assert "1 of 3 samples: `--limit 0` lists all" in err
    assert run(["samples", "nothing like it"]) == 0
    assert capsys.readouterr().out == "no sample matches\n"


def test_without_samples_the_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["samples"]) == 0
    assert capsys.readouterr().out == "no kept samples\n"
    assert run(["samples", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_json_has_all_samples_whole(
    three: list[KeptSample], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["samples", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [KeptSample.model_validate(one) for one in found] == three


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("a.md", [], "## plain-otter, step 3,700"),
        ("a.jsonl", [], '{"id": "bb3333"'),
        ("a.txt", [], "--- plain-otter, step 3,700"),
        ("a.md", ["--format", "text"], "--- plain-otter, step 3,700"),
    ],
    ids=str,
)
def test_samples_are_exported_to_a_new_file(
    name: str,
    options: list[str],
    start: str,
    three: list[KeptSample],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / name
    assert run(["samples", "--export", str(file), *options]) == 0
    text = file.read_bytes().decode()
    assert text.startswith(start)
    assert "economy" in text
    assert capsys.readouterr().out == f"3 samples written to {file}\n"
    assert run(["samples", "--export", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert file.read_bytes().decode() == text


def test_an_export_to_standard_output_is_exact_in_a_pipe(
    three: list[KeptSample], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(["samples", "economy", "--export", "-"]) == 0
    out, err = capfdbinary.readouterr()
    assert b"The\neconomy \x1b[31mgrows " in out
    assert err == b""


def test_samples_are_deleted_by_the_first_characters_of_their_ids(
    three: list[KeptSample], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["samples", "--delete", "bb"]) == 2
    assert "add --yes" in capsys.readouterr().err
    for wanted, words in (
        ("aa", '2 samples start with "aa"'),
        ("", "no sample"),
        ("x", "no sample"),
    ):
        assert run(["samples", "--delete", "bb", "--delete", wanted, "--yes"]) == 2
        assert words in capsys.readouterr().err
    assert search() == three
    assert run(["samples", "--delete", "bb", "--delete", "aa1", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": ["bb3333", "aa1111"]}
    assert search() == three[1:2]


def test_damaged_lines_are_moved_aside_and_reported(
    three: list[KeptSample], capsys: pytest.CaptureFixture[str]
) -> None:
    with samples_file().open("ab") as file:
        file.write(b"?\n")
    assert run(["samples"]) == 0
    out, err = capsys.readouterr()
    assert len(rows(out)) == 3
    assert "1 line of the kept samples can't be read: kept as samples.jsonl.unusable" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "--delete", "a"], "QUERY and --delete are mutually exclusive"),
        (["--export", "a", "--delete", "b"], "--export and --delete are mutually exclusive"),
        (["--export", "a", "--json"], "--export and --json are mutually exclusive"),
        (["--format", "text"], "--format needs --export"),
        (["--limit", "-1"], "--limit is -1, must be at least 0"),
        (["--export", "/missing/a.txt"], "No such file or directory"),
    ],
    ids=str,
)
def test_invalid_requests_are_rejected(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["samples", *words]) in (2, 5)
    assert message in capsys.readouterr().err
