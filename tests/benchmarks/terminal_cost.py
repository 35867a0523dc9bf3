"""What the app costs at 120×40 and 2 frames a second: `python -m tests.benchmarks.terminal_cost
[--seconds 20] [--keys 60] [--steps 1000000] [--runs 300]`.

Bytes, times and processor time of the real app on a real pseudo-terminal: a list of many finished
runs; a stored run of a million steps with free cores, at 80×24 too; a run that trains on all cores;
the stored run beside it. A key's times are until the first byte of the answer and until the last
byte of its frame; the age of a frame is measured behind a reader of at most 32 KiB a second. Every
figure is printed beside its budget.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep, time

import psutil

from rnnlm_tui.schema.presets import preset
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory, home
from rnnlm_tui.store.reader import RunReader
from tests.benchmarks.command_line import options, say, temporary_home
from tests.fakes.long_run import build, build_many
from tests.integration.runs import end, start, wait_for_step
from tests.terminal import Terminal

COLUMNS, ROWS = 120, 40
NARROW = (80, 24)
LINK = 32 * 1024
"""Bytes per second of a slow link."""
STORED, OTHER, LIVE = "long-otter", "short-otter", "plain-otter"
IN_LIST = "progress"
LIST_STILL_SECONDS = 0.8
"""By then the detail of the run under the cursor is shown."""
STILL_SECONDS = 1.5
"""A frame is complete after this time without a byte."""
SETTLED_SECONDS = 2.0
"""A sampler has loaded everything once it used no processor for this long."""
QUIET_SECONDS = 0.12
"""The largest gap between bytes of one frame."""
TURNS = 4
"""How often a fast and a slow reader take turns."""
LOOK_SECONDS = 0.05
"""Seconds between two measurements of a frame's age."""
PATIENCE = 90.0
DRAWN = re.compile("[\u2801-\u28ff]")
"""A chart has a curve."""
STEP = re.compile(r"step +([\d,]+) /")
KEYS = tuple(
    key for other in ("\t", "l", "\t", "-", "l", "+") for key in ("\x1b[D", "\x1b[C", other)
)
"""Cursor, next chart, scale and smoothing: each changes the screen at any step of the run."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """The app's reaction to a key."""

    first: float
    """Milliseconds until the first byte."""
    last: float
    """Milliseconds until the last byte of the frame."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class FirstPaint:
    """The first frame, from the start of the process."""

    first: float
    """Milliseconds until the first byte."""
    usable: float
    """Milliseconds until a chart has a curve."""
    processor: float
    """Milliseconds of processor time used by then."""
    size: int
    """Bytes until the frame is complete."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An interval without a key."""

    rate: float
    """Bytes per second."""
    processor: float
    """Percent of one core, the app only."""
    behind: float
    """The largest delay in seconds over a link of 32 KiB/s that queues what it can't carry yet."""


