"""Make the README's pictures: train the demo and two short runs, and draw the app's screens.

    python -m tests.tools.screenshot [--home HOME] [--share 0.8] [--size 120x40] [--into .github]

The dashboard is drawn while the demo trains: as text at 80×24 in README.md, and as SVG. Then come
the prompt and the three runs compared, as SVG. Runs of these names that a home already has aren't
trained again. Machines with other busy processes give slow figures.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.start import start_run
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import preset
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import list_runs
from tests.terminal import Terminal
from tests.tools.svg import picture_of

FOLDER = Path(__file__).parents[2] / ".github"
README = Path(__file__).parents[2] / "README.md"
DASHBOARD = re.compile(r"(?<=^```text\n) rnnlm-tui .*?(?=^```$)", re.MULTILINE | re.DOTALL)
"""The dashboard as text in the README."""
SHOWN = "plain-otter"
BESIDE = {
    "brisk-heron": parse_config(merge(preset("gru"), {"training.epochs": 2})),
    "dusty-lynx": parse_config(
        merge(
            preset("demo"),
            {
                "training.epochs": 2,
                "model.hidden_size": 128,
                "model.embedding_dim": 128,
                "optimizer.learning_rate": 2e-3,
            },
        )
    ),
}
"""The runs that the demo is compared with."""
PROMPTS = ("The state of the Union", "Tonight I ask", "My fellow Americans, we must")
PATIENCE = 120.0
STILL_SECONDS = 1.5


def main() -> None:
    """Train, look, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="where runs are, or are made; a temporary folder")
    parser.add_argument(
        "--share",
        type=float,
        default=0.8,
        help="of the demo that is done when the dashboard is drawn",
    )
    parser.add_argument("--size", default="120x40", help="columns and rows")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the pictures")
    given = parser.parse_args()
    columns, rows = (int(part) for part in given.size.split("x"))
    given.into.mkdir(exist_ok=True)
    with (
        nullcontext(str(given.home))
        if given.home
        else tempfile.TemporaryDirectory(prefix="rnnlm-tui-") as home
    ):
        os.environ["RNNLM_TUI_HOME"] = home
        there = {run.name: run for run in list_runs()}
        for name, config in BESIDE.items():
            if name not in there:
                wait_for_share(start_run(config, name), 1.0)
        shown = there.get(SHOWN) or start_run(RunConfig(), SHOWN)
        wait_for_share(shown, given.share)
        command = [sys.executable, "-m", "rnnlm_tui", "open", SHOWN]
        with Terminal(command, columns=80, rows=24) as terminal:
            write_dashboard(terminal)
        with Terminal(command, columns=columns, rows=rows) as terminal:
            draw_dashboard(terminal, given.into)
            draw_prompt(terminal, given.into)
            wait_for_share(shown, 1.0)
            draw_comparison(terminal, given.into)


def wait_for_share(run: RunDirectory, share: float) -> None:
    """Wait until this share of the run is done; exits if the run fails before."""
    while (summary := summarize(run)).status in LIVING and summary.step < share * (
        summary.max_steps or sys.maxsize
    ):
        time.sleep(0.5)
    if summary.status not in (*LIVING, "finished"):
        sys.exit(f"{run.name} {summary.status}: {summary.message}")


def write_dashboard(terminal: Terminal) -> None:
    """The train pane as text, into the README."""
    wait_for_measurements(terminal)
    picture = "".join(f"{line.rstrip()}\n" for line in terminal.screen.display)
    text = README.read_text(encoding="utf-8")
    README.write_text(DASHBOARD.sub(lambda _: picture, text, count=1), encoding="utf-8")


def draw_dashboard(terminal: Terminal, folder: Path) -> None:
    """The train pane."""
    wait_for_measurements(terminal)
    save(terminal, folder / "train.svg")


def wait_for_measurements(terminal: Terminal) -> None:
    """Wait for the train pane and some seconds of measurements."""
    terminal.wait_for("Perplexity, log", PATIENCE)
    until = time.monotonic() + 8
    while time.monotonic() < until:
        terminal.read(0.1)


def draw_prompt(terminal: Terminal, folder: Path) -> None:
    """Samples of the best checkpoint."""
    terminal.send("4")
    terminal.wait_for("@best", PATIENCE)
    for prompt in PROMPTS:
        terminal.send("\x15")
        type_slowly(terminal, prompt)
        terminal.send("\r")
        terminal.wait_for("tok/s", PATIENCE)
        wait_until_still(terminal)
    save(terminal, folder / "prompt.svg")
    terminal.send("\x1b")
    wait_until_still(terminal)


def draw_comparison(terminal: Terminal, folder: Path) -> None:
    """The curves of all runs in one chart."""
    terminal.send("\x0c")
    terminal.wait_for("progress", PATIENCE)
    wait_until_still(terminal)
    terminal.send("\x1b[H")
    for _ in (SHOWN, *BESIDE):
        terminal.send(" ")
        wait_until_still(terminal)
        terminal.send("j")
        wait_until_still(terminal)
    terminal.send("=")
    wait_until_still(terminal)
    save(terminal, folder / "compare.svg")


def type_slowly(terminal: Terminal, words: str) -> None:
    """Type key by key."""
    for key in words:
        terminal.send(key)
        terminal.read(0.2)


def wait_until_still(terminal: Terminal) -> None:
    """Read until nothing arrives for a while, or give up, as with a run that trains."""
    until = time.monotonic() + 6 * STILL_SECONDS
    while terminal.read(STILL_SECONDS) and time.monotonic() < until:
        pass


def save(terminal: Terminal, path: Path) -> None:
    """Save the screen to a file."""
    path.write_text(picture_of(terminal), encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes\n{terminal.text}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
