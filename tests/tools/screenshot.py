"""Make the README's pictures: train the demo and two short runs, and draw the app's screens.

    python -m tests.tools.screenshot [--home HOME] [--share 0.8] [--size 120x40] [--into .github]

The dashboard is drawn while the demo trains: as text at 80×24 in README.md, and as SVG. Then come
the prompt and the three runs compared, as SVG. Runs of these names that a home already has aren't
trained again. Machines with other busy processes give slow figures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.segment import Segment, Segments
from textual.pilot import Pilot

from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.start import start_run
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import preset
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.tui._textual import screen_rows
from rnnlm_tui.tui.app import RnnlmApp

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
MEASURED_SECONDS, STILL_SECONDS = 8.0, 1.5


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
        asyncio.run(draw(shown, (columns, rows), given.into))


def wait_for_share(run: RunDirectory, share: float) -> None:
    """Wait until this share of the run is done; exits if the run fails before."""
    while (summary := summarize(run)).status in LIVING and summary.step < share * (
        summary.max_steps or sys.maxsize
    ):
        time.sleep(0.5)
    if summary.status not in (*LIVING, "finished"):
        sys.exit(f"{run.name} {summary.status}: {summary.message}")


async def draw(run: RunDirectory, size: tuple[int, int], folder: Path) -> None:
    """Write the dashboard into the README, and the pictures into `folder`."""
    async with opened(run, (80, 24)) as pilot:
        picture = "".join(f"{line.rstrip()}\n" for line in lines_of(pilot))
        text = README.read_text(encoding="utf-8")
        README.write_text(DASHBOARD.sub(lambda _: picture, text, count=1), encoding="utf-8")
    async with opened(run, size) as pilot:
        save(pilot, folder / "train.svg")
        await pilot.press("4")
        await wait_for(pilot, "@best")
        for prompt in PROMPTS:
            await pilot.press("ctrl+u", *prompt, "enter")
            await wait_for(pilot, "tok/s")
            await wait_until_still(pilot)
        save(pilot, folder / "prompt.svg")
        await asyncio.to_thread(wait_for_share, run, 1.0)
        await pilot.press("escape", "ctrl+l")
        await wait_for(pilot, "progress")
        await pilot.press("home")
        for _ in (SHOWN, *BESIDE):
            await pilot.press("space", "j")
        await pilot.press("=")
        await wait_until_still(pilot)
        save(pilot, folder / "compare.svg")


@asynccontextmanager
async def opened(run: RunDirectory, size: tuple[int, int]) -> AsyncIterator[Pilot[int]]:
    """The app on the run's train pane, after some seconds of measurements."""
    async with RnnlmApp(run, "train").run_test(size=size) as pilot:
        await wait_for(pilot, "Perplexity, log")
        await asyncio.sleep(MEASURED_SECONDS)
        yield pilot


def lines_of(pilot: Pilot[int]) -> list[str]:
    """The screen's cells, a text a line."""
    return [strip.text for strip in screen_rows(pilot.app.screen)]


async def wait_for(pilot: Pilot[int], words: str) -> None:
    """Wait until these words are on the screen; exits if they don't come."""
    until = time.monotonic() + PATIENCE
    while not any(words in line for line in lines_of(pilot)):
        if time.monotonic() > until:
            sys.exit("\n".join([f"no {words!r} on the screen:", *lines_of(pilot)]))
        await asyncio.sleep(0.2)


async def wait_until_still(pilot: Pilot[int]) -> None:
    """Wait until nothing changes for a while, or give up, as with a run that trains."""
    until, shown = time.monotonic() + 6 * STILL_SECONDS, list[str]()
    while shown != lines_of(pilot) and time.monotonic() < until:
        shown = lines_of(pilot)
        await asyncio.sleep(STILL_SECONDS)


def save(pilot: Pilot[int], path: Path) -> None:
    """Save the screen to a file, as Textual's `export_screenshot` does, which would print only what
    the terminal doesn't show yet."""
    width = pilot.app.size.width
    console = Console(
        width=width, file=StringIO(), record=True, force_terminal=True, color_system="truecolor"
    )
    for strip in screen_rows(pilot.app.screen):
        console.print(Segments([*strip, Segment.line()]), end="")
    path.write_text(console.export_svg(title="rnnlm-tui"), encoding="utf-8")
    words = [f"{path}: {path.stat().st_size:,} bytes", *lines_of(pilot)]
    print("\n".join(words), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