def compiled() -> dict[str, str]:
    """Environment variables that store compiled code beside the home, not in the checkout."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(home().parent / "compiled")}


@contextmanager
def opened_app(name: str | None, size: tuple[int, int] = (COLUMNS, ROWS)) -> Iterator[Terminal]:
    """The app on a run, or without one."""
    command = [sys.executable, "-m", "rnnlm_tui", *(["open", name] if name else [])]
    with Terminal(command, columns=size[0], rows=size[1], environment=compiled()) as terminal:
        yield terminal


def painted(
    terminal: Terminal, began: float, wait: Callable[[Terminal], None] | None = None
) -> FirstPaint:
    """Wait for the first frame with a curve, or for `wait`."""
    (wait or wait_for_charts)(terminal)
    processor = sum(psutil.Process(terminal.pid).cpu_times()[:2])
    usable, first = terminal.arrivals[-1][0], terminal.arrivals[0][0]
    while terminal.read(QUIET_SECONDS):
        pass
    return FirstPaint(
        1e3 * (first - began), 1e3 * (usable - began), 1e3 * processor, terminal.received
    )


@contextmanager
def home_below(name: str) -> Iterator[None]:
    """Another home, beside the one at RNNLM_TUI_HOME."""
    before = os.environ["RNNLM_TUI_HOME"]
    os.environ["RNNLM_TUI_HOME"] = str(home().parent / f"{home().name}-{name}")
    try:
        yield
    finally:
        os.environ["RNNLM_TUI_HOME"] = before


def measure_list(runs: int, moves: int) -> None:
    """Measure a list of runs of a few lengths that an earlier process has read."""
    with home_below("list"):
        build_many(runs, 3_000)
        verb = [sys.executable, "-m", "rnnlm_tui", "runs"]
        times = []
        for _ in range(4):  # the first start compiles and reads the runs
            began = monotonic()
            subprocess.run(
                verb, env={**os.environ, **compiled()}, stdout=subprocess.DEVNULL, check=True
            )
            times.append(1e3 * (monotonic() - began))
        show(f"list of {runs:,} finished runs")
        show("  `rnnlm-tui runs`", f"{statistics.median(times[1:]):.0f} ms", "400 ms")

        def wait_for_list(terminal: Terminal) -> None:
            terminal.wait_for(f"{runs:,} runs", PATIENCE)

        with opened_app(None) as terminal:  # compiles
            wait_for_list(terminal)
        began = monotonic()
        with opened_app(None) as terminal:
            show_paint("  first paint", painted(terminal, began, wait_for_list), "500 ms")
            settle(terminal)
            read_until_still(terminal)
            found = []
            # the first move draws the small chart for the first time
            for index in range(moves + 1):
                size = terminal.received
                reaction = react(terminal, "jk"[index % 2])
                read_until_still(terminal, LIST_STILL_SECONDS)
                found.append(Reaction(reaction.first, reaction.last, terminal.received - size))
        show_keys("  cursor move to first byte, p50 / p95", found[1:], "20 ms, 3,000 bytes")


def wait_for_charts(terminal: Terminal) -> None:
    """Wait until a chart of the train pane has a curve."""
    terminal.wait_for(
        lambda: "Perplexity" in terminal.text and DRAWN.search(terminal.text) is not None, PATIENCE
    )


def read_until_still(terminal: Terminal, seconds: float = STILL_SECONDS) -> None:
    """Read until nothing arrives for a while, or give up, as with a run that trains."""
    deadline = monotonic() + 4 * seconds
    while terminal.read(seconds) and monotonic() < deadline:
        pass


def read_for(terminal: Terminal, seconds: float) -> None:
    """Read for this many seconds."""
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        terminal.read(left)


def settle(terminal: Terminal) -> None:
    """Wait until the app's sampler, a separate process, has loaded everything."""
    deadline, used = monotonic() + PATIENCE, -1.0
    while monotonic() < deadline:
        now = sum(sum(child.cpu_times()[:2]) for child in psutil.Process(terminal.pid).children())
        if now == used:
            return
        used = now
        read_for(terminal, SETTLED_SECONDS)


def react(terminal: Terminal, key: str) -> Reaction:
    """Type a key and measure the reaction."""
    while terminal.read(0):
        pass
    count, size, began = len(terminal.arrivals), terminal.received, monotonic()
    terminal.send(key)
    while len(terminal.arrivals) == count:
        assert monotonic() < began + PATIENCE, f"nothing came back after {key!r}\n{terminal.text}"
        terminal.read(PATIENCE)
    first = last = terminal.arrivals[count][0]
    while terminal.read(QUIET_SECONDS) and terminal.arrivals[-1][0] < last + QUIET_SECONDS:
        last = terminal.arrivals[-1][0]
    return Reaction(1e3 * (first - began), 1e3 * (last - began), terminal.received - size)


