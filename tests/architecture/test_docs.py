"""README, guides and changelog agree with the code."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rnnlm_tui import __version__
from rnnlm_tui.cli.app import GUARANTEES, VERBS, command_of
from rnnlm_tui.docs import FOLDER, GUIDES, Guide, find_guide
from rnnlm_tui.errors import install_extra
from rnnlm_tui.schema.validation import fields
from tests.tools.guides import TABLES, generated

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = {
    ROOT / "README.md": README,
    ROOT / ".github" / "CONTRIBUTING.md": CONTRIBUTING,
    **{guide.path: guide.path.read_text(encoding="utf-8") for guide in GUIDES},
}
LONGEST_README = 200


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.topic)
def test_tables_in_guides_are_those_of_the_code(guide: Guide) -> None:
    text = PAGES[guide.path]
    assert generated(text) == text, "run `python -m tests.tools.guides`"


def test_every_generated_table_is_in_a_guide() -> None:
    together = "\n".join(PAGES.values())
    for name in TABLES:
        assert f"<!-- {name} -->" in together


def test_every_verb_and_field_is_in_a_guide() -> None:
    for verb in VERBS:
        assert f"`{verb.name}" in PAGES[find_guide("commands").path]
    for path in fields():
        assert f"`{path}`" in PAGES[find_guide("configuration").path]


def test_guides_are_listed_with_their_titles_and_all_files_are_guides() -> None:
    for guide in GUIDES:
        assert PAGES[guide.path].startswith(f"# {guide.title}\n")
        assert len(guide.summary) <= 60
        assert f"[{guide.title}](rnnlm_tui/docs/{guide.topic}.md) | {guide.summary} |" in README
    assert {path.stem for path in FOLDER.glob("*.md")} == {guide.topic for guide in GUIDES}


def test_readme_is_short_and_begins_with_what_it_is() -> None:
    assert len(README.splitlines()) <= LONGEST_README
    assert README.startswith("# rnnlm-tui\n\nTrain recurrent language models")


def test_lines_of_prose_are_at_most_110_columns() -> None:
    for path, text in PAGES.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        long = [line for line in prose.splitlines() if len(line) > 110 and not line.startswith("|")]
        assert not long, path


def test_the_two_commands_start_from_a_bare_python() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("rnnlm-tui train --name plain-otter")
    assert "pip install -q . &&" in commands[0]
    assert commands[1].endswith("-m pytest -n 4 --dist loadfile")
    assert "pip install -q -e '.[dev]' &&" in commands[1]


def test_extras_are_installed_from_the_clone_as_the_readme_does() -> None:
    folder = FOLDER.parent
    for path in (*folder.rglob("*.py"), *PAGES):
        assert "pip install 'rnnlm-tui[" not in path.read_text(encoding="utf-8"), path
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pip = re.findall(r"&& (\S+/pip) install", README)
    assert "export" in extras["optional-dependencies"]
    assert install_extra("export") == f"{pip[0]} install '.[export]'"


def test_every_command_in_the_documentation_exists() -> None:
    for path, text in PAGES.items():
        shown = re.findall(
            r"(?:^(?:\$ )?|\$\(|&& |`)rnnlm-tui ([a-z][^\n`)#|&>]*)",
            text.replace("\\\n", " "),
            re.MULTILINE,
        )
        for arguments in map(shlex.split, shown):
            matching = [
                verb for verb in VERBS if verb.name.split() == arguments[: len(verb.name.split())]
            ]
            assert matching, (path, arguments)
            verb = max(matching, key=lambda verb: len(verb.name))
            known = {option for parameter in command_of(verb).params for option in parameter.opts}
            used = {argument for argument in arguments if argument.startswith("--")}
            assert used <= known | {"--help"}, (path, arguments)


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    gate = ROOT / ".ci" / "run"
    assert gate.stat().st_mode & stat.S_IXUSR
    assert "README.md" in gate.read_text(encoding="utf-8")


def test_links_lead_to_files_and_headings() -> None:
    for path, text in PAGES.items():
        for target in re.findall(r"\]\(([^):]+)\)", text):
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), (path, target)
            assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), (
                path,
                target,
            )


def test_guides_link_only_to_guides() -> None:
    for guide in GUIDES:
        for target in re.findall(r"\]\(([^):]+)\)", guide.text()):
            assert target.partition("#")[0].removesuffix(".md") in {
                other.topic for other in GUIDES
            }, target


def test_modules_that_guides_name_exist() -> None:
    for path, text in PAGES.items():
        for module in re.findall(r"python -m (tests[\w.]*|rnnlm_tui[\w.]*)", text):
            file = ROOT / module.replace(".", "/")
            assert (
                file.with_suffix(".py").exists()
                or (file / "__main__.py").exists()
                or (file / "__init__.py").exists()
            ), (path, module)
    for source in re.findall(
        r"`((?:[a-z_]+/)+[a-z_]+\.py)`", PAGES[find_guide("inside").path] + CONTRIBUTING
    ):
        assert (ROOT / "rnnlm_tui" / source).exists() or (ROOT / source).exists(), source


def test_names_that_inside_places_in_a_file_are_there() -> None:
    text = " ".join(PAGES[find_guide("inside").path].split())
    placed = re.findall(r"((?:`\w+`(?:, | and )?)+) in `([\w/]+\.py)`", text)
    assert placed
    for names, file in placed:
        source = (FOLDER.parent / file).read_text(encoding="utf-8")
        for name in re.findall(r"\w{3,}", names.replace(" and ", " ")):
            assert re.search(rf"\b{name}\b", source), (name, file)


def test_the_promise_has_the_same_parts_in_guide_and_help() -> None:
    promise = (
        PAGES[find_guide("reliability").path]
        .partition("## What a run guarantees")[2]
        .partition("\n## ")[0]
    )
    assert re.findall(r"^- \*\*([^*.]+)\.?\*\*", promise, re.MULTILINE) == [
        name for name, _ in GUARANTEES
    ]


def test_inside_names_every_package() -> None:
    text = PAGES[find_guide("inside").path].partition("## Packages")[2].partition("\n## ")[0]
    rooms = {
        path.name
        for path in FOLDER.parent.iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert set(re.findall(r"^\| `(\w+)/`", text, re.MULTILINE)) == rooms


def test_the_changelog_covers_this_version() -> None:
    releases = re.findall(r"^## \[?([^\]\s]+)", CHANGELOG, re.MULTILINE)
    assert releases[0] in (__version__, "Unreleased")


def test_changelog_entries_are_short_and_name_their_feature() -> None:
    for entry in re.findall(r"^- .*(?:\n  .*)*", CHANGELOG, re.MULTILINE):
        assert len(entry.splitlines()) <= 2, entry
        assert max(map(len, entry.splitlines())) <= 120, entry
        assert re.match(r"- [^:\n]{2,60}: ", entry), entry


def test_every_dependency_has_a_range_and_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(lines)["project"]
    for requirement in project["dependencies"]:
        assert re.search(r">=.*,<", requirement), requirement
        assert re.search(rf'"{re.escape(requirement)}",\s+# \w', lines), requirement


def test_hooks_before_a_commit_are_the_linters_of_the_tests() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE)
    linters = ["ruff check", "ruff format", "mypy", "lint-imports"]
    assert [entry.removeprefix("python -m ").partition(" --")[0] for entry in entries] == linters
    for entry in entries:
        program = entry.removeprefix("python -m ").split()[0]
        assert (Path(sys.executable).parent / program).exists(), program


def test_the_wheel_holds_the_guides_and_the_addresses(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend isn't installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=ROOT)
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(next(tmp_path.glob("*.whl")))],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    for guide in GUIDES:
        assert f"rnnlm_tui/docs/{guide.topic}.md" in listing.stdout
    assert "rnnlm_tui/corpus/presidents.txt.zst" in listing.stdout
