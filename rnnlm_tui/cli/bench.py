"""The verb `bench`: measure training and sampling speed against baselines and hardware limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rnnlm_tui.cli.options import SetOption, complete_preset, opt
from rnnlm_tui.cli.output import Answer, facts, line, note, table
from rnnlm_tui.schema.formatting import counted, disk, duration, memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnlm_tui.bench.report import (
        BenchReport,
        ProcessFigures,
        SamplingFigures,
        Spread,
        TrainingFigures,
    )


def bench(
    preset: str = opt(
        "--preset NAME", "The model and data to measure: {presets}.", "book", complete_preset
    ),
    seconds: float = opt("--seconds S", "Seconds to measure each implementation.", 20.0),
    device: str = opt("--device NAME", "auto, cpu, cuda, cuda:1 or mps.", "auto"),
    only: Literal["training", "sampling"] | None = opt(
        "--only training|sampling", "Measure only this.", None
    ),
    processes: str | None = opt(
        "--processes N,…", "Measure only training by so many processes, such as 1,2,4.", None
    ),
    assignments: SetOption = None,
) -> Answer:
    """Measure how fast this machine trains and samples.

    The textbook's loop, torch's own layers and the engine train on the same text from the same
    weights, each in its own process. They take turns of one or two seconds, so that other load on
    the machine affects all of them alike.

    --processes measures how much faster several processes train that share each batch, and what
    share of the time adding up their gradients takes.
    """
    from rnnlm_tui.bench.runner import BenchOptions, bench_config, process_counts, run_bench

    options = BenchOptions(
        bench_config(preset, device, assignments or ()),
        seconds=seconds,
        only=only,
        processes=process_counts(processes),
    )
    report = run_bench(options, note)
    return Answer(report, lambda: print_report(report))


TRAINING: dict[str, Callable[[TrainingFigures], str]] = {
    "training": lambda row: row.name,
    "numbers": lambda row: row.numbers,
    ">tokens/s": lambda row: f"{row.tokens_per_second.median:,.0f}",
    ">× naive": lambda row: f"{row.ratio.median:.2f}",
    ">quartiles": lambda row: _between(row.ratio),
    ">× torch's": lambda row: f"{row.ratio_to_library.median:.2f}" if row.ratio_to_library else "",
    ">memory": lambda row: memory(row.peak_bytes),
    ">of naive": lambda row: _share(row.peak_share),
    ">per epoch": lambda row: "" if row.epoch_seconds is None else duration(row.epoch_seconds),
}
"""The columns of the table of training."""

SAMPLING: dict[str, Callable[[SamplingFigures], str]] = {
    "sampling {tokens} tokens": lambda row: row.name,
    ">tokens/s": lambda row: f"{row.tokens_per_second.median:,.0f}",
    ">× naive": lambda row: f"{row.ratio.median:.1f}",
    ">quartiles": lambda row: _between(row.ratio),
    ">first token": lambda row: f"{1000 * row.first_token_seconds:.1f} ms",
    "same tokens": lambda row: {True: "yes", False: "no", None: ""}[row.same_tokens],
}
"""The columns of the table of sampling."""


PROCESSES: dict[str, Callable[[ProcessFigures], str]] = {
    "training by": lambda row: row.name,
    ">threads each": lambda row: f"{row.threads}",
    ">tokens/s": lambda row: f"{row.tokens_per_second.median:,.0f}",
    ">× one": lambda row: f"{row.ratio.median:.2f}",
    ">quartiles": lambda row: _between(row.ratio),
    ">efficiency": lambda row: _share(row.efficiency),
    ">communication": lambda row: _share(row.communication.median) if row.communication else "",
    ">gradients": lambda row: disk(row.gradient_bytes) if row.communication else "",
    ">each sends": lambda row: f"{disk(row.sent_bytes)}/step" if row.communication else "",
}
"""The columns of the table of processes."""


def print_report(report: BenchReport) -> None:
    """Print the report as plain tables."""
    from rnnlm_tui.bench.report import SAMPLED_TOKENS

    data = report.data
    text = f"{data.title}, {data.tokenizer} tokens, {counted(data.vocab_size, 'type')} in the model"
    rounds = "in turns; medians, and ratios within the same round"
    facts(
        [
            ("device", f"{report.device}, torch {report.torch}"),
            ("text", f"{text}; {_share(data.used)} of the positions are used"),
            ("measured", f"{report.seconds:g} s each, {rounds}"),
        ]
    )
    if report.training:
        line()
        rows = [[cell(row) for cell in TRAINING.values()] for row in report.training]
        table(tuple(TRAINING), rows)
    if report.sampling:
        line()
        heads = [head.format(tokens=SAMPLED_TOKENS) for head in SAMPLING]
        drawn = [[cell(row) for cell in SAMPLING.values()] for row in report.sampling]
        table(heads, drawn)
    if report.processes:
        line()
        shared = [[cell(row) for cell in PROCESSES.values()] for row in report.processes]
        table(tuple(PROCESSES), shared)
    if report.notes:
        line()
    for remark in report.notes:
        line(remark)


def _between(spread: Spread) -> str:
    return f"{spread.low:.2f}–{spread.high:.2f}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 0.095 else f"{share:.0%}"