def react_to_keys(terminal: Terminal, count: int) -> tuple[Reaction, ...]:
    """Type this many keys, at moments independent of the app's timers."""
    draw, found = random.Random(7), []
    react(terminal, "\x1b[D")  # moves the cursor to the newest step
    read_until_still(terminal)
    for index in range(count):
        read_for(terminal, draw.uniform(0.05, 0.45))
        found.append(react(terminal, KEYS[index % len(KEYS)]))
    react(terminal, "\x1b")
    return tuple(found)


def watch(terminal: Terminal, seconds: float) -> Watched:
    """Watch for this many seconds."""
    while terminal.read(0):
        pass
    process, count, size, began = (
        psutil.Process(terminal.pid),
        len(terminal.arrivals),
        terminal.received,
        monotonic(),
    )
    before = sum(process.cpu_times()[:2])
    read_for(terminal, seconds)
    wall = monotonic() - began
    used = sum(process.cpu_times()[:2]) - before
    return Watched(
        (terminal.received - size) / wall, 100 * used / wall, most_behind(terminal.arrivals[count:])
    )


def most_behind(arrivals: list[tuple[float, int]]) -> float:
    """The longest wait of a byte on a link of `LINK` bytes a second."""
    free, worst = 0.0, 0.0
    for at, size in arrivals:
        free = max(free, at) + size / LINK
        worst = max(worst, free - at)
    return worst


def open_from_list(terminal: Terminal) -> float:
    """Go to the list, to another run, and open the first run again.

    Milliseconds until its charts are drawn.
    """
    terminal.send("r")
    terminal.wait_for(lambda: IN_LIST in terminal.text, PATIENCE)
    read_until_still(terminal)
    terminal.send("j")
    terminal.wait_for(lambda: f"╭─ {OTHER}" in terminal.text, PATIENCE)
    read_until_still(terminal)
    began = monotonic()
    terminal.send("k\r")
    terminal.wait_for(
        lambda: IN_LIST not in terminal.text and DRAWN.search(terminal.text) is not None, PATIENCE
    )
    return 1e3 * (terminal.arrivals[-1][0] - began)


def zoom_in(terminal: Terminal, steps: int) -> Reaction:
    """Zoom until 1,000 steps are left; the reaction to the last key."""
    read_until_still(terminal)
    shown, reaction = float(steps), None
    while shown > 1_000:
        reaction = react(terminal, "\x1b[A")
        read_until_still(terminal, 0.4)
        shown /= 2
    assert reaction is not None
    return reaction


def ages_of(terminal: Terminal, run: RunDirectory, seconds: float, most: int) -> list[float]:
    """Ages of the step shown, measured twenty times a second.

    Each time at most `most` bytes are read.
    """
    found: list[float] = []
    with RunReader(run) as reader:
        until = monotonic() + seconds
        while monotonic() < until:
            turn = monotonic() + LOOK_SECONDS
            terminal.read(0, most)
            shown = STEP.search(terminal.text)
            made = {row.step: row.time for row in reader.recent_steps(400)}
            if shown is not None and (at := made.get(int(shown[1].replace(",", "")))) is not None:
                found.append(time() - at)
            wait_until(turn)
    return found


def wait_until(moment: float) -> None:
    """Sleep until a moment of the monotonic clock."""
    sleep(max(0.0, moment - monotonic()))


def measure_stored(steps: int, seconds: float, keys: int) -> RunDirectory:
    """Measure a stored run with free cores; returns it."""
    show(f"stored run, {steps:,} steps")
    build(OTHER, 2_000)
    stored = build(STORED, steps)
    with opened_app(OTHER) as terminal:  # compiles
        wait_for_charts(terminal)
        settle(terminal)
    began = monotonic()
    with opened_app(stored.name) as terminal:
        show_paint("  first paint", painted(terminal, began), "300 ms, 32 KiB")
        settle(terminal)
        read_until_still(terminal)
        show_rate("  nothing happens", watch(terminal, seconds), "0 B/s")
        found = react_to_keys(terminal, keys)
        show_keys("  key to first byte, p50 / p95, cores free", found, "16 ms")
        opened = statistics.median(open_from_list(terminal) for _ in range(3))
        show("  from the list to its charts", f"{opened:.0f} ms", "300 ms")
        zoomed = zoom_in(terminal, steps)
        words = f"{zoomed.first:.0f} ms to the first byte, {zoomed.last:.0f} ms to the last"
        show("  zoom to 1,000 steps", words, "50 ms")
    began = monotonic()
    with opened_app(stored.name, NARROW) as terminal:
        show_paint("  first paint at 80×24", painted(terminal, began), "300 ms")
        settle(terminal)
        read_until_still(terminal)
        show_keys("  keys at 80×24", react_to_keys(terminal, keys), "16 ms")
    return stored


