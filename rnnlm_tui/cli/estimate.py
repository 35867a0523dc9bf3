"""The verbs `estimate` and `tune`: compute what a run needs, or find a learning rate."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.cli.config import allow_datasets, resolve
from rnnlm_tui.cli.options import (
    ConfigOptions,
    TextArgument,
    TrustOption,
    flag,
    opt,
    with_text,
)
from rnnlm_tui.cli.output import Answer, ProgressLine, clipped, columns, facts, line, warn
from rnnlm_tui.errors import ConfigError, CorpusError, RnnlmError
from rnnlm_tui.schema.estimates import sent_bytes
from rnnlm_tui.schema.formatting import counted, disk, duration, figure, flops, percent, short

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import Preview
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.protocol import Calibration, TaskProgress
    from rnnlm_tui.schema.tuning import RangeDone

SHOWN_LINES, SHOWN_CELLS = 5, 64
"""Number and width of the lines shown from the start of the text."""

FIGURES = (
    *("vocabulary_share", "tokens_seen", "tokens_per_parameter", "unique_tokens_per_parameter"),
    *("steps_per_epoch", "steps", "step_flops", "run_flops", "memory_bytes", "memory_measured"),
    *("memory_free", "checkpoint_bytes", "disk_bytes", "seconds", "evaluation_seconds"),
    *("processes", "rows_at_once", "gradient_bytes", "calibrated_by", "calibrated_run"),
    *("start_loss", "baseline_perplexity", "notes"),
)
"""The fields of an Estimate that JSON has under the same name."""


def estimate(
    text: TextArgument = None,
    options: ConfigOptions = ConfigOptions(),
    probe: bool = flag(
        "--probe", "Prepare the text and measure 20 training steps; creates no run."
    ),
    trust_dataset: TrustOption = False,
) -> Answer:
    """Estimate a run's parameters, steps, memory, disk and time.

    Without --probe, nothing is measured. Steps are counted in a prepared corpus, or in a text of up
    to 8 MB for a tokenizer that needn't be learned.
    """
    from rnnlm_tui.client.pretrained import check_tokenizer

    options = with_text(options, text)
    wanted = resolve(options).config
    client.gpus.check_device(wanted.training.device)
    check_tokenizer(wanted.tokenizer)
    client.gpus.check_precision(wanted.training)
    if probe:
        allow_datasets(wanted.corpus, options.set_, trust=trust_dataset)
    measured = _measure(wanted) if probe else None
    found, text_start = client.estimate.estimate(wanted), _preview(wanted)
    if found.problems:
        raise ConfigError(found.problems)
    lines = [*_estimate_lines(wanted, found, measured), *_first_lines(text_start)]
    return Answer(estimate_json(wanted, found, measured, text_start), lambda: facts(lines))


def estimate_json(
    config: RunConfig,
    found: Estimate,
    measured: Calibration | None = None,
    text_start: Preview | None = None,
) -> dict[str, object]:
    """Return the JSON output of `estimate`; unknown values are null, `parameters` is the total.

    `memory_bytes` is the peak: the sum of process, corpus, weights, moments, buckets and saving
    (the copy for checkpoints) in `memory_parts`, and the larger of a step (activations with head or
    gradients) and an evaluation. If `memory_measured`, a probe measured all but saving. On CPUs all
    but saving counts for each process.
    """
    text, layout, first_lines, probe = found.text, None, None, None
    if text_start is not None:
        layout = text_start.layout
        first_lines = {"tokens": text_start.exact, "pieces": text_start.lines}
    if measured is not None:
        probe = measured.model_dump(mode="json", exclude={"shape"})
        probe["estimated_memory_bytes"] = found.memory.training
    return {
        "preset": config.preset,
        "parameters": found.parameters.total,
        "parameters_by_part": found.parameters,
        "vocab_size": text.vocab_size,
        "vocab_exact": text.vocab_exact,
        "train_tokens": text.tokens,
        "train_sentences": text.sentences,
        "text_known": text.known,
        **{name: getattr(found, name) for name in FIGURES},
        "memory_parts": found.memory,
        "fitting_batch": found.largest_fitting_batch,
        "layout": layout,
        "first_lines": first_lines,
        "warnings": _warnings(config, found),
        "probe": probe,
    }


def _measure(config: RunConfig) -> Calibration:
    known = client.gpus.unused_gpu_warning(config.training.device)  # the estimate has it
    with ProgressLine() as progress:
        return client.start.run_probe(
            config,
            lambda at: progress(_probe_text(at)),
            warn=lambda words: None if known else warn(words),
        )


def _probe_text(at: TaskProgress) -> str:
    if at.phase in ("warm-up", "steps"):
        name = "warming up" if at.phase == "warm-up" else "measuring"
        return f"{name}: {at.done} of {counted(at.total, 'step')}"
    share = f" {percent(at.done / at.total)}" if at.total else ""
    return f"preparing the text: {at.phase}{share}"


def _estimate_lines(
    config: RunConfig, found: Estimate, measured: Calibration | None
) -> list[tuple[str, str]]:
    count, text = found.parameters, found.text
    layers = " + ".join(f"{layer:,}" for layer in count.layers)
    parts = f"embedding {count.embedding:,}, layers {layers}, output {count.output:,}"
    vocabulary = f"{text.vocab_size:,}{'' if text.vocab_exact else ' at most, depends on the text'}"
    tokens = steps = time = "known after the first start, which prepares the corpus"
    per_parameter = speed = shared = baseline = ""
    how = " (counted)" if text.known == "counted" else ""
    if text.tokens is not None:
        tokens = f"{text.tokens:,} for training{how}"
    elif text.sentences is not None:
        tokens = f"of {counted(text.sentences, 'sentence')} for training{how}"
    if found.tokens_per_parameter is not None:
        per_parameter = f"{figure(found.tokens_per_parameter)} tokens"
        if found.unique_tokens_per_parameter is not None:
            per_parameter += f", {figure(found.unique_tokens_per_parameter)} of them different"
    if found.steps is not None:
        per_epoch = f", {found.steps_per_epoch:,} per epoch" if found.steps_per_epoch else ""
        steps = f"{found.steps:,}{per_epoch}"
        time = "known after a run of similar size on this machine, or with --probe"
    if found.seconds is not None:
        time = f"≈ {duration(found.seconds)}, at the speed of {found.calibrated_run or 'the probe'}"
        if found.evaluation_seconds:
            time += f", and {duration(found.evaluation_seconds)} for evaluations"
        if found.processes > 1:
            times = f"{found.speedup:,} times " if found.speedup > 1 else ""
            time += f", if {found.processes:,} processes are {times}as fast as one"
    if found.processes > 1:
        sent = sent_bytes(found.gradient_bytes, found.processes)
        shared = (
            f"{found.processes:,}, each with {counted(found.rows_at_once, 'row')} of a batch at"
            f" once; it sends {disk(sent)} per step to add up"
            f" {disk(found.gradient_bytes)} of gradients"
        )
    if measured is not None:
        speed = (
            f"{short(measured.tokens_per_second)} tokens/s,"
            f" {figure(measured.step_seconds)} s per step,"
            f" measured over {counted(measured.steps, 'step')} on {measured.device_name}"
        )
    if found.baseline_perplexity is not None:
        name = config.evaluation.baseline_name
        baseline = f"{name} model, perplexity {figure(found.baseline_perplexity)}"
    start = f"loss {figure(found.start_loss, 2)}, perplexity {text.vocab_size:,}"
    return [
        ("preset", config.preset),
        ("parameters", f"{count.total:,}  ({parts})"),
        ("vocabulary", f"{vocabulary}, {percent(found.vocabulary_share)} of the parameters"),
        ("tokens", tokens),
        ("per parameter", per_parameter),
        ("steps", steps),
        ("work", _work(found)),
        ("time", time),
        ("speed", speed),
        ("processes", shared),
        ("memory", _memory_text(found)),
        ("disk", f"{disk(found.disk_bytes)}, {disk(found.checkpoint_bytes)} per checkpoint"),
        ("at the start", start),
        ("to beat", baseline),
        *(("" if number else "text", remark) for number, remark in enumerate(found.notes)),
        *(("warning", words) for words in _warnings(config, found)),
    ]


def _work(found: Estimate) -> str:
    """Floating-point operations of a step and of the run."""
    step = f"{flops(found.step_flops)} per step"
    return step if found.run_flops is None else f"{step}, {flops(found.run_flops)} for the run"


def _preview(config: RunConfig) -> Preview | None:
    try:
        return client.corpora.preview(config)
    except CorpusError:  # `train` reports the problem
        return None


def _first_lines(text_start: Preview | None) -> list[tuple[str, str]]:
    """Return the layout of the text and its first lines, with visible white space."""
    if text_start is None:
        return []
    visible = client.corpora.visible
    separator = "" if all(len(piece) == 1 for line in text_start.lines for piece in line) else "|"
    rows = [separator.join(map(visible, line)) for line in text_start.lines[:SHOWN_LINES]]
    lines = [clipped(row, SHOWN_CELLS) for row in rows]
    name = "first tokens" if text_start.exact else "first words"
    return [
        ("layout", ": ".join(filter(None, (text_start.layout, text_start.reason)))),
        *(("" if number else name, line) for number, line in enumerate(lines)),
    ]


def _memory_text(found: Estimate) -> str:
    parts = found.memory
    during = {"evaluation": parts.evaluation}
    if parts.step >= parts.evaluation:
        name = "head" if parts.head > parts.gradients else "gradients"
        during = {"activations": parts.activations, name: max(parts.head, parts.gradients)}
    named = {
        "process": parts.process,
        "corpus": parts.corpus,
        "weights": parts.weights,
        "optimizer": parts.moments,
        "gradients kept": parts.buckets,
        **during,
        "copy for checkpoints": parts.saving,
    }
    details = ", ".join(f"{name} {_mebibytes(size)}" for name, size in named.items() if size)
    total = _mebibytes(parts.total)
    if found.processes > 1:
        each = "each GPU" if found.speedup > 1 else "all processes"
        return f"{_mebibytes(found.memory_bytes)} peak of {each} (of a process: {details})"
    if found.memory_measured:
        return f"{_mebibytes(found.memory_bytes)} measured, {total} estimated ({details})"
    return f"{total} peak ({details})"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size >= 2**20 else f"{size / 2**10:,.0f} KiB"


def _warnings(config: RunConfig, found: Estimate) -> list[str]:
    from rnnlm_tui.schema.estimates import warmup_note

    every = (
        client.gpus.unused_gpu_warning(config.training.device),
        client.gpus.shared_gpu_warning(config),
        client.gpus.slow_cell_warning(config),
        client.estimate.memory_warning(found),
        warmup_note(config, found.steps),
    )
    return [words for words in every if words]


def tune(
    text: TextArgument = None,
    options: ConfigOptions = ConfigOptions(),
    from_: float | None = opt("--from RATE", "First rate (default: 1e-5; SGD: 1e-3).", None),
    to: float | None = opt("--to RATE", "Last rate (default: 1; SGD: 100).", None),
    steps: int = opt("--steps N", "Training steps from the first rate to the last.", 100),
    trust_dataset: TrustOption = False,
) -> Answer:
    """Find a learning rate by a short test that leaves no run.

    The rate grows by a constant factor each step, until the loss diverges.
    """
    from rnnlm_tui.schema.tuning import RangeDone, range_request

    options = with_text(options, text)
    config = resolve(options).config
    request = range_request(config, from_, to, steps)
    allow_datasets(config.corpus, options.set_, trust=trust_dataset)
    warn(client.gpus.unused_gpu_warning(config.training.device))
    with ProgressLine() as progress:
        found = client.start.probe(request, RangeDone, lambda at: progress(_probe_text(at)))
    if found.suggestion is None:
        missing = RnnlmError("no learning rate can be suggested: see the reason above")
        return Answer(found, lambda: _print_range(found), failure=missing)
    named = {"--preset": options.preset, "--config": options.config}
    words = [f"{name}={value}" for name, value in named.items() if value is not None]
    rate = f"optimizer.learning_rate={found.suggestion:g}"
    words += [f"--set={assignment}" for assignment in (*(options.set_ or ()), rate)]
    remark = f"`rnnlm-tui train {shlex.join(words)}` trains with it"
    return Answer(found, lambda: _print_range(found), remark)


def _print_range(found: RangeDone) -> None:
    """Print the app's chart without colours, the rates below it, and the reason."""
    from rnnlm_tui.tui.terminal import terminal_kind
    from rnnlm_tui.tui.views.charts import range_chart
    from rnnlm_tui.tui.widgets.chart.plot import PlotOptions, draw
    from rnnlm_tui.tui.widgets.chart.scale import x_ticks

    if len(found.losses) < 2:
        line(found.reason)
        return
    data, width = range_chart(found), columns(sys.stdout) or 80
    start, *_, end = data.series[0].x
    dots = terminal_kind(os.environ, sys.stdout.encoding).braille
    look = PlotOptions(start, end, end - start, False, 0, False, "braille" if dots else "ascii")
    plot = draw(data, look, width, 16)
    axis = ""
    for rate, label in x_ticks(start, end, width - plot.gutter, "power"):
        axis = axis.ljust(min(plot.gutter + plot.cell_of(rate), width - len(label))) + label
    for row in range(plot.height):
        line("".join(segment.text for segment in plot.row(row)).rstrip(), wrap=False)
    line(axis, wrap=False)
    line(found.reason)
