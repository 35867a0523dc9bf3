"""Import rules: the layers, by import-linter, and the modules that a fresh interpreter loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rnnlm_tui
from rnnlm_tui.store.paths import runs_dir
from tests.fakes.long_run import build

ROOT = Path(rnnlm_tui.__file__).parents[1]
HEAVY = ("torch", "numpy", "transformers", "tokenizers", "safetensors")


def loaded_after(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after a statement."""
    code = (
        f"import sys\ntry:\n    exec({statement!r})\nexcept SystemExit:\n    pass\nprint('\\n' + '"
        " '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
    )
    return set(answer.stdout.splitlines()[-1].split())


def test_imports_point_down() -> None:
    linter = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    answer = subprocess.run(
        linter, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "KEPT" in answer.stdout


def test_the_package_imports_little_by_itself() -> None:
    heavy = {*HEAVY, "pydantic", "sqlite3", "textual", "typer"}
    assert not loaded_after("import rnnlm_tui; rnnlm_tui.runs") & heavy


@pytest.mark.parametrize(
    "process", ["worker.train", "worker.sampler", "worker.probe", "bench.children"]
)
def test_worker_processes_show_that_they_live_before_they_load_torch(process: str) -> None:
    assert not loaded_after(f"import rnnlm_tui.{process}") & {"torch", "numpy", "tokenizers"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_is_fast_because_it_imports_little(arguments: list[str]) -> None:
    loaded = loaded_after(f"from rnnlm_tui.cli.main import main; main({arguments!r})")
    assert not loaded & {*HEAVY, "textual", "rich", "pydantic", "psutil", "asyncio", "sqlite3"}


@pytest.mark.parametrize(
    "arguments",
    [["runs"], ["config", "show"], ["train", "--set", "a.b=1"], ["show", "nothing"], ["corpus"]],
)
def test_a_verb_without_a_screen_imports_neither_torch_nor_textual(arguments: list[str]) -> None:
    assert not loaded_after(f"from rnnlm_tui.cli.main import main; main({arguments!r})") & {
        *HEAVY,
        "textual",
        "rich",
    }


FIRST_PICTURE = """
import asyncio, sys, threading
from types import SimpleNamespace
from rnnlm_tui import client
from rnnlm_tui.cli import start
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.tui.app import RnnlmApp

def wait(*_):
    \"\"\"Wait until the first frame was checked.\"\"\"
    looked_at.wait(60)
    raise OSError("nothing to see")

client.listing = SimpleNamespace(RunList=wait)
looked_at = threading.Event()

async def look(pane):
    app = RnnlmApp(None, pane, settings={})
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert any("rnnlm-tui" in strip.text for strip in app.screen._compositor.render_strips())
        loaded = list(sys.modules)
        looked_at.set()
    return loaded

print("\\n" + " ".join(asyncio.run(look(sys.argv[1]))))
"""
OTHER_PANES = {
    "runs": {"train", "config", "prompt", "checkpoints", "compare"},
    "train": {"runs", "config", "prompt", "checkpoints", "compare"},
}


@pytest.mark.parametrize("pane", ["runs", "train"])
def test_the_first_frame_imports_nothing_that_it_does_not_show(pane: str) -> None:
    """Pydantic's models, the command line's parser, sqlite3 and other panes are slow to import."""
    answer = subprocess.run(
        [sys.executable, "-c", FIRST_PICTURE, pane],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert answer.returncode == 0, answer.stderr
    loaded = set(answer.stdout.splitlines()[-1].split())
    unwanted = {
        *HEAVY,
        "typer",
        "pydantic",
        "psutil",
        "pynvml",
        "sqlite3",
        "tomlkit",
        "email",
        "textual.widgets._markdown",
        "textual.widgets._data_table",
        "textual.widgets._text_area",
    }
    assert loaded & unwanted == set()
    assert not loaded & {
        f"rnnlm_tui.tui.screens.{other}"
        for other in (*OTHER_PANES[pane], "docs", "help", "palette", "quit", "worker_log")
    }


@pytest.mark.parametrize("arguments", [[], ["open", "plain-otter"]])
def test_an_app_opened_without_options_imports_no_option_parser(arguments: list[str]) -> None:
    run = runs_dir() / "plain-otter"
    run.mkdir(parents=True)
    (run / "config.toml").touch()
    assert not loaded_after(f"from rnnlm_tui.cli.main import main; main({arguments!r})") & {
        "typer",
        "pydantic",
    }


def test_a_list_of_ended_runs_imports_neither_the_reader_nor_the_drivers_library() -> None:
    build("plain-otter", 100)
    loaded = loaded_after("from rnnlm_tui.cli.main import main; main(['runs'])")
    assert not loaded & {"sqlite3", "pynvml"}
