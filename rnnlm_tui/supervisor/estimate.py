"""What a config would take: parameters, steps, memory, disk, and the time by the speed of earlier runs on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rnnlm_tui.contract.config import RunConfig, TokenizerConfig
from rnnlm_tui.contract.corpora import CorpusManifest, baseline_key
from rnnlm_tui.contract.estimates import ParameterCount, checkpoint_bytes, flops_per_token, parameter_count, steps_per_epoch, total_steps, training_memory_bytes
from rnnlm_tui.contract.metrics import perplexity
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store.corpora import find_corpus
from rnnlm_tui.store.locks import host_name
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.supervisor.summary import number

CALIBRATION_STEPS = 100
"""A run needs so many steps to tell how fast this machine is."""
CALIBRATION_RUNS = 20
"""Only the newest runs are looked at."""
SIMILAR = 4.0
"""A run tells the speed of another only where their work a step differs by less than this factor: small steps are overhead for the most part."""
METRICS_BYTES_PER_STEP = 150
"""A step's row in the database, roll-ups included (measured)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a config would take; None where it can't be known before the corpus is prepared or a first run has shown the speed."""

    parameters: ParameterCount
    vocab_size: int
    vocab_exact: bool
    """False: an upper bound, the text decides."""
    train_tokens: int | None
    steps_per_epoch: int | None
    steps: int | None
    memory_bytes: int
    """Weights, gradients, moments, activations and logits in training."""
    checkpoint_bytes: int
    """One checkpoint."""
    disk_bytes: int
    """All that is kept at the end: checkpoints and metrics."""
    seconds: float | None
    """Training time."""
    calibrated_by: str | None
    """The run whose speed `seconds` is from."""
    baseline_perplexity: float | None
    """Of the bigram model on the test set."""

    @property
    def start_loss(self) -> float:
        """ln V: the loss of a model that knows nothing."""
        return math.log(self.vocab_size)


@dataclass(frozen=True, slots=True)
class _Speed:
    run: str
    flops_per_second: float
    flops_per_step: float


def estimate(config: RunConfig) -> Estimate:
    """Work out what `config` would take, from files alone: nothing is built, no text is read."""
    manifest = find_corpus(config.corpus, config.tokenizer)
    vocab_size, exact = (manifest.vocab_size, True) if manifest is not None else _expected_vocabulary(config.tokenizer)
    per_epoch = None if manifest is None else steps_per_epoch(config, manifest.splits["train"].tokens, manifest.splits["train"].sentences)
    steps = config.training.max_steps if per_epoch is None else total_steps(config, per_epoch)
    step_flops = _tokens_per_step(config, manifest, per_epoch) * flops_per_token(config.model, vocab_size)
    speed = None if steps is None else _calibration(step_flops)
    seconds = None if steps is None or speed is None else steps * step_flops / speed.flops_per_second
    one = checkpoint_bytes(config.model, vocab_size)
    kept = config.checkpoint.keep_last + 1
    if steps is not None:
        kept = min(kept, math.ceil(steps / config.checkpoint.every) if config.checkpoint.every else 1)
    return Estimate(
        parameters=parameter_count(config.model, vocab_size),
        vocab_size=vocab_size,
        vocab_exact=exact,
        train_tokens=None if manifest is None else manifest.splits["train"].tokens,
        steps_per_epoch=per_epoch,
        steps=steps,
        memory_bytes=training_memory_bytes(config, vocab_size),
        checkpoint_bytes=one,
        disk_bytes=kept * one + METRICS_BYTES_PER_STEP * (steps or 0),
        seconds=seconds,
        calibrated_by=None if seconds is None or speed is None else speed.run,
        baseline_perplexity=_baseline(config, manifest),
    )


def _expected_vocabulary(tokenizer: TokenizerConfig) -> tuple[int, bool]:
    """Types before the corpus is there, and whether that is exact."""
    if tokenizer.kind == "byte":
        return 256 + 1 + tokenizer.end_of_sentence, True  # padding, and the end token where there is one
    return tokenizer.vocab_size, tokenizer.kind in ("bpe", "pretrained")


def _tokens_per_step(config: RunConfig, manifest: CorpusManifest | None, per_epoch: int | None) -> float:
    training = config.training
    if manifest is not None and per_epoch:
        facts = manifest.splits["train"]
        whole = facts.tokens if training.data_mode == "stream" else min(facts.tokens, facts.sentences * (training.context_length - 1))
        return whole / per_epoch
    return training.batch_size * (training.bptt if training.data_mode == "stream" else training.context_length - 1)


def _baseline(config: RunConfig, manifest: CorpusManifest | None) -> float | None:
    if manifest is None:
        return None
    training = config.training
    loss = manifest.bigram.get(baseline_key("test", training.data_mode, training.context_length))
    return None if loss is None else perplexity(loss)


def _calibration(step_flops: float) -> _Speed | None:
    """How fast this host was on the run whose steps are most like one of `step_flops`; the newest of those that are alike."""
    found: list[tuple[float, _Speed]] = []
    for run in list_runs()[:CALIBRATION_RUNS]:
        try:
            speed = _speed(run)
        except RnnlmError:
            continue  # a run that can't be read tells nothing
        if speed is not None:
            # Rounded to halves of an octave, so that among like runs the newest, which comes first, is taken.
            found.append((round(2 * abs(math.log2(step_flops / speed.flops_per_step))), speed))
    distance, nearest = min(found, key=lambda entry: entry[0], default=(math.inf, None))
    return nearest if distance <= 2 * math.log2(SIMILAR) else None


def _speed(run: RunDirectory) -> _Speed | None:
    with RunReader(run) as reader:
        meta = reader.meta()
        rows = reader.recent_steps(1)
    vocab_size = number(meta.get("vocab_size"))
    if meta.get("host") != host_name() or vocab_size is None or not rows or rows[0].step < CALIBRATION_STEPS or rows[0].active_seconds <= 0:
        return None
    done = rows[0].tokens_seen * flops_per_token(run.read_config().model, int(vocab_size))
    return _Speed(run.name, done / rows[0].active_seconds, done / rows[0].step)
