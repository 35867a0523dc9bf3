"""Evaluator: measures a run's losses and continues its prompts; decides on early stopping."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from statistics import median
from typing import TypeVar

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.engine.batches import evaluation_shape
from rnnlm_tui.engine.device import errors_explained, explained_aside, is_lost
from rnnlm_tui.engine.distributed import Order
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.errors import DeviceError, RnnlmError, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import SPLITS, Split
from rnnlm_tui.schema.formatting import bits_per_byte_text, counted, figure
from rnnlm_tui.schema.metrics import (
    EvaluationRow,
    SampleRow,
    bits_per_byte,
    evaluations_during_run,
    evaluations_without_improvement,
)
from rnnlm_tui.schema.presets import has_prompts_of_another_text
from rnnlm_tui.schema.status import PRUNED
from rnnlm_tui.store.checkpoints import best_step
from rnnlm_tui.store.labels import SWEEP, read_labels
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import tagged_runs
from rnnlm_tui.worker.build import split_batches
from rnnlm_tui.worker.checkpointing import Checkpointer
from rnnlm_tui.worker.commands import StopRequested
from rnnlm_tui.worker.generation import continue_prompt
from rnnlm_tui.worker.health import HealthWatch
from rnnlm_tui.worker.session import Session

ItemT = TypeVar("ItemT")

OWN_PROMPTS, PROMPT_WORDS, PROMPT_CHARACTERS = 3, 3, 40
"""How many prompts are taken from a text, and how long they are at most."""
FEWEST_OTHERS = 3
"""Runs of a sweep that must have an evaluation at the same step before another is pruned."""
FIRST_UNITS, FIRST_TOKENS = 20, 500
"""How many of the text's first units are searched for prompts, and how much of each."""


