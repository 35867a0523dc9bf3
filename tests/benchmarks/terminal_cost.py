"""What the app costs at 120×40 and 2 pictures a second: `python -m tests.benchmarks.terminal_cost
[--seconds 20] [--keys 60] [--steps 1000000] [--runs 300]`.

Bytes, times and processor time of the real app on a real pseudo-terminal: a list of many finished
runs, then a stored run of a million steps with the
cores free, its start and its keys at 80×24 too, then a run that trains on all cores, then the
stored one beside it. Times from a key are until the first byte that comes back, and until the last
one of
the same picture; a picture's age is looked at behind a reader that takes no more than 32 KiB a
second. Every figure stands beside its budget.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time

import psutil

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import preset
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory, home
from rnnlm_tui.store.reader import RunReader
from tests.fakes.long_run import build, build_many
from tests.integration.runs import end, start, wait_for_step
from tests.terminal import Terminal

COLUMNS, ROWS = 120, 40
NARROW = (80, 24)
LINK = 32 * 1024
"""Bytes a second of a slow link."""
STORED, OTHER, LIVE = "long-otter", "short-otter", "plain-otter"
IN_LIST = "progress"
LIST_STILL_SECONDS = 0.8
"""The detail of the run under the cursor has come by then."""
STILL_SECONDS = 1.5
"""Without a byte for so long, a picture stands."""
SETTLED_SECONDS = 2.0
"""A sampler that has used no processor for so long has loaded everything."""
QUIET_SECONDS = 0.12
"""Bytes of one picture come closer to each other than this."""
TURNS = 4
"""So often a fast and a slow reader take turns."""
LOOK_SECONDS = 0.05
"""Between two looks at a picture's age."""
PATIENCE = 90.0
DRAWN = re.compile("[\u2801-\u28ff]")
"""A chart has a curve."""
STEP = re.compile(r"step +([\d,]+) /")
KEYS = tuple(
    key for other in ("\t", "l", "\t", "-", "l", "+") for key in ("\x1b[D", "\x1b[C", other)
)
"""The cursor to and fro, and between the next chart, the scale and smoothing: each changes what
shows, wherever the run stands."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What came back after a key."""

    first: float
    """Milliseconds until the first byte."""
    last: float
    """Milliseconds until the last byte of the picture."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class FirstPaint:
    """From the start of the process."""

    first: float
    """Milliseconds until the first byte."""
    usable: float
    """Milliseconds until a chart has a curve."""
    processor: float
    """Milliseconds of processor time that the app had used by then."""
    size: int
    """Bytes until the picture stands."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A time without a key."""

    rate: float
    """Bytes a second."""
    processor: float
    """Percent of one core, of the app alone."""
    behind: float
    """Seconds that the oldest picture would come late over a link of 32 KiB/s that holds back
    whatever it can't carry yet."""


@dataclass(frozen=True, slots=True)
class ListCosts:
    """A list of finished runs, each read before."""

    runs: int
    verb: float
    """Milliseconds of `rnnlm-tui runs`."""
    paint: FirstPaint
    """Usable: with all of its runs."""
    moves: tuple[Reaction, ...]
    """The cursor to the next run and back; the bytes are all that come until its detail stands."""


@dataclass(frozen=True, slots=True)
class Costs:
    """All that is measured."""

    listed: ListCosts
    narrow_paint: FirstPaint
    """The stored run's at 80×24, as its keys there."""
    narrow_keys: tuple[Reaction, ...]

    steps: int
    """Of the stored run."""
    paint: FirstPaint
    idle: Watched
    opened: float
    """Milliseconds from enter in the list of runs to the charts of the stored run."""
    zoomed: Reaction
    """The key that leaves 1,000 of its steps or less."""
    keys: tuple[Reaction, ...]
    live_paint: FirstPaint
    live: Watched
    live_keys: tuple[Reaction, ...]
    busy_keys: tuple[Reaction, ...]
    """The stored run's, while the other trains."""
    ages: tuple[float, float]
    """Seconds since the shown step was made, the median: read at once, and at 32 KiB/s."""

    @property
    def behind(self) -> float:
        """Seconds by which the slow reader's picture is older."""
        return self.ages[1] - self.ages[0]


