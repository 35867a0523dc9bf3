"""Estimate a config's parameters, steps, memory, disk and time.

Steps are counted in the prepared corpus or in a small text, never guessed. The time is based on the
speed of earlier runs and probes on this machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from rnnlm_tui import __version__
from rnnlm_tui.client.gpus import (
    planned_gpu,
    planned_processes,
    process_problems,
    shared_gpu_warning,
    unused_gpu_warning,
)
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.corpus.count import changed_after, count_text
from rnnlm_tui.corpus.news import NEWS
from rnnlm_tui.errors import Problem, RnnlmError
from rnnlm_tui.schema.config import RunConfig, TokenizerKind
from rnnlm_tui.schema.corpora import EVALUATED, CorpusManifest
from rnnlm_tui.schema.estimates import (
    ParameterCount,
    checkpoint_bytes,
    config_flops_per_token,
    gradient_bytes,
    parameter_count,
    positions_per_step,
    rows_at_once,
    steps_per_epoch,
    total_steps,
)
from rnnlm_tui.schema.formatting import memory
from rnnlm_tui.schema.memory import (
    WORKER_BYTES,
    MemoryParts,
    largest_fitting_batch,
    memory_parts,
    memory_shape,
)
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.schema.protocol import Calibration, Fact
from rnnlm_tui.schema.reference import SENTENCES
from rnnlm_tui.schema.rules import text_problems
from rnnlm_tui.store.corpora import find_corpus, load_calibrations
from rnnlm_tui.store.paths import RunDirectory, corpora_dir
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.system.cuda import GpuProblem, gpu_problem, holder_words
from rnnlm_tui.system.locks import host_name
from rnnlm_tui.system.machine import Device, free_training_memory, planned_device, usable_cores

CALIBRATION_STEPS = 100
"""A run needs this many steps to be used as a speed reference."""
CALIBRATION_RUNS = 20
"""Number of newest runs that are considered."""
SIMILAR = 4.0
"""Largest ratio of work per step to a speed reference: small steps are mostly overhead."""
OTHER_CELL = 2.0
"""A reference with another cell type counts as this factor away."""
METRICS_BYTES_PER_STEP = 180
"""Measured size of a step in the log."""

COUNTABLE_TOKENIZERS: tuple[TokenizerKind, ...] = ("byte", "character", "word")
"""Tokenizers that needn't be learned to count their tokens."""


@dataclass(frozen=True, slots=True)
class TrainingText:
    """What is known of the training set before the start."""

    known: Literal["prepared", "counted", "known", "unknown"]
    """How its length is known: from its prepared corpus, counted in its files, published (news), or
    not before it is prepared."""
    manifest: CorpusManifest | None
    """The prepared corpus, unless its text changed since."""
    sentences: int | None
    tokens: int | None
    vocab_size: int
    vocab_exact: bool
    """False: an upper bound, the corpus may have fewer types."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requirements of a config; None if unknown before the corpus is prepared or a first run was
    measured."""

    text: TrainingText
    parameters: ParameterCount
    steps_per_epoch: int | None
    steps: int | None
    memory: MemoryParts
    """Of a process; computed, not measured."""
    memory_bytes: int
    """Peak memory of the training: of each GPU if it trains there, else of all processes."""
    memory_measured: bool
    """Whether `memory_bytes` was measured by a probe of the same shape."""
    memory_free: int | None
    """Free memory of the device; None if unknown."""
    largest_fitting_batch: int | None
    """The largest batch size that fits; None if the config's fits, or none does."""
    checkpoint_bytes: int
    """One checkpoint."""
    checkpoints: int
    """Number kept at the end."""
    disk_bytes: int
    """Checkpoints and metrics at the end."""
    seconds: float | None
    """Training time."""
    calibrated_by: Literal["run", "probe"] | None
    """Source of the speed behind `seconds`."""
    calibrated_run: str | None
    """Name of the run that `seconds` is based on, if it is one."""
    baseline_perplexity: float | None
    """The count model's, on the test set."""
    step_flops: float
    """Floating-point operations of a step, from `flops_per_token`."""
    processes: int = 1
    """Those that share each batch."""
    rows_at_once: int = 0
    """The most streams or sentences of a batch that each of them computes at once."""
    speedup: int = 1
    """How many times as fast as one of them `seconds` assumes them to be."""
    gradient_bytes: int = 0
    """What the processes add up in each step; 0 for one process."""
    evaluation_seconds: float | None = None
    """Time of all evaluations of the run, besides `seconds`."""
    tokens_seen: float | None = None
    """Training tokens of the whole run; each epoch counts its tokens again."""
    problems: tuple[Problem, ...] = ()
    """What doesn't fit the length of the text or this machine's GPUs, with adjustments."""
    notes: tuple[str, ...] = ()
    """Notes on the prepared text: lines cut, files left out, sentences in two splits."""
    unused_gpu: GpuProblem | None = None
    """Why the run would not train on this machine's GPU."""

    @property
    def start_loss(self) -> float:
        """ln V: the loss of a uniform prediction."""
        return math.log(self.text.vocab_size)

    @property
    def run_flops(self) -> float | None:
        """Floating-point operations of all training steps."""
        return None if self.steps is None else self.steps * self.step_flops

    @property
    def vocabulary_share(self) -> float:
        """Fraction of the parameters in the embedding and the output layer, which grow with the
        vocabulary."""
        count = self.parameters
        return (count.embedding + count.output) / count.total

    @property
    def tokens_per_parameter(self) -> float | None:
        """Training tokens of the whole run for each parameter."""
        return None if self.tokens_seen is None else self.tokens_seen / self.parameters.total

    @property
    def unique_tokens_per_parameter(self) -> float | None:
        """Tokens of the training set for each parameter: what can be learned without repetition."""
        tokens = self.text.tokens
        return None if tokens is None else tokens / self.parameters.total

    @property
    def too_large(self) -> bool:
        """Whether it needs more memory than is free."""
        return self.memory_free is not None and self.memory_needed > self.memory_free

    @property
    def memory_needed(self) -> int:
        """The peak in bytes without the copy for checkpoints, which a run can do without."""
        return self.memory_bytes - self.memory.saving

    @property
    def what_fits(self) -> str:
        """What to try if it is too large; short enough for a panel of 35 columns."""
        return (
            "take a smaller model or vocabulary"
            if self.largest_fitting_batch is None
            else f"batch_size = {self.largest_fitting_batch:,} should fit"
        )


