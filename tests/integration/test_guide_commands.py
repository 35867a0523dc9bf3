"""Every command of an `sh` block in a guide or the README runs, on small texts and in its own data
folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rnnlm_tui.docs import GUIDES
from tests.faults.workers import Workers
from tests.integration.runs import write_text

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PAGES = {"README": README} | {guide.topic: guide.text() for guide in GUIDES}
FROM_NOTHING = ("README", "quick-start")
"""Pages that make their own runs, for readers who have none yet."""
INSTALLATION = re.compile(r"^python3 -m venv .*?(?:\.venv/bin/(?=rnnlm-tui)|$)", re.MULTILINE)
"""A line that installs, up to the command that it ends with."""
RUNS = ("plain-otter", "brisk-heron")
"""The runs that guides use."""
STOPPED = "small-wren"
"""The run that a guide stops: it must not end before that."""
SMALL = """#!/usr/bin/env bash
# rnnlm-tui with a small model, few steps and a small text, unless the command names a text.
[ $# = 0 ] && exit  # the app
small=()
case " $* " in
  " train "*|" queue add "*|" tune "*|" estimate "*" --probe "*)
    small=(training.batch_size=4 training.bptt=8 training.max_steps=12 evaluation.every=6
           checkpoint.every=6 model.hidden_size=16 model.embedding_dim=16 tokenizer.vocab_size=300)
    case " $* " in
      *" {stopped} "*) small+=(training.max_steps=1000000 evaluation.every=0 checkpoint.every=0);;
    esac
    case " $* " in
      *" --config "*) small+=(corpus.source=my-book.txt schedule.warmup_steps=0);;
      *" corpus.source="*|*" train "[^-]*|*" estimate "[^-]*|*" tune "[^-]*) ;;
      *" chars "*|*" --from "*) ;;
      *) small+=(corpus.source=my-book.txt);;
    esac;;
esac
options=()
for field in "${{small[@]}}"; do options+=(--set "$field"); done
if [ "$*" = "resume {stopped} --detach" ]; then  # it needn't train beside the other commands
  "{python}" -m rnnlm_tui "$@" && exec "{python}" -m rnnlm_tui pause {stopped}
fi
exec "{python}" -m rnnlm_tui "$@" "${{options[@]}}"
"""


def run_block(commands: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run shell commands as a reader of the guide would."""
    environment = {
        **os.environ,
        "RNNLM_TUI_HOME": str(home),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = ["bash", "-euo", "pipefail", "-c", commands]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=folder,
        env=environment,
    )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> Path:
    """A folder with the files that guides name, and a data folder `home` with two finished runs."""
    folder = tmp_path_factory.mktemp("workshop")
    program = folder / "bin" / "rnnlm-tui"
    program.parent.mkdir()
    program.write_text(SMALL.format(python=workers.python, stopped=STOPPED), encoding="utf-8")
    program.chmod(0o755)
    if shutil.which("jq") is None:
        program.with_name("jq").write_text("#!/bin/sh\nexec cat\n", encoding="utf-8")
        program.with_name("jq").chmod(0o755)
    text = write_text(folder / "my-book.txt").read_text(encoding="utf-8")
    lines = text.splitlines()
    (folder / "input.txt").write_text(text, encoding="utf-8")
    (folder / "prompts.txt").write_text("the cat\nthe dog\n", encoding="utf-8")
    (folder / "reviews.csv").write_text(
        "review,stars\n" + "".join(f'"{line}",5\n' for line in lines), encoding="utf-8"
    )
    source = folder / "src" / "package" / "module.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "".join(
            f"def name_{number}():\n    return '{line}'\n\n" for number, line in enumerate(lines)
        ),
        encoding="utf-8",
    )
    treebank = folder / "simple-examples" / "data"
    treebank.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (treebank / f"ptb.{split}.txt").write_text(text, encoding="utf-8")
    for run in RUNS:
        trained = run_block(f"rnnlm-tui train --name {run} --follow", folder, folder / "home")
        assert trained.returncode == 0, trained.stderr
    return folder


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if BLOCK.search(text)])
def test_commands_in_guides_and_readme_run(page: str, workshop: Path, home: Path) -> None:
    folder = home.parent / "folder"
    shutil.copytree(workshop, folder, symlinks=True)
    if page not in FROM_NOTHING:
        (folder / "home").rename(home)
    for block in BLOCK.findall(PAGES[page]):
        commands = INSTALLATION.sub("", block)
        done = run_block(commands, folder, home)
        assert done.returncode == 0, f"{commands}\n{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}"


def test_other_commands_are_in_console_blocks_with_a_prompt() -> None:
    for guide in GUIDES:
        languages = re.findall(r"^```(\w+)$", guide.text(), re.MULTILINE)
        assert set(languages) <= {"sh", "console", "text", "toml", "python"}, guide.topic
        for block in re.findall(r"^```console\n(.*?)^```$", guide.text(), re.MULTILINE | re.DOTALL):
            assert all(line.startswith("$ ") for line in block.splitlines()), guide.topic
