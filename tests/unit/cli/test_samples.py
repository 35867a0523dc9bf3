"""The verb `samples`: searching, exporting and deleting kept samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.store.kept_samples import KeptSample, search
from rnnlm_tui.store.paths import samples_file
from tests.unit.cli.calls import Verbs
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


def test_samples_are_listed_newest_first_one_line_each(
    three: list[KeptSample], verb: Verbs
) -> None:
    said = verb("samples")
    assert said.firsts == ["bb3333", "aa2222", "aa1111"]
    assert said.err == ""
    lines = said.out.splitlines()
    assert "plain-otter@3700" in lines[1]
    assert " – " in lines[1]
    assert "The\\neconomy " in lines[2]
    assert lines[2].endswith("…")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("THE strong", ["aa1111"]),
        ("--run plain-otter", ["bb3333", "aa1111"]),
        ("--limit 1", ["bb3333"]),
        ("--limit 0", ["bb3333", "aa2222", "aa1111"]),
    ],
)
def test_a_query_a_run_and_a_limit_choose_samples(
    words: str, ids: list[str], three: list[KeptSample], verb: Verbs
) -> None:
    said = verb(f"samples {words}")
    assert said.firsts == ids
    assert ("1 of 3 samples: `--limit 0` lists all" in said.err) is (words == "--limit 1")
    assert verb("samples 'nothing like it'").out == "no sample matches\n"


def test_without_samples_the_list_says_so(verb: Verbs) -> None:
    assert verb("samples").out == "no kept samples\n"
    assert verb.json("samples") == []


def test_json_has_all_samples_whole(three: list[KeptSample], verb: Verbs) -> None:
    found = verb.json("samples")
    assert [KeptSample.model_validate(one) for one in found] == three


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("a.md", "", "## plain-otter, step 3,700"),
        ("a.jsonl", "", '{"id": "bb3333"'),
        ("a.txt", "", "--- plain-otter, step 3,700"),
        ("a.md", "--format text", "--- plain-otter, step 3,700"),
    ],
)
def test_samples_are_exported_to_a_new_file(
    name: str, options: str, start: str, three: list[KeptSample], tmp_path: Path, verb: Verbs
) -> None:
    file = tmp_path / name
    said = verb(f"samples --export {file} {options}")
    assert said.out == f"3 samples written to {file}\n"
    text = file.read_bytes().decode()
    assert text.startswith(start)
    assert "economy" in text
    assert "exists already" in verb(f"samples --export {file}", code=2).err
    assert file.read_bytes().decode() == text


def test_an_export_to_standard_output_is_exact_in_a_pipe(
    three: list[KeptSample], verb: Verbs
) -> None:
    said = verb("samples economy --export -")
    assert "The\neconomy \x1b[31mgrows " in said.out
    assert said.err == ""


def test_samples_are_deleted_by_the_first_characters_of_their_ids(
    three: list[KeptSample], verb: Verbs
) -> None:
    assert "add --yes" in verb("samples --delete bb", code=2).err
    for wanted, words in (
        ("aa", '2 samples start with "aa"'),
        ("''", "no sample"),
        ("x", "no sam"),
    ):
        assert words in verb(f"samples --delete bb --delete {wanted} --yes", code=2).err
    assert search() == three
    deleted = verb.json("samples --delete bb --delete aa1 --yes")
    assert deleted == {"deleted": ["bb3333", "aa1111"]}
    assert search() == three[1:2]


def test_damaged_lines_are_moved_aside_and_reported(three: list[KeptSample], verb: Verbs) -> None:
    with samples_file().open("ab") as file:
        file.write(b"?\n")
    said = verb("samples")
    assert len(said.firsts) == 3
    assert "1 line of the kept samples can't be read: kept as samples.jsonl.unusable" in said.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("x --delete a", 2, "QUERY and --delete are mutually exclusive"),
        ("--export a --delete b", 2, "--export and --delete are mutually exclusive"),
        ("--export a --json", 2, "--export and --json are mutually exclusive"),
        ("--format text", 2, "--format needs --export"),
        ("--limit -1", 2, "--limit is -1, must be at least 0"),
        ("--export /missing/a.txt", 5, "No such file or directory"),
    ],
)
def test_invalid_requests_are_rejected(words: str, code: int, message: str, verb: Verbs) -> None:
    assert message in verb(f"samples {words}", code=code).err