@dataclass(frozen=True, slots=True)
class _Speed:
    run: str | None
    """None: of a probe."""
    cell_type: str
    flops_per_second: float
    """Of a GPU, or of all cores."""
    flops_per_step: float
    time: float


def training_text(config: RunConfig) -> TrainingText:
    """What is known of the training set: of a prepared corpus, or else counted if that takes a
    moment."""
    corpus, tokenizer = config.corpus, config.tokenizer
    manifest = find_corpus(corpus, tokenizer)
    if manifest is not None and not changed_after(corpus, manifest.created):
        train = manifest.splits["train"]
        return TrainingText(
            "prepared", manifest, train.sentences, train.tokens, manifest.vocab_size, True
        )
    size, exact = tokenizer.vocab_size, tokenizer.kind in ("bpe", "pretrained", "byte")
    if tokenizer.kind == "byte":
        size = 256 + 1 + tokenizer.end_of_sentence  # padding, and the end token if there is one
    # In stream mode, steps follow from tokens alone, which a learned tokenizer doesn't have yet.
    if config.training.data_mode == "sentences" or tokenizer.kind in COUNTABLE_TOKENIZERS:
        with suppress(OSError):
            if (found := count_text(corpus, tokenizer, corpora_dir())) is not None:
                if found.vocab_size is not None:
                    size, exact = found.vocab_size, True
                return TrainingText("counted", None, found.sentences, found.tokens, size, exact)
    if corpus.source == NEWS:
        sentences = round(SENTENCES * (1 - corpus.validation_fraction))
        return TrainingText("known", None, sentences, None, size, exact)
    return TrainingText("unknown", None, None, None, size, exact)


