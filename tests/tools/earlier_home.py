"""Make a data home with an earlier version's code, for the test that today's code opens it.

    python -m tests.tools.earlier_home CHECKOUT [--into tests/data/earlier_home.tar.gz]

CHECKOUT is a worktree of the earlier version; its `.venv` is used if it has one. The home holds a
finished run with labels
and pins, a run whose worker was killed, a paused run whose worker was killed, a draft, a deleted
run, and what the app remembers.
`expected.json` beside it has the earlier version's own answers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.terminal import Terminal

ARCHIVE = Path(__file__).parents[1] / "data" / "earlier_home.tar.gz"
STEPS, SAVED_EVERY = 400, 100
CONFIG = f"""\
[corpus]
source = "elman"

[tokenizer]
kind = "character"
vocab_size = 64

[model]
embedding_dim = 16
hidden_size = 16
num_layers = 1
dropout = 0.1

[schedule]
warmup_steps = 5

[training]
max_steps = {STEPS}
batch_size = 2
bptt = 48
threads = 1
deterministic = true
device = "cpu"

[evaluation]
every = {SAVED_EVERY}
prompts = ["the boy"]

[checkpoint]
every = {SAVED_EVERY}
keep_last = 2

[sampling]
max_new_tokens = 12
"""
FINISHED, KILLED, PAUSED, DRAFT, DELETED = (
    "plain-otter",
    "brisk-heron",
    "calm-badger",
    "dusty-lynx",
    "stern-crane",
)
KILLED_AFTER, PAUSED_AFTER = 230, 130
"""Steps after which the two workers are killed and paused: between two checkpoints."""
PROMPT = "the boy"
PATIENCE = 120.0


class EarlierVersion:
    """The command line of another checkout, in a home of its own."""

    def __init__(self, checkout: Path, home: Path) -> None:
        python = checkout / ".venv" / "bin" / "python"
        self.home = home
        self._command = [str(python if python.exists() else sys.executable), "-m", "rnnlm_tui"]
        self._variables = {
            "PYTHONPATH": str(checkout.resolve()),
            "RNNLM_TUI_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, *arguments: str) -> str:
        """Run a verb and return its output."""
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self._variables},
            cwd=self.home.parent,
        )
        if done.returncode:
            sys.exit(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def app(self, *arguments: str) -> Terminal:
        """Open the app in a terminal."""
        return Terminal(
            [*self._command, *arguments], columns=120, rows=40, environment=self._variables
        )

    def kill_worker(self, run: str) -> None:
        """`kill -9` the worker of a run."""
        with closing(self._database(run)) as connection:
            (pid,) = connection.execute(
                "SELECT pid FROM attempts ORDER BY attempt DESC LIMIT 1"
            ).fetchone()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: json.loads(self.run("show", run, "--json"))["status"] == "crashed")

    def newest_step(self, run: str) -> int:
        """The newest step in the run's database; 0 before there is one."""
        try:
            with closing(self._database(run)) as connection:
                return int(connection.execute("SELECT max(step) FROM steps").fetchone()[0] or 0)
        except sqlite3.OperationalError:
            return 0

    def _database(self, run: str) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.home / 'runs' / run / 'run.db'}?mode=ro", uri=True)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait, or end the script after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("waited in vain")
        time.sleep(0.002)


def make(earlier: EarlierVersion, folder: Path) -> None:
    """Fill the home."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    options = ("--config", str(config))
    earlier.run("train", *options, "--name", FINISHED, "--follow")
    earlier.run("tag", FINISHED, "paper", "small")
    earlier.run("note", FINISHED, "the first one that works")
    earlier.run("pin", FINISHED, f"{FINISHED}@{STEPS}")
    earlier.run("train", *options, "--name", DELETED, "--set", "training.max_steps=20", "--follow")
    earlier.run("delete", DELETED)
    earlier.run("train", *options, "--name", DRAFT, "--draft")
    earlier.run("train", *options, "--name", PAUSED, "--detach")
    wait_until(lambda: earlier.newest_step(PAUSED) >= PAUSED_AFTER)
    earlier.run("pause", PAUSED)
    earlier.kill_worker(PAUSED)
    earlier.run("train", *options, "--name", KILLED, "--detach")
    wait_until(lambda: earlier.newest_step(KILLED) >= KILLED_AFTER)
    earlier.kill_worker(KILLED)
    use_app(earlier)


def use_app(earlier: EarlierVersion) -> None:
    """Let the app remember something: a typed prompt, the open run, two runs marked for
    comparison."""
    with earlier.app("open", FINISHED) as terminal:
        terminal.wait_for("Perplexity", PATIENCE)
        terminal.send("4")
        terminal.wait_for("@best", PATIENCE)
        terminal.send(f"\x15{PROMPT}\r")
        terminal.wait_for("12 of 12 tokens", PATIENCE)
        while "Leave field" in terminal.text:
            terminal.send("\x1b")
            terminal.read(1.0)
            terminal.read(1.0)
        terminal.send("r")
        terminal.wait_for("progress", PATIENCE)
        for key in ("\x1b[H", " ", "j", " "):
            terminal.send(key)
            terminal.read(0.5)
        terminal.wait_for("2 marked", PATIENCE)
        terminal.send("q")
        terminal.wait(PATIENCE)


def expected(earlier: EarlierVersion) -> dict[str, object]:
    """The earlier version's answers about the home."""
    answers: dict[str, object] = {
        verb: json.loads(earlier.run(verb, "--json")) for verb in ("runs", "trash", "corpus")
    }
    for run in (FINISHED, KILLED, PAUSED):
        answers[f"checkpoints {run}"] = json.loads(earlier.run("checkpoints", run, "--json"))
        answers[f"metrics {run}"] = json.loads(earlier.run("metrics", run, "--json"))
    answers["sample"] = json.loads(
        earlier.run("sample", f"{FINISHED}@best", PROMPT, "--greedy", "--json")
    )
    return answers


def without_spare_files(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what every version makes again: the reserved space (4 MB of random bytes a run) and
    SQLite's shared memory."""
    return None if member.name.endswith((".ballast", "-shm")) else member


def main() -> None:
    """Make the archive."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("--into", type=Path, default=ARCHIVE)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rnnlm-earlier-"))
    try:
        earlier = EarlierVersion(given.checkout, folder / "home")
        make(earlier, folder)
        (folder / "expected.json").write_text(json.dumps(expected(earlier), indent=1) + "\n")
        given.into.parent.mkdir(exist_ok=True)
        with tarfile.open(given.into, "w:gz") as archive:
            for name in ("home", "expected.json"):
                archive.add(folder / name, name, filter=without_spare_files)
    finally:
        shutil.rmtree(folder)
    print(f"{given.into}: {given.into.stat().st_size:,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
