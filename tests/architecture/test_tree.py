"""Rules for every source file: a docstring, nothing unfinished, no swallowed errors, no test code
in the product."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import rnnlm_tui

ROOT = Path(__file__).parents[2]
PACKAGE = Path(rnnlm_tui.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
VAGUE = {"utils", "util", "common", "core", "helpers", "helper", "misc"}


def offenders(files: list[Path], pattern: str) -> list[str]:
    """File and line of every place that matches."""
    found = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(pattern, text, re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match[0].strip()}")
    return found


def test_every_module_says_what_it_provides() -> None:
    undocumented = []
    for path in [*SOURCES, *TESTS]:
        text = path.read_text(encoding="utf-8")
        first_line = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        if text.strip() and len(first_line) <= 15:
            undocumented.append(str(path.relative_to(ROOT)))
    assert not undocumented


def test_nothing_is_left_for_later() -> None:
    assert not offenders(SOURCES, r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")


def test_no_error_is_swallowed() -> None:
    assert not offenders(SOURCES, r"except( Exception| BaseException)?:\s*\n?\s*pass\b")


def test_no_call_allows_a_pickle_or_the_code_of_others() -> None:
    """Imports are the linter's: see `banned-api` in pyproject.toml."""
    found = offenders(SOURCES, r"(allow_pickle|trust_remote_code)=(?!False)|pickle_module=")
    ours = ("engine/modeling_rnnlm", "worker/check_transformers", "worker/model_card")
    asked = ("corpus/tokenizers", "worker/causal_model")  # `score --allow-code`
    assert {place.partition(":")[0] for place in found} == {  # of an export, which brings our code
        f"rnnlm_tui/{name}.py" for name in (*ours, *asked)
    }
    loading = offenders(SOURCES, r"torch\.load\((?!.*weights_only=True)")
    assert loading == []


def test_the_package_does_not_import_the_tests() -> None:
    assert not offenders(SOURCES, r"^\s*(from|import) tests\b")


def test_no_module_has_a_vague_name() -> None:
    named = [*SOURCES, *TESTS]
    assert not [
        str(path.relative_to(ROOT)) for path in named if {path.stem, path.parent.name} & VAGUE
    ]


def test_the_package_is_typed_and_every_test_folder_is_a_package() -> None:
    assert (PACKAGE / "py.typed").exists()
    folders = {path.parent for path in TESTS if path.name.startswith("test_")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]