def estimate(config: RunConfig) -> Estimate:
    """Estimate a config from existing files: nothing is prepared, and only small texts are read."""
    text = training_text(config)
    vocab_size, sentences, tokens = text.vocab_size, text.sentences, text.tokens
    per_epoch, steps = _planned(config, sentences, tokens)
    token_flops = config_flops_per_token(config, vocab_size)
    step_tokens = _tokens_per_step(config, text, per_epoch)
    step_flops = step_tokens * token_flops
    device, processes = planned_device(config.training.device), planned_processes(config)
    on_gpu = device == "cuda"
    # Each GPU adds its speed, while processes on CPUs share the cores.
    speedup = processes if on_gpu else 1
    probes = [
        entry
        for entry in load_calibrations()
        if entry.host == host_name() and entry.device == device
    ]
    speed = (
        None if steps is None else _calibration(step_flops, config.model.cell_type, device, probes)
    )
    seconds = evaluating = None
    if steps is not None and speed is not None:
        rate = speed.flops_per_second * speedup
        seconds = steps * step_flops / rate
        evaluated = _evaluated_tokens(config, text, steps)
        # An evaluation is the forward pass alone, a third of a step's work.
        evaluating = evaluated * token_flops / 3 / rate
    free = free_training_memory(config.training.device)
    indexed = sentences or 0
    parts = memory_parts(config, vocab_size, sentences=indexed, on_gpu=on_gpu, processes=processes)
    measured = None
    if processes == 1:  # as probes have
        shape = memory_shape(config, vocab_size, indexed)
        measured = _measured_step(shape, config.training.threads or usable_cores(), probes)
    if measured is not None and device == "cpu":
        measured += WORKER_BYTES
    computed = parts.training * (1 if on_gpu else processes)
    needed = computed if measured is None else measured
    one = checkpoint_bytes(config, vocab_size)
    kept = kept_checkpoints(config, steps)
    return Estimate(
        text=text,
        parameters=parameter_count(config.model, vocab_size),
        steps_per_epoch=per_epoch,
        steps=steps,
        memory=parts,
        memory_bytes=needed + parts.saving,
        memory_measured=measured is not None,
        memory_free=free,
        largest_fitting_batch=(
            None
            if free is None or needed <= free
            else largest_fitting_batch(
                config,
                vocab_size,
                int(free * min(1.0, computed / needed)),
                sentences=indexed,
                on_gpu=on_gpu,
                processes=processes,
            )
        ),
        checkpoint_bytes=one,
        checkpoints=kept,
        disk_bytes=kept * one + METRICS_BYTES_PER_STEP * (steps or 0),
        seconds=seconds,
        calibrated_by=None if speed is None else "run" if speed.run else "probe",
        calibrated_run=None if speed is None else speed.run,
        baseline_perplexity=_baseline(config, text.manifest),
        step_flops=step_flops,
        processes=processes,
        rows_at_once=rows_at_once(config, processes),
        speedup=speedup,
        gradient_bytes=gradient_bytes(config, vocab_size) if processes > 1 else 0,
        evaluation_seconds=evaluating,
        tokens_seen=None if steps is None else steps * step_tokens,
        problems=(
            *text_problems(config, tokens=tokens, sentences=sentences),
            *process_problems(config),
        ),
        notes=() if text.manifest is None else text.manifest.all_notes,
        unused_gpu=gpu_problem() if config.training.device == "auto" else None,
    )


def planned_steps(config: RunConfig) -> int | None:
    """Total steps of a run before it starts: known if `max_steps` is set or the text is prepared or
    can be counted, else None."""
    text = training_text(config)
    return _planned(config, text.sentences, text.tokens)[1]


def memory_warning(found: Estimate) -> str | None:
    """A warning that the device has too little free memory; None if it fits."""
    if found.memory_free is None or not found.too_large:
        return None
    return (
        f"it needs {memory(found.memory_needed)} of memory and"
        f" {memory(found.memory_free)} are free: {found.what_fits}"
    )


def warning_before_start(config: RunConfig) -> str | None:
    """Warnings about the device, a line each: torch can't use the GPU, another run trains on it, or
    it has too little free memory for this config. None if there are none."""
    try:
        short = memory_warning(estimate(config))
        if short is not None and (who := holder_words(planned_gpu(config.training.device))):
            short += f" ({who})"
        found = (unused_gpu_warning(config.training.device), shared_gpu_warning(config), short)
    except RnnlmError:
        return None  # starting the run reports this error
    return "\n".join(filter(None, found)) or None


def smaller_batch_words(config: RunConfig, found: Estimate) -> str:
    """What to try after an out-of-memory error: the estimate's batch size, or half."""
    batch = config.training.batch_size
    if found.too_large or batch == 1:
        return found.what_fits
    return f"training.batch_size = {batch // 2} needs less"


def _planned(
    config: RunConfig, sentences: int | None, tokens: int | None
) -> tuple[int | None, int | None]:
    """Steps per epoch and in total."""
    countable = tokens if config.training.data_mode == "stream" else sentences
    per_epoch = None if countable is None else steps_per_epoch(config, tokens or 0, sentences or 0)
    return per_epoch, (
        config.training.max_steps if per_epoch is None else total_steps(config, per_epoch)
    )


