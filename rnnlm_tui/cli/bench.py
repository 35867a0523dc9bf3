"""The verb `bench`: measure training and sampling speed against baselines and hardware limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from rnnlm_tui.cli.options import JsonOption, SetOption, complete_preset, opt
from rnnlm_tui.cli.output import facts, line, note, print_json, table
from rnnlm_tui.schema.formatting import counted, duration, memory

if TYPE_CHECKING:
    from rnnlm_tui.bench.report import BenchReport, Spread


def bench(
    preset: Annotated[
        str, opt("--preset NAME", "The model and data to measure: {presets}.", complete_preset)
    ] = "book",
    seconds: Annotated[float, opt("--seconds S", "Seconds to measure each implementation.")] = 20.0,
    device: Annotated[str, opt("--device NAME", "auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    only: Annotated[
        Literal["training", "sampling"] | None,
        opt("--only training|sampling", "Measure only this."),
    ] = None,
    assignments: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Measure how fast this machine trains and samples.

    The textbook's loop, torch's own layers and the engine train on the same text from the same
    weights, each in its own process. They take turns of one or two seconds, so that other load on
    the machine affects all of them alike.
    """
    from rnnlm_tui.bench.runner import BenchOptions, bench_config, run_bench

    options = BenchOptions(
        bench_config(preset, device, assignments or ()), seconds=seconds, only=only
    )
    report = run_bench(options, note)
    if json:
        print_json(report)
    else:
        print_report(report)


def print_report(report: BenchReport) -> None:
    """Print the report as plain tables."""
    from rnnlm_tui.bench.report import SAMPLED_TOKENS

    data = report.data
    facts(
        [
            ("device", f"{report.device}, torch {report.torch}"),
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
                "numbers",
                "tokens/s",
                "× naive",
                "quartiles",
                "× torch's",
                "memory",
                "of naive",
                "per epoch",
            ),
            [
                (
                    row.name,
                    row.numbers,
                    f"{row.tokens_per_second.median:,.0f}",
                    f"{row.ratio.median:.2f}",
                    _between(row.ratio),
                    "" if row.ratio_to_library is None else f"{row.ratio_to_library.median:.2f}",
                    memory(row.peak_bytes),
                    _share(row.peak_share),
                    "" if row.epoch_seconds is None else duration(row.epoch_seconds),
                )
                for row in report.training
            ],
            right=range(2, 9),
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
                "same tokens",
            ),
            [
                (
                    row.name,
                    f"{row.tokens_per_second.median:,.0f}",
                    f"{row.ratio.median:.1f}",
                    _between(row.ratio),
                    f"{1000 * row.first_token_seconds:.1f} ms",
                    "" if row.same_tokens is None else "yes" if row.same_tokens else "no",
                )
                for row in report.sampling
            ],
            right=range(1, 5),
        )
    if report.notes:
        line()
    for remark in report.notes:
        line(remark)


def _between(spread: Spread) -> str:
    return f"{spread.low:.2f}–{spread.high:.2f}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 0.095 else f"{share:.0%}"
