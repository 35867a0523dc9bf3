"""The processor time of drawing each chart of the train screen, at 500 steps and at a million,
whole and zoomed. `python -m tests.benchmarks.chart_cost [STEPS …]`."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from time import perf_counter, process_time

from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.tui.views.chart_data import AXES, Axis, ChartData
from rnnlm_tui.tui.views.charts import (
    busy_data,
    gradient_data,
    loss_data,
    memory_data,
    perplexity_data,
    speed_data,
)
from rnnlm_tui.tui.widgets.chart.plot import PlotOptions, PlotState, draw
from tests.fakes.long_run import build

Make = Callable[[RunSnapshot, Axis], ChartData]
CHARTS: dict[str, tuple[Make, int, int]] = {
    "perplexity": (perplexity_data, 92, 12),
    "loss": (loss_data, 28, 7),
    "tokens/s": (speed_data, 28, 7),
    "gradient": (gradient_data, 28, 7),
    "GPU": (busy_data, 28, 7),
    "memory": (memory_data, 28, 7),
}
"""Name → data, and the plot area in cells at 120×40."""
REPEATS = 30


def median_ms(work: Callable[[], object]) -> float:
    """The median processor time in milliseconds."""
    times = []
    for _ in range(REPEATS):
        start = process_time()
        work()
        times.append(1000 * (process_time() - start))
    return statistics.median(times)


def draw_chart(
    make: Make,
    snapshot: RunSnapshot,
    axis: Axis,
    part: tuple[float, float],
    width: int,
    height: int,
) -> None:
    """Draw a chart of this snapshot, from the data to the characters."""
    data = make(snapshot, axis)
    draw(
        data,
        PlotOptions(*part, data.x_end or part[1], data.log_y, 0.9, False, "braille"),
        width,
        height,
        PlotState(),
    )


def report(steps: int) -> list[str]:
    """The costs of one run, one chart per line."""
    run = build(f"steps-{steps}", steps)
    monitor = RunMonitor(run)
    start = perf_counter()
    snapshot = monitor.snapshot()
    lines = [
        f"{steps:,} steps: first look {1000 * (perf_counter() - start):.1f} ms,"
        f" {len(snapshot.series):,} buckets of {snapshot.series.width:,} steps"
    ]
    first, last = steps // 2, steps // 2 + min(1_000, steps // 4)
    monitor.look_at((first, last))
    start = perf_counter()
    closer = monitor.poll() or snapshot
    lines.append(f"  look at {last - first:,} steps {1000 * (perf_counter() - start):.1f} ms")
    monitor.close()
    for axis in AXES:
        for name, (make, width, height) in CHARTS.items():
            data = make(snapshot, axis)
            x = data.series[0].x
            start_x, span = x[0], x[-1] - x[0]
            near = (start_x + span * first / steps, start_x + span * last / steps)
            whole = median_ms(
                partial(draw_chart, make, snapshot, axis, (start_x, x[-1]), width, height)
            )
            zoomed = median_ms(partial(draw_chart, make, closer, axis, near, width, height))
            lines.append(
                f"  {name:<12} against {axis:<6} whole {whole:6.2f}   zoomed {zoomed:6.2f}  "
                f" {len(x):,} points"
            )
    return lines


def main() -> None:
    """Print the costs for each number of steps."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["RNNLM_TUI_HOME"] = home
        for steps in map(int, sys.argv[1:] or ("500", "1000000")):
            sys.stdout.write("\n".join(report(steps)) + "\n")


if __name__ == "__main__":
    main()
