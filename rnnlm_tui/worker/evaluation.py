"""Evaluator: measures a run's losses and continues its prompts; decides on early stopping."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.batches import evaluation_batches, evaluation_shape
from rnnlm_tui.engine.device import explained_aside, is_lost, is_out_of_memory, out_of_memory
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import DeviceError, RnnlmError, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import Split
from rnnlm_tui.schema.formatting import bits_per_byte_text, counted
from rnnlm_tui.schema.metrics import EvaluationRow, SampleRow, bits_per_byte, evaluations_during_run
from rnnlm_tui.schema.presets import fitting_prompts
from rnnlm_tui.store.checkpoints import best_step
from rnnlm_tui.worker.checkpointing import Checkpointer
from rnnlm_tui.worker.commands import StopRequested
from rnnlm_tui.worker.generation import continue_prompt
from rnnlm_tui.worker.guards import EarlyStopping
from rnnlm_tui.worker.memory import MemoryBudget
from rnnlm_tui.worker.recorder import Attempt
from rnnlm_tui.worker.step_metrics import StepMetrics

ItemT = TypeVar("ItemT")

FIRST_UNITS, FIRST_TOKENS = 20, 500
"""How many of the text's first units are searched for prompts, and how much of each."""


class Evaluator:
    """Evaluates and samples a trainer's model without touching its training: own state, own
    generator.

    Args:
        evaluations: of earlier attempts, up to the start step; this attempt's are added.

    Raises (every method that evaluates or samples):
        StopRequested: a stop was requested meanwhile.
        StorageError: the run's folder or log is gone.
    """

    def __init__(
        self,
        attempt: Attempt,
        trainer: Trainer,
        metrics: StepMetrics,
        checkpointer: Checkpointer,
        budget: MemoryBudget,
        *,
        corpus: PreparedCorpus,
        codec: TextCodec,
        evaluations: list[EvaluationRow],
    ) -> None:
        self._attempt, self._config, self._recorder = attempt, attempt.config, attempt.recorder
        self._trainer = trainer
        self._metrics = metrics
        self._checkpointer = checkpointer
        self._budget = budget
        self._corpus, self._codec = corpus, codec
        self._early_stopping = EarlyStopping(self._config.training.patience, evaluations)
        self._rows = evaluations
        self._best = self._best_step()
        here = [
            row.loss
            for row in evaluations
            if row.step == trainer.step > 0 and row.split == "validation"
        ]
        self._loss = here[-1] if here else None
        self._step = trainer.step if here else -1

    @property
    def is_exhausted(self) -> bool:
        """The patience is used up: the run should end."""
        return self._early_stopping.is_exhausted

    @property
    def is_current(self) -> bool:
        """The current weights have been evaluated."""
        return self._step == self._trainer.step

    @property
    def current_loss(self) -> float | None:
        """Validation loss of the current weights; None: not measured."""
        return self._loss if self.is_current else None

    @property
    def is_best(self) -> bool:
        """The current weights have the lowest validation loss so far; among equals the earliest
        counts."""
        return self.is_current and self._best == self._step

    def use(self, config: RunConfig) -> None:
        """Evaluate with these prompts and this patience from now on."""
        self._config = config
        self._early_stopping.patience = config.training.patience

    def evaluate(self) -> str:
        """Evaluate, then continue the configured prompts; returns the losses in words.

        Raises:
            DeviceError: out of memory.
        """
        with self._attempt.activity("evaluating"):
            self._metrics.flush()
            rows = self._measure_during_run()
            for row in rows:
                self._attempt.event("evaluation", self._trainer.step, in_words(row))
            self._early_stopping.add(rows)
            self._rows += rows
            self._best = self._best_step()
            self._loss = next(row.loss for row in rows if row.split == "validation")
            self._step = self._trainer.step
            self._checkpointer.label()
            self.continue_prompts()
            return "; ".join(in_words(row) for row in rows)

    def evaluate_if_possible(self) -> None:
        """Evaluate. A failure is logged as a note and training continues."""
        try:
            self.evaluate()
        except (StopRequested, StorageError):
            raise
        except Exception as error:
            self._note_failure("evaluation", error)

    def evaluate_unless_stopped(self) -> None:
        """As `evaluate_if_possible`; an evaluation that a stop interrupts is logged as a note,
        too."""
        try:
            self.evaluate_if_possible()
        except StopRequested:
            self._attempt.note(self._trainer.step, "evaluation interrupted by stop")

    def evaluate_at_end(self) -> None:
        """Evaluate on the test set. The run is saved by now, so a failure is only logged."""
        try:
            with self._attempt.activity("evaluating"):
                for row in self._measure_at_end():
                    self._attempt.event("evaluation", self._trainer.step, in_words(row))
        except (StopRequested, StorageError):
            raise
        except Exception as error:
            self._note_failure("test", error)

    def continue_prompts(self) -> tuple[SampleRow, ...]:
        """Continue the prompts that fit the text and store the samples; one that fails is logged
        as a note."""
        rows = []
        for prompt in fitting_prompts(self._config, self._first_lines()):
            try:
                rows.append(self.continue_prompt(prompt))
            except StopRequested:
                raise
            except RnnlmError as error:
                self._note_no_sample(prompt, error)
            except Exception as error:
                if is_lost(error):
                    raise
                traceback.print_exc()  # to the run's log
                self._note_no_sample(
                    prompt,
                    explained_aside(
                        error,
                        f"a sample of {counted(self._config.sampling.max_new_tokens, 'token')}",
                    ),
                )
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
        self._recorder.add(row)
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
        batches = evaluation_batches(
            corpus.tokens(split),
            corpus.offsets(split),
            data_mode=training.data_mode,
            context_length=training.context_length,
            pad_id=corpus.pad_id,
            max_sentences=max_sentences,
        )
        try:
            score = evaluate(
                self._trainer.model, self._stoppable(batches), unknown_id=self._codec.unk_id
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(
                "an evaluation", evaluation_shape(training.data_mode, training.context_length - 1)
            ) from error
        offsets = corpus.offsets(split)
        scored, total = self._codec.token_bytes.scored(
            corpus.tokens(split),
            offsets[: max_sentences + 1] if max_sentences else offsets,
            training.context_length if training.data_mode == "sentences" else None,
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
        self._recorder.add(row)
        return row

    def _is_cut(self, split: Split, max_sentences: int) -> bool:
        return 0 < max_sentences < self._corpus.manifest.splits[split].sentences

    def _best_step(self) -> int | None:
        return best_step(
            (row.step, row.loss) for row in evaluations_during_run(self._rows, "validation")
        )

    def _stoppable(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The items; between them a stop interrupts."""
        for item in items:
            self._attempt.inbox.check_stop()
            yield item

    def _note_no_sample(self, prompt: str, error: RnnlmError) -> None:
        self._attempt.note(self._trainer.step, f'no continuation of "{prompt}": {error.message}')

    def _note_failure(self, what: str, error: Exception) -> None:
        """Note a failure that training survives; one of the GPU is raised again."""
        if is_lost(error):
            raise error
        if isinstance(error, DeviceError):
            words = self._budget.explained(error, 0).message
        elif isinstance(error, RnnlmError):
            words = error.message
        else:
            traceback.print_exc()  # to the run's log
            words = f"{type(error).__name__}: {error}; the traceback is in the run's log"
        self._attempt.note(self._trainer.step, f"no {what}: {words}")


def in_words(row: EvaluationRow) -> str:
    """`validation perplexity 57.30, 1.672 bits per byte`."""
    bits = bits_per_byte_text(
        row.bits_per_byte, row.unknown_share, row.scored_share, digits=3, unit="bits per byte"
    )
    return f"{row.name} perplexity {row.perplexity:,.2f}, {bits}"
