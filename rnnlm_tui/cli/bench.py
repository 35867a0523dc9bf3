"""The verb `bench`: measure training and sampling speed against baselines and hardware limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnnlm_tui.cli.options import JsonOption, SetOption, complete_preset
from rnnlm_tui.cli.output import facts, line, note, print_json, table
from rnnlm_tui.schema.formatting import counted, duration, memory

if TYPE_CHECKING:
    from rnnlm_tui.bench.report import BenchReport, NeighbourFigures, Spread


def bench(
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="The model and data to measure: {presets}.",
            autocompletion=complete_preset,
        ),
    ] = "book",
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="S", help="Seconds to measure each implementation."),
    ] = 20.0,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")
    ] = "auto",
    only: Annotated[
        Literal["training", "sampling", "neighbour"] | None,
        typer.Option(
            "--only",
            metavar="training|sampling|neighbour",
            help="Measure only this.",
            show_default=False,
        ),
    ] = None,
    neighbour: Annotated[
        bool,
        typer.Option("--neighbour", help="Also train while another process keeps one core busy."),
    ] = False,
    assignments: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Measure how fast this machine trains and samples.

    The textbook's loop, torch's own layers and the engine train on the same text from the same
    weights, each in its own process. They take turns of one or two seconds, so that other load on
    the machine affects all of them alike.
    """
    from rnnlm_tui.bench.plan import bench_config
    from rnnlm_tui.bench.runner import BenchOptions, run_bench

    options = BenchOptions(
        bench_config(preset, device, assignments or ()),
        seconds=seconds,
        neighbour=neighbour,
        only=only,
    )
    report = run_bench(options, note)
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        print_report(report)


def print_report(report: BenchReport) -> None:
    """Print the report as plain tables."""
    from rnnlm_tui.bench.report import SAMPLED_TOKENS

    machine, data = report.machine, report.data
    limits = ", ".join(f"{numbers} {speed:,.0f}" for numbers, speed in machine.gflops.items())
    facts(
        [
            ("device", f"{machine.device}, torch {machine.torch}"),
            (
                "limits",
                (
                    f"matmul {limits} GFLOP/s; memory {machine.bandwidth / 1e9:,.1f} GB/s,"
                    f" {machine.bandwidth_one / 1e9:,.1f} with one thread"
                ),
            ),
            ("matmul auto", machine.auto),
            (
                "text",
                (
                    f"{data.title}, {data.tokenizer} tokens, {counted(data.vocab_size, 'type')} in"
                    f" the model; {_share(data.used)} of the positions are used"
                ),
            ),
            (
                "measured",
                f"{report.seconds:g} s each, in turns; medians, and ratios within the same round",
            ),
        ]
    )
    if report.training:
        line()
        table(
            (
                "training",
                "tokens/s",
                "× naive",
                "quartiles",
                "× torch's",
                "memory",
                "of naive",
                "GFLOP/s",
                "of limit",
                "per epoch",
            ),
            [
                (
                    row.name,
                    f"{row.tokens_per_second.median:,.0f}",
                    f"{row.ratio.median:.2f}",
                    _between(row.ratio),
                    "" if row.ratio_to_library is None else f"{row.ratio_to_library.median:.2f}",
                    memory(row.peak_bytes),
                    _share(row.peak_share),
                    f"{row.gflops:,.0f}",
                    _share(row.gemm_share),
                    "" if row.epoch_seconds is None else duration(row.epoch_seconds),
                )
                for row in report.training
            ],
            right=range(1, 10),
        )
    if report.sampling:
        line()
        table(
            (
                f"sampling {SAMPLED_TOKENS} tokens",
                "tokens/s",
                "× naive",
                "quartiles",
                "first token",
                "of bandwidth",
                "same tokens",
            ),
            [
                (
                    row.name,
                    f"{row.tokens_per_second.median:,.0f}",
                    f"{row.ratio.median:.1f}",
                    _between(row.ratio),
                    f"{1000 * row.first_token_seconds:.1f} ms",
                    _share(row.bandwidth_share),
                    "" if row.same_tokens is None else "yes" if row.same_tokens else "no",
                )
                for row in report.sampling
            ],
            right=range(1, 6),
        )
    if report.neighbour is not None:
        line()
        _print_neighbour(report.neighbour)
    if report.notes:
        line()
    for remark in report.notes:
        line(remark)


def _print_neighbour(found: NeighbourFigures) -> None:

    table(
        ("neighbour: tokens/s", "alone", "beside a busy process", "kept"),
        [
            (
                "torch's environment",
                f"{found.alone_default.median:,.0f}",
                f"{found.beside_default.median:,.0f}",
                _share(found.kept_default.median),
            ),
            (
                "a run's environment",
                f"{found.alone_ours.median:,.0f}",
                f"{found.beside_ours.median:,.0f}",
                _share(found.kept_ours.median),
            ),
        ],
        right=range(1, 4),
    )
    line(
        f"alone, a run's environment is {found.alone_ratio.median:.2f} times as fast as torch's"
        f" ({_between(found.alone_ratio)})"
    )


def _between(spread: Spread) -> str:
    return f"{spread.low:.2f}–{spread.high:.2f}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 0.095 else f"{share:.0%}"
