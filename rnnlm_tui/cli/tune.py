"""The verb `tune`: find a learning rate by a range test."""

from __future__ import annotations

import os
import shlex
import sys
from math import log10
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.cli.config import allow_datasets, resolve
from rnnlm_tui.cli.estimate import probe_text
from rnnlm_tui.cli.options import ConfigOptions, TextArgument, TrustOption, opt, with_text
from rnnlm_tui.cli.output import Answer, ProgressLine, columns, line, warn
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.formatting import counted, scientific
from rnnlm_tui.schema.rules import RATE

if TYPE_CHECKING:
    from rnnlm_tui.schema.tuning import RangeDone

WIDTH, HEIGHT = 80, 16
"""Cells of the chart; a terminal may be narrower or wider."""


def tune(
    text: TextArgument = None,
    options: ConfigOptions = ConfigOptions(),
    from_: float | None = opt("--from RATE", "First rate (default: 1e-5; SGD: 1e-3).", None),
    to: float | None = opt("--to RATE", "Last rate (default: 1; SGD: 100).", None),
    steps: int = opt("--steps N", "Training steps from the first rate to the last.", 100),
    trust_dataset: TrustOption = False,
) -> Answer:
    """Find a learning rate: train while it grows, and see where the loss falls.

    The rate grows by a constant factor each step until the loss diverges. The weights are the
    initial ones, and no run is created.
    """
    from rnnlm_tui.schema.tuning import range_request

    wanted = with_text(options, text)
    config = resolve(wanted).config
    request = range_request(config, from_, to, steps)
    client.gpus.check_device(config.training.device)
    allow_datasets(config.corpus, wanted.set_, trust=trust_dataset)
    warn(client.gpus.unused_gpu_warning(config.training.device))
    with ProgressLine() as progress:
        found = client.start.run_range_test(request, lambda at: progress(probe_text(at)))
    assert found is not None  # it was not cancelled
    failure = None if found.suggestion else RnnlmError(found.reason, hint=found.hint)

    def shown() -> None:
        _print_chart(found)
        if failure is None:
            line(found.reason)

    remark = f"`{_command(options, text, found.suggestion)}` trains with it"
    return Answer(found, shown, remark if failure is None else "", failure)


def _command(options: ConfigOptions, text: str | None, rate: float | None) -> str:
    """The command that trains the config with this peak."""
    words = ["rnnlm-tui", "train", *([text] if text is not None else [])]
    if options.preset is not None:
        words += ["--preset", options.preset]
    if options.config is not None:
        words += ["--config", str(options.config)]
    kept = [one for one in options.set_ or () if not one.startswith(f"{RATE}=")]
    for assignment in (*kept, f"{RATE}={scientific(rate)}"):
        words += ["--set", assignment]
    return shlex.join(words)


def _print_chart(found: RangeDone) -> None:
    """Print the app's chart without colours, and a line of rates below it."""
    from rnnlm_tui.tui.terminal import terminal_kind
    from rnnlm_tui.tui.views.tuning import range_chart
    from rnnlm_tui.tui.widgets.chart.plot import PlotOptions, draw
    from rnnlm_tui.tui.widgets.chart.scale import x_ticks

    width, data = columns(sys.stdout) or WIDTH, range_chart(found)
    start, end = log10(found.rates[0]), log10(found.rates[-1])
    braille = terminal_kind(os.environ, sys.stdout.encoding).braille
    marks = "braille" if braille else "ascii"
    look = PlotOptions(start, end, end - start, False, 0.0, False, marks)
    plot = draw(data, look, width, HEIGHT)
    line(f"loss by learning rate, {counted(len(found.rates), 'step')}")
    for row in range(HEIGHT):
        line("".join(segment.text for segment in plot.row(row)).rstrip(), wrap=False)
    axis = [" "] * width
    for rate, label in x_ticks(start, end, width - plot.gutter, data.x_format):
        at = min(plot.gutter + plot.cell_of(rate), width - len(label))
        axis[at : at + len(label)] = label
    line("".join(axis).rstrip(), wrap=False)