def measure_live(stored: RunDirectory, seconds: float, keys: int) -> None:
    """Measure a run that trains on all cores, and the stored one beside it."""
    show("run that trains on all cores")
    changes = {"training.max_steps": 20_000, "evaluation.every": 1_000, "checkpoint.every": 1_000}
    run = start(parse_config(merge(preset("elman"), changes)), LIVE)  # on all cores
    try:
        wait_for_step(run, 300)
        began = monotonic()
        with opened_app(run.name) as terminal:
            show_paint("  first paint", painted(terminal, began), "500 ms, 32 KiB")
            settle(terminal)
            live = watch(terminal, seconds)
            show_rate("  dashboard", live, "2,048 B/s, 3 %")
            late = f"{live.behind:.2f} s at most"
            show("  a frame on a link of 32 KiB/s is late by", late, "0.5 s")
            show_keys("  key to first byte, p50 / p95", react_to_keys(terminal, keys), "30 ms")
            fast, slow = list[float](), list[float]()
            for _ in range(TURNS):
                fast += ages_of(terminal, run, seconds / TURNS, 65_536)
                slow += ages_of(terminal, run, seconds / TURNS, int(LINK * LOOK_SECONDS))
            at_once, linked = statistics.median(fast), statistics.median(slow)
            ages = f"{at_once:.2f} s, {linked:.2f} s: {linked - at_once:+.2f} s"
            show("  age of the step shown, read at once and at 32 KiB/s", ages, "+0.5 s")
        with opened_app(stored.name) as terminal:
            wait_for_charts(terminal)
            settle(terminal)
            show_keys("  keys of the stored run beside it", react_to_keys(terminal, keys), "30 ms")
    finally:
        end(run)


def percentile(values: list[float], share: float) -> float:
    """The percentile of the values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def show(name: str, value: str = "", budget: str = "") -> None:
    """Print a figure beside its budget."""
    say(f"{name:54}{value:66} {budget}".rstrip())


def show_keys(name: str, reactions: Sequence[Reaction], budget: str) -> None:
    firsts, lasts = [one.first for one in reactions], [one.last for one in reactions]
    size = statistics.median(one.size for one in reactions)
    show(
        name,
        f"{statistics.median(firsts):.0f} / {percentile(firsts, 0.95):.0f} ms  (whole frame"
        f" {percentile(lasts, 0.95):.0f} ms, {size:,.0f} bytes)",
        budget,
    )


def show_paint(name: str, paint: FirstPaint, budget: str) -> None:
    show(
        name,
        f"{paint.first:.0f} ms to the first byte, {paint.usable:.0f} ms whole"
        f" ({paint.processor:.0f} ms of processor), {paint.size / 1024:.1f} KiB",
        budget,
    )


def show_rate(name: str, watched: Watched, budget: str) -> None:
    show(name, f"{watched.rate:,.0f} B/s, {watched.processor:.1f} % of a core", budget)


def main() -> None:
    """Measure and print."""
    given = options(__doc__, seconds=20.0, keys=60, runs=300, steps=1_000_000)
    with temporary_home():
        measure_list(given.runs, given.keys // 3)
        stored = measure_stored(given.steps, given.seconds, given.keys)
        measure_live(stored, given.seconds, given.keys)


if __name__ == "__main__":
    main()