class Evaluator:
    """Evaluates and samples a trainer's model without touching its training: own state, own
    generator.

    Raises (every method that evaluates or samples):
        StopRequested: a stop was requested meanwhile.
        StorageError: the run's folder or log is gone.
    """

    def __init__(self, session: Session, checkpointer: Checkpointer, codec: TextCodec) -> None:
        self._session, self._checkpointer, self._codec = session, checkpointer, codec
        self._attempt, self._trainer = session.attempt, session.trainer
        self._corpus = session.corpus
        self._config = self._attempt.config
        self._health = HealthWatch(session)
        self._count_evaluations()

    @property
    def is_exhausted(self) -> bool:
        """The patience is used up: the run should end."""
        return 0 < self._config.training.patience <= self._waited

    @property
    def is_current(self) -> bool:
        """The current weights have been evaluated."""
        return self._newest is not None and self._newest.step == self._trainer.step

    @property
    def current_loss(self) -> float | None:
        """Validation loss of the current weights; None: not measured."""
        return self._newest.loss if self._newest is not None and self.is_current else None

    @property
    def is_best(self) -> bool:
        """The current weights have the lowest validation loss so far; among equals the earliest
        counts."""
        return self.is_current and self._best == self._trainer.step

    def why_pruned(self) -> str:
        """Why this run of a sweep should stop at this step, the first evaluation from
        `evaluation.prune_step` on; empty if it should not, or was pruned before and resumed."""
        evaluation, newest = self._config.evaluation, self._newest
        due = -(-evaluation.prune_step // (evaluation.every or 1)) * evaluation.every
        if not due or newest is None or not newest.step == self._trainer.step == due:
            return ""
        others = _losses_of_sweep(self._attempt.run, newest)
        if len(others) < FEWEST_OTHERS or newest.loss <= median(others):
            return ""
        return (
            f"{PRUNED} {due:,}: validation loss {figure(newest.loss, 3)}, median of"
            f" {len(others)} others {figure(median(others), 3)}"
        )

    def use(self, config: RunConfig) -> None:
        """Evaluate with these prompts and this patience from now on."""
        self._config = config

    def evaluate(self) -> str:
        """Evaluate, then continue the configured prompts; returns the losses in words.

        Raises:
            DeviceError: out of memory.
        """
        with self._attempt.activity("evaluating"):
            self._session.metrics.flush()
            rows = self._measure_during_run()
            for row in rows:
                self._session.event("evaluation", in_words(row))
            self._session.evaluations.extend(rows)
            self._count_evaluations()
            self._checkpointer.label()
            if self._config.evaluation.health:
                with self._failure_noted("health figures"):
                    self._health.measure()
            self.continue_prompts()
            return "; ".join(in_words(row) for row in rows)

    def evaluate_if_possible(self) -> None:
        """Evaluate. A failure is logged as a note and training continues."""
        with self._failure_noted("evaluation"):
            self.evaluate()

    def evaluate_unless_stopped(self) -> None:
        """As `evaluate_if_possible`; an evaluation that a stop interrupts is logged as a note,
        too."""
        try:
            self.evaluate_if_possible()
        except StopRequested:
            self._session.note("evaluation interrupted by stop")

    def evaluate_at_end(self) -> None:
        """Evaluate on the test set. The run is saved by now, so a failure is only logged."""
        with self._failure_noted("test"), self._attempt.activity("evaluating"):
            for row in self._measure_at_end():
                self._session.event("evaluation", in_words(row))

    def continue_prompts(self) -> tuple[SampleRow, ...]:
        """Continue the prompts that fit the text and store the samples; one that fails is logged
        as a note."""
        rows = []
        for prompt in fitting_prompts(self._config, self._first_lines()):
            try:
                rows.append(self.continue_prompt(prompt))
            except StopRequested:
                raise
            except Exception as error:
                if is_lost(error):
                    raise
                if not isinstance(error, RnnlmError):
                    traceback.print_exc()  # to the run's log
                    tokens = counted(self._config.sampling.max_new_tokens, "token")
                    error = explained_aside(error, f"a sample of {tokens}")
                self._session.note(f'no continuation of "{prompt}": {error.message}')
        return tuple(rows)

    def continue_prompt(self, prompt: str) -> SampleRow:
        """Continue one prompt with the config's sampling settings and store the sample.

        Raises:
            InputError: a prompt that this vocabulary can't encode.
        """
        settings = self._config.sampling
        sampled = continue_prompt(
            self._trainer.model,
            self._codec,
            prompt,
            settings,
            after_end=self._config.training.data_mode == "stream",
            check=self._attempt.inbox.check_stop,
        )
        seed = None if settings.is_greedy else settings.seed
        row = SampleRow(
            self._attempt.number,
            self._trainer.step,
            prompt,
            sampled.text,
            len(sampled.ids),
            seed,
            time.time(),
        )
        self._attempt.recorder.add(row)
        return row

    def _first_lines(self) -> Iterator[str]:
        """The first lines of the training split in which every word is known."""
        tokens, starts = self._corpus.tokens("train"), self._corpus.offsets("train")
        unknown = None if self._codec.unk_id is None else self._codec.decode([self._codec.unk_id])
        for start, end in pairwise(starts[: FIRST_UNITS + 1].tolist()):
            text = self._codec.decode(tokens[start : min(end, start + FIRST_TOKENS)].tolist())
            for line in text.splitlines():
                if unknown is None or unknown not in line:
                    yield line

    def _measure_during_run(self) -> tuple[EvaluationRow, ...]:
        """The configured split, cut to `max_sentences`, and the validation set, which alone selects
        the best."""
        evaluation = self._config.evaluation
        splits: list[Split] = [evaluation.split]
        if "validation" not in splits:
            splits.append("validation")
        return tuple(self._measure(split, evaluation.max_sentences) for split in splits)

    def _measure_at_end(self) -> tuple[EvaluationRow, ...]:
        """The whole test set, and the whole validation set if the run only saw a part of it."""
        is_partial = self._is_cut("validation", self._config.evaluation.max_sentences)
        splits: list[Split] = ["validation", "test"] if is_partial else ["test"]
        return tuple(self._measure(split, 0) for split in splits)

    def _measure(self, split: Split, max_sentences: int) -> EvaluationRow:
        corpus, training = self._corpus, self._config.training
        batches = split_batches(self._config, corpus, split, max_sentences)
        shape = evaluation_shape(training.data_mode, training.context_length - 1)
        ranks = self._trainer.ranks
        if ranks is not None:
            ranks.send_order(Order.EVALUATE, SPLITS.index(split), max_sentences)
        with errors_explained("an evaluation", shape):
            score = evaluate(
                self._trainer.model,
                self._stoppable(batches),
                unknown_id=self._codec.unk_id,
                ranks=ranks,
            )
        offsets = corpus.offsets(split)
        scored, total = self._codec.token_bytes.scored(
            corpus.tokens(split),
            offsets[: max_sentences + 1] if max_sentences else offsets,
            training.kept_tokens,
        )
        row = EvaluationRow(
            attempt=self._attempt.number,
            step=self._trainer.step,
            split="test" if split == "test" else "validation",
            name=f"first {max_sentences:,} {split} sentences"
            if self._is_cut(split, max_sentences)
            else split,
            loss=score.loss,
            tokens=score.tokens,
            bits_per_byte=bits_per_byte(score.loss, score.tokens, score.unknown, scored),
            seconds=score.seconds,
            time=time.time(),
            unknown=score.unknown,
            scored_bytes=scored,
            text_bytes=total,
        )
        self._attempt.recorder.add(row)
        return row

    def _is_cut(self, split: Split, max_sentences: int) -> bool:
        return 0 < max_sentences < self._corpus.manifest.splits[split].sentences

    def _count_evaluations(self) -> None:
        """Find the newest one and the best, and how many came since; the loop asks at every
        step."""
        rows = self._session.evaluations
        self._newest = next((row for row in reversed(rows) if row.split == "validation"), None)
        self._best = best_step(
            (row.step, row.loss) for row in evaluations_during_run(rows, "validation")
        )
        self._waited = evaluations_without_improvement(rows)

    def _stoppable(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The items; between them a stop interrupts."""
        for item in items:
            self._attempt.inbox.check_stop()
            yield item

    @contextmanager
    def _failure_noted(self, what: str) -> Iterator[None]:
        """Note a failure that training survives; one of the GPU isn't."""
        try:
            yield
        except (StopRequested, StorageError):
            raise
        except Exception as error:
            if is_lost(error):
                raise
            if isinstance(error, DeviceError):
                words = self._session.budget.explained(error, 0).message
            elif isinstance(error, RnnlmError):
                words = error.message
            else:
                traceback.print_exc()  # to the run's log
                words = f"{type(error).__name__}: {error}; the traceback is in the run's log"
            self._session.note(f"no {what}: {words}")


def _losses_of_sweep(run: RunDirectory, own: EvaluationRow) -> list[float]:
    """The losses at the step of a run's evaluation of the other runs in its sweeps, on the same
    text; none if it was pruned before."""
    losses = list[float]()
    with suppress(RnnlmError):  # training goes on if the runs can't be listed
        with RunReader(run) as reader:
            text, events = reader.facts().corpus_hash, reader.events()
        if any(event.text.startswith(PRUNED) for event in events):
            return []
        sweeps = [tag for tag in read_labels(run).tags if tag.startswith(SWEEP)]
        others = {other.name: other for tag in sweeps for other in tagged_runs(tag)}
        for other in [others[name] for name in others if name != run.name]:
            with suppress(RnnlmError), RunReader(other) as reader:
                same = reader.facts().corpus_hash == text
                for row in reader.evaluations() if same else ():
                    if (row.step, row.split, row.name) == (own.step, own.split, own.name):
                        losses.append(math.inf if math.isnan(row.loss) else row.loss)
    return losses


def in_words(row: EvaluationRow) -> str:
    """`validation perplexity 57.30, 1.672 bits per byte`."""
    bits = bits_per_byte_text(
        row.bits_per_byte, row.unknown_share, row.scored_share, digits=3, unit="bits per byte"
    )
    return f"{row.name} perplexity {row.perplexity:,.2f}, {bits}"


def fitting_prompts(config: RunConfig, first_lines: Iterable[str]) -> tuple[str, ...]:
    """The prompts to continue: the config's, or the text's beginnings if they are another text's.

    Args:
        first_lines: of the text; those too short to have a beginning are skipped.
    """
    if not has_prompts_of_another_text(config):
        return config.evaluation.prompts
    lines = [line.strip() for line in first_lines]
    beginnings = [" ".join(line.split()[:PROMPT_WORDS])[:PROMPT_CHARACTERS] for line in lines]
    found = dict.fromkeys(
        beginning
        for beginning, line in zip(beginnings, lines, strict=True)
        if len(beginning) < len(line)
    )
    return tuple(found)[:OWN_PROMPTS] or config.evaluation.prompts
