"""Who may import whom: the layers by import-linter, and what really is in memory in fresh interpreters."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rnnlm_tui

ROOT = Path(rnnlm_tui.__file__).parents[1]
HEAVY = ("torch", "numpy", "transformers", "tokenizers", "safetensors")
SCREEN = ("textual", "rich", "typer")


def modules_below(package: str) -> list[str]:
    """The names of all modules of one room."""
    return sorted(found.name for found in pkgutil.walk_packages([str(ROOT / "rnnlm_tui" / package)], f"rnnlm_tui.{package}."))


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a statement."""
    code = (
        f"import sys\ntry:\n    exec({statement!r})\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, cwd=ROOT, env={**os.environ, "COLUMNS": "80"}
    )
    return set(answer.stdout.splitlines()[-1].split())


def test_imports_point_down() -> None:
    linter = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    answer = subprocess.run(linter, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "KEPT" in answer.stdout


def test_the_app_never_holds_torch_or_numpy() -> None:
    assert not loaded_after("import rnnlm_tui.tui.app") & set(HEAVY)


@pytest.mark.parametrize("worker", ["rnnlm_tui.worker.train", "rnnlm_tui.worker.sampler"])
def test_a_worker_never_holds_a_terminal(worker: str) -> None:
    assert not loaded_after(f"import {worker}") & set(SCREEN)


@pytest.mark.parametrize("room", ["cli", "tui", "supervisor", "store", "contract"])
def test_no_module_that_a_terminal_waits_for_loads_torch(room: str) -> None:
    names = modules_below(room)
    assert names
    assert not loaded_after(f"import {', '.join([*names, 'rnnlm_tui.errors'])}") & set(HEAVY)


@pytest.mark.parametrize("room", ["worker", "engine", "corpus"])
def test_no_module_that_trains_loads_a_terminal(room: str) -> None:
    names = modules_below(room)
    assert names
    assert not loaded_after(f"import {', '.join(names)}") & set(SCREEN)


def test_preparing_a_corpus_needs_no_torch() -> None:
    assert "torch" not in loaded_after(f"import {', '.join(modules_below('corpus'))}")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_comes_at_once_since_it_loads_nothing(arguments: list[str]) -> None:
    loaded = loaded_after(f"from rnnlm_tui.cli.main import main; main({arguments!r})")
    assert not loaded & {*HEAVY, "textual", "rich", "pydantic", "psutil", "asyncio", "sqlite3"}


@pytest.mark.parametrize("arguments", [["runs"], ["config", "show"], ["train", "--set", "a.b=1"], ["show", "nothing"], ["corpus"]])
def test_a_verb_without_a_screen_loads_neither_torch_nor_textual(arguments: list[str]) -> None:
    assert not loaded_after(f"from rnnlm_tui.cli.main import main; main({arguments!r})") & {*HEAVY, "textual", "rich"}


def test_the_time_of_help_is_shown(record_property: Callable[[str, object], None]) -> None:
    """Milliseconds of CPU go into the report; what they depend on, the imports, is what the other tests hold."""
    code = "import resource, sys\nfrom rnnlm_tui.cli.main import run\nrun(['--help'])\nusage = resource.getrusage(resource.RUSAGE_SELF)\nprint(usage.ru_utime + usage.ru_stime)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    seconds = float(answer.stdout.splitlines()[-1])
    record_property("help_cpu_ms", round(seconds * 1000))
    print(f"rnnlm-tui --help: {seconds * 1000:.0f} ms of CPU")  # noqa: T201  shown with pytest -rP
    assert "Usage: rnnlm-tui" in answer.stdout