def _tokens_per_step(config: RunConfig, text: TrainingText, per_epoch: int | None) -> float:
    training = config.training
    whole = text.tokens
    if whole is not None and per_epoch:
        if training.data_mode == "sentences" and text.sentences is not None:
            whole = min(whole, text.sentences * (training.context_length - 1))
        return whole / per_epoch
    return positions_per_step(config)


def _evaluated_tokens(config: RunConfig, text: TrainingText, steps: int) -> float:
    """Tokens of all evaluations of a run: of the one split when due, of both sets at the end."""
    if text.manifest is None or text.tokens is None or not text.sentences:
        return 0.0
    splits, every = text.manifest.splits, config.evaluation.every
    most = config.evaluation.max_sentences
    due = splits[config.evaluation.split]
    share = 1.0 if not most or not due.sentences else min(1.0, most / due.sentences)
    during = (steps // every if every else 0) * share * due.tokens
    return during + sum(splits[split].tokens for split in EVALUATED)


def _baseline(config: RunConfig, manifest: CorpusManifest | None) -> float | None:
    loss = None if manifest is None else manifest.baseline_loss(config, "test")
    return None if loss is None else perplexity(loss)


def _calibration(
    step_flops: float, cell_type: str, device: Device, probes: Sequence[Calibration]
) -> _Speed | None:
    """The newest run or probe on this host whose steps are most similar."""
    speeds = [
        _Speed(None, probe.cell_type, probe.flops_per_second, probe.flops_per_step, probe.time)
        for probe in probes
    ]
    for run in list_runs()[:CALIBRATION_RUNS]:
        try:
            speed = _speed(run, device)
        except RnnlmError:
            continue  # unreadable: no speed reference
        if speed is not None:
            speeds.append(speed)

    def distance(speed: _Speed) -> int:
        # Rounded to factors of √2, so that the newest of similar ones is chosen.
        other_cell = OTHER_CELL if speed.cell_type != cell_type else 1.0
        return round(
            2 * (abs(math.log2(step_flops / speed.flops_per_step)) + math.log2(other_cell))
        )

    nearest = min(speeds, key=lambda speed: (distance(speed), -speed.time), default=None)
    return nearest if nearest is not None and distance(nearest) <= 2 * math.log2(SIMILAR) else None


def _speed(run: RunDirectory, device: Device) -> _Speed | None:
    known = summarize(run)
    vocab_size, cell_type = known.model.vocab_size, known.model.cell_type
    if (
        vocab_size is None
        or known.host != host_name()
        or not (known.device or "").startswith(device)
        or known.step < CALIBRATION_STEPS
        or known.active_seconds <= 0
    ):
        return None
    config = run.read_config()
    done = known.tokens_seen * config_flops_per_token(config, vocab_size)
    rate = done / known.active_seconds / (planned_processes(config) if device == "cuda" else 1)
    return _Speed(run.name, cell_type, rate, done / known.step, known.updated or 0.0)


def _measured_step(
    shape: dict[str, Fact], threads: int, probes: Sequence[Calibration]
) -> int | None:
    """Peak memory of a step of this shape, from the newest probe with this version."""
    alike = (
        probe
        for probe in probes
        if probe.shape == shape
        and probe.threads == threads
        and probe.versions.get("rnnlm_tui") == __version__
    )
    return next((probe.memory_bytes for probe in alike), None)


def kept_checkpoints(config: RunConfig, steps: int | None) -> int:
    """The most checkpoints on disk at the end of a run: the newest, the best and those always kept.

    Checkpoints are saved when due, at the end, and at each new best evaluation, which may be every
    one.

    Args:
        steps: length of the run; None if unknown.
    """
    newest = config.checkpoint.keep_last + 1
    if steps is None:
        return newest
    written = _multiples(steps - 1, config.checkpoint.every, config.evaluation.every) + 1
    keep_every = config.checkpoint.keep_every
    always = (
        _multiples(
            steps,
            math.lcm(config.checkpoint.every, keep_every),
            math.lcm(config.evaluation.every, keep_every),
        )
        if keep_every
        else 0
    )
    return min(newest + always, written)


def _multiples(up_to: int, one: int, other: int) -> int:
    """How many numbers from 1 to `up_to` are multiples of either; 0 has no multiples."""
    return sum(up_to // every for every in (one, other) if every) - (
        up_to // math.lcm(one, other) if one and other else 0
    )
