"""The README is made from the code where it tells of it, and its commands start from a bare Python."""

from __future__ import annotations

import re
import shlex
import stat
import tomllib

from rnnlm_tui import __version__
from rnnlm_tui.cli.application import command_of
from rnnlm_tui.cli.promise import PROMISE
from rnnlm_tui.cli.verbs import VERBS
from rnnlm_tui.contract.validation import field_paths
from tests.readme import README, ROOT, rendered

TEXT = README.read_text()


def test_tables_of_verbs_keys_fields_and_exit_codes_are_those_of_the_code() -> None:
    assert rendered(TEXT) == TEXT, "run `python -m tests.readme`"


def test_every_verb_and_field_is_told() -> None:
    for verb in VERBS:
        assert f"`{verb.name}" in TEXT
    for path in field_paths():
        assert f"`{path}`" in TEXT


def test_the_two_commands_start_from_a_bare_python() -> None:
    commands = re.findall(r"^python3 -m venv .*$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("rnnlm-tui train")
    assert "[demo]" in commands[0]
    assert commands[1].endswith("-m pytest -n 2 --dist loadfile")
    assert "[demo,dev]" in commands[1]


def test_every_command_that_is_shown_can_be_typed() -> None:
    shown = re.findall(r"(?:^|\$\(|&& |`)rnnlm-tui ([a-z][^\n`)#|&>]*)", TEXT, re.MULTILINE)
    assert len(shown) > 10
    for arguments in map(shlex.split, shown):
        verb = next((verb for verb in VERBS if verb.name.split() == arguments[: len(verb.name.split())]), None)
        assert verb is not None, arguments
        known = {option for parameter in command_of(verb).params for option in parameter.opts} | {"--help"}
        assert {argument for argument in arguments if argument.startswith("--")} <= known, arguments


def test_the_gate_runs_the_command_of_the_readme() -> None:
    gate = ROOT / ".ci" / "run"
    assert gate.stat().st_mode & stat.S_IXUSR
    assert "README.md" in gate.read_text()


def test_pictures_and_files_that_the_readme_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_the_promise_has_the_parts_that_the_help_has() -> None:
    promise = TEXT.partition("## What a run promises")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*([^*.]+)\.?\*\*", promise, re.MULTILINE) == [name for name, _ in PROMISE]


def test_inside_names_every_room() -> None:
    inside = TEXT.partition("## Inside")[2]
    for room in ("contract", "store", "corpus", "engine", "worker", "supervisor", "tui", "cli"):
        assert f"`{room}/`" in inside


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\]|^## \[Unreleased\]", text, re.MULTILINE)


def test_every_dependency_has_a_range_and_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(lines)["project"]
    for requirement in project["dependencies"]:
        assert re.search(r">=.*,<", requirement), requirement
        assert re.search(rf'"{re.escape(requirement)}",\s+# \w', lines), requirement