def live_config(max_steps: int, changes: dict[str, object] | None = None) -> RunConfig:
    """A run on a generated text that takes all cores and evaluates every few seconds, as the
    presets do."""
    given: dict[str, object] = {
        "training.max_steps": max_steps, "evaluation.every": 1_000, "checkpoint.every": 1_000,
    }  # fmt: skip
    return parse_config(merge(preset("elman"), {**given, **(changes or {})}))


def compiled() -> dict[str, str]:
    """An environment in which the app is compiled as an installed one is, beside the home and not
    into the checkout."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(home().parent / "compiled")}


@contextmanager
def opened_app(name: str | None, size: tuple[int, int] = (COLUMNS, ROWS)) -> Iterator[Terminal]:
    """The app on a run, or where it opens without one."""
    command = [sys.executable, "-m", "rnnlm_tui", *(["open", name] if name else [])]
    with Terminal(command, columns=size[0], rows=size[1], environment=compiled()) as terminal:
        yield terminal


def painted(
    terminal: Terminal, began: float, wait: Callable[[Terminal], None] | None = None
) -> FirstPaint:
    """Wait for the first picture with a curve, or with whatever `wait` waits for."""
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
    """Another home, beside the one that RNNLM_TUI_HOME names."""
    before = os.environ["RNNLM_TUI_HOME"]
    os.environ["RNNLM_TUI_HOME"] = str(home().parent / f"{home().name}-{name}")
    try:
        yield
    finally:
        os.environ["RNNLM_TUI_HOME"] = before


def measure_list(runs: int, moves: int) -> ListCosts:
    """A list of so many runs of a few lengths, which an earlier process has read."""
    with home_below("list"):
        build_many(runs, 3_000)
        verb = [sys.executable, "-m", "rnnlm_tui", "runs"]
        times = []
        for _ in range(4):  # the first one compiles and reads the runs
            began = monotonic()
            subprocess.run(
                verb, env={**os.environ, **compiled()}, stdout=subprocess.DEVNULL, check=True
            )
            times.append(1e3 * (monotonic() - began))

        def wait_for_list(terminal: Terminal) -> None:
            terminal.wait_for(f"{runs:,} runs", PATIENCE)

        with opened_app(None) as terminal:  # compiles
            wait_for_list(terminal)
        began = monotonic()
        with opened_app(None) as terminal:
            paint = painted(terminal, began, wait_for_list)
            settle(terminal)
            read_until_still(terminal)
            found = []
            for index in range(moves + 1):  # the first one draws the small chart for the first time
                size = terminal.received
                reaction = react(terminal, "jk"[index % 2])
                read_until_still(terminal, LIST_STILL_SECONDS)
                found.append(Reaction(reaction.first, reaction.last, terminal.received - size))
        return ListCosts(runs, statistics.median(times[1:]), paint, tuple(found[1:]))


def wait_for_charts(terminal: Terminal) -> None:
    """Until a chart of the train pane has a curve."""
    terminal.wait_for(
        lambda: "Perplexity" in terminal.text and DRAWN.search(terminal.text) is not None, PATIENCE
    )


def read_until_still(terminal: Terminal, seconds: float = STILL_SECONDS) -> None:
    """Until nothing has come for so long, or the picture never stands still, as that of a run that
    trains."""
    deadline = monotonic() + 4 * seconds
    while terminal.read(seconds) and monotonic() < deadline:
        pass


def read_for(terminal: Terminal, seconds: float) -> None:
    """Whatever comes within so many seconds."""
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        terminal.read(left)


def settle(terminal: Terminal) -> None:
    """Until the app's sampler has loaded everything: it is another process, and computes when the
    app starts."""
    deadline, used = monotonic() + PATIENCE, -1.0
    while monotonic() < deadline:
        now = sum(sum(child.cpu_times()[:2]) for child in psutil.Process(terminal.pid).children())
        if now == used:
            return
        used = now
        read_for(terminal, SETTLED_SECONDS)


def react(terminal: Terminal, key: str) -> Reaction:
    """Type a key; what comes back."""
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
    """So many keys, at moments that have nothing to do with the app's own."""
    draw, found = random.Random(7), []
    react(terminal, "\x1b[D")  # puts the cursor on the newest step
    read_until_still(terminal)
    for index in range(count):
        read_for(terminal, draw.uniform(0.05, 0.45))
        found.append(react(terminal, KEYS[index % len(KEYS)]))
    react(terminal, "\x1b")
    return tuple(found)


def watch(terminal: Terminal, seconds: float) -> Watched:
    """Look on for so long."""
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
    """Seconds that the worst byte waits where a link carries `LINK` bytes a second and keeps the
    rest."""
    free, worst = 0.0, 0.0
    for at, size in arrivals:
        free = max(free, at) + size / LINK
        worst = max(worst, free - at)
    return worst


def open_from_list(terminal: Terminal) -> float:
    """Leave the run for the list and another one in it, and open it again; milliseconds until its
    charts are drawn."""
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
    """Zoom until 1,000 steps are left: the last key."""
    read_until_still(terminal)
    shown, reaction = float(steps), None
    while shown > 1_000:
        reaction = react(terminal, "\x1b[A")
        read_until_still(terminal, 0.4)
        shown /= 2
    assert reaction is not None
    return reaction


def ages_of(terminal: Terminal, run: RunDirectory, seconds: float, most: int) -> list[float]:
    """Seconds since the step that the app shows was made, looked at twenty times a second; `most`
    bytes are read at each look."""
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
    """Sleep to that moment of the monotonic clock."""
    sleep(max(0.0, moment - monotonic()))


def measure(
    steps: int, seconds: float, keys: int, tell: Callable[[str], object], runs: int = 300
) -> Costs:
    """Everything, in the home that RNNLM_TUI_HOME names and one beside it."""
    tell(f"a list of {runs:,} runs")
    listed = measure_list(runs, keys // 3)
    tell(f"building a run of {steps:,} steps")
    build(OTHER, 2_000)
    stored = build(STORED, steps)
    with opened_app(OTHER) as terminal:  # compiles
        wait_for_charts(terminal)
        settle(terminal)
    began = monotonic()
    with opened_app(stored.name) as terminal:
        paint = painted(terminal, began)
        settle(terminal)
        read_until_still(terminal)
        tell("nothing happens")
        idle = watch(terminal, seconds)
        tell("keys, cores free")
        free = react_to_keys(terminal, keys)
        opened = statistics.median(open_from_list(terminal) for _ in range(3))
        zoomed = zoom_in(terminal, steps)
    tell("the same at 80×24")
    began = monotonic()
    with opened_app(stored.name, NARROW) as terminal:
        narrow_paint = painted(terminal, began)
        settle(terminal)
        read_until_still(terminal)
        narrow_keys = react_to_keys(terminal, keys)
    tell("a run trains on all cores")
    run = start(live_config(20_000), LIVE)
    try:
        wait_for_step(run, 300)
        began = monotonic()
        with opened_app(run.name) as terminal:
            live_paint = painted(terminal, began)
            settle(terminal)
            live = watch(terminal, seconds)
            tell("its keys")
            live_keys = react_to_keys(terminal, keys)
            tell("behind a slow reader")
            fast, slow = list[float](), list[float]()
            for _ in range(TURNS):
                fast += ages_of(terminal, run, seconds / TURNS, 65_536)
                slow += ages_of(terminal, run, seconds / TURNS, int(LINK * LOOK_SECONDS))
        with opened_app(stored.name) as terminal:
            wait_for_charts(terminal)
            settle(terminal)
            tell("keys of the stored run beside it")
            busy = react_to_keys(terminal, keys)
    finally:
        end(run)
    return Costs(
        listed,
        narrow_paint,
        narrow_keys,
        steps,
        paint,
        idle,
        opened,
        zoomed,
        free,
        live_paint,
        live,
        live_keys,
        busy,
        (statistics.median(fast), statistics.median(slow)),
    )


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of them does not pass."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def p95(reactions: tuple[Reaction, ...]) -> float:
    """Milliseconds to the first byte that 95 of 100 keys don't pass."""
    return percentile([reaction.first for reaction in reactions], 0.95)


def report(costs: Costs) -> str:
    """The figures beside their budgets."""

    def keys(reactions: tuple[Reaction, ...]) -> str:
        firsts, lasts = [one.first for one in reactions], [one.last for one in reactions]
        size = statistics.median(one.size for one in reactions)
        return (
            f"{statistics.median(firsts):.0f} / {p95(reactions):.0f} ms  (whole picture"
            f" {percentile(lasts, 0.95):.0f} ms, {size:,.0f} bytes)"
        )

    def paint(first: FirstPaint) -> str:
        return (
            f"{first.first:.0f} ms to the first byte, {first.usable:.0f} ms whole"
            f" ({first.processor:.0f} ms of processor), {first.size / 1024:.1f} KiB"
        )

    rows = [
        (f"list of {costs.listed.runs:,} finished runs", "", ""),
        ("  `rnnlm-tui runs`", f"{costs.listed.verb:.0f} ms", "400 ms"),
        ("  first paint", paint(costs.listed.paint), "500 ms"),
        ("  cursor move to first byte, p50 / p95", keys(costs.listed.moves), "20 ms, 3,000 bytes"),
        (f"stored run, {costs.steps:,} steps", "", ""),
        ("  first paint", paint(costs.paint), "300 ms, 32 KiB"),
        ("  first paint at 80×24", paint(costs.narrow_paint), "300 ms"),
        ("  from the list to its charts", f"{costs.opened:.0f} ms", "300 ms"),
        (
            "  zoom to 1,000 steps",
            (
                f"{costs.zoomed.first:.0f} ms to the first byte, {costs.zoomed.last:.0f} ms to the"
                " last"
            ),
            "50 ms",
        ),
        (
            "  nothing happens",
            f"{costs.idle.rate:.0f} B/s, {costs.idle.processor:.1f} % of a core",
            "0 B/s",
        ),
        ("  key to first byte, p50 / p95, cores free", keys(costs.keys), "16 ms"),
        ("  the same at 80×24", keys(costs.narrow_keys), "16 ms"),
        ("  the same while another run trains", keys(costs.busy_keys), "30 ms"),
        ("run that trains on all cores", "", ""),
        ("  first paint", paint(costs.live_paint), "500 ms, 32 KiB"),
        (
            "  dashboard",
            f"{costs.live.rate:,.0f} B/s, {costs.live.processor:.1f} % of a core",
            "2,048 B/s, 3 %",
        ),
        ("  key to first byte, p50 / p95", keys(costs.live_keys), "30 ms"),
        (
            "  a picture on a link of 32 KiB/s comes late by",
            f"{costs.live.behind:.2f} s at most",
            "0.5 s",
        ),
        (
            "  age of the step shown, read at once and at 32 KiB/s",
            f"{costs.ages[0]:.2f} s, {costs.ages[1]:.2f} s: {costs.behind:+.2f} s",
            "+0.5 s",
        ),
    ]
    return "\n".join(f"{name:54}{value:66}{budget}".rstrip() for name, value, budget in rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of each time that is looked on"
    )
    parser.add_argument("--keys", type=int, default=60, help="of each kind")
    parser.add_argument("--runs", type=int, default=300, help="of the list")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the stored run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="terminal-cost-") as folder:
        os.environ["RNNLM_TUI_HOME"] = str(Path(folder, "home"))
        costs = measure(
            given.steps,
            given.seconds,
            given.keys,
            lambda text: print(f"… {text}", file=sys.stderr, flush=True),  # noqa: T201
            given.runs,
        )
    print(report(costs))  # noqa: T201


if __name__ == "__main__":
    main()
