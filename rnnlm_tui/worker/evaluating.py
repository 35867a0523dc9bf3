"""Evaluations and samples of a run: what is measured when, under which name, and stored."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.corpora import Split
from rnnlm_tui.contract.figures import bits_per_byte_text, counted
from rnnlm_tui.contract.metrics import EvaluationRow, EventRow, SampleRow, bits_per_byte
from rnnlm_tui.corpus.text import TextCodec
from rnnlm_tui.corpus.token_store import PreparedCorpus
from rnnlm_tui.engine.failures import explained_aside, is_out_of_memory, out_of_memory
from rnnlm_tui.engine.held_out import evaluation_batches, evaluation_shape
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.score import evaluate
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.worker.continuation import Continuation
from rnnlm_tui.worker.inbox import StopRequested
from rnnlm_tui.worker.records import Records

ItemT = TypeVar("ItemT")


class Evaluator:
    """Measures and samples a model without touching its training: own state, own generator.

    Args:
        check_stop: called between batches and tokens; raises to leave the evaluation.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        corpus: PreparedCorpus,
        codec: TextCodec,
        model: RecurrentLanguageModel,
        records: Records,
        attempt: int,
        check_stop: Callable[[], None],
    ) -> None:
        self._config = config
        self._corpus = corpus
        self._codec = codec
        self._model = model
        self._records = records
        self._attempt = attempt
        self._check_stop = check_stop

    def during_run(self, step: int) -> tuple[EvaluationRow, ...]:
        """The configured split, cut to `max_sentences`, and the validation set where that is another: it alone selects the best."""
        splits: list[Split] = [self._config.evaluation.split]
        if "validation" not in splits:
            splits.append("validation")
        return tuple(self._measure(split, step, self._config.evaluation.max_sentences) for split in splits)

    def at_end(self, step: int) -> tuple[EvaluationRow, ...]:
        """The whole test set, and the whole validation set where the run only saw a part of it."""
        whole: list[Split] = ["validation", "test"] if self._is_cut("validation", self._config.evaluation.max_sentences) else ["test"]
        return tuple(self._measure(split, step, 0) for split in whole)

    def continue_prompts(self, step: int, prompts: Iterable[str] | None = None) -> tuple[SampleRow, ...]:
        """Continuations of `prompts` (None: the configured ones) with the config's sampling settings, stored.

        A prompt whose continuation fails is reported as a note; it must not end the run.

        Raises:
            StopRequested: a stop was requested meanwhile.
            StorageError: the run's folder or database is gone or damaged.
        """
        rows = []
        for prompt in self._config.evaluation.prompts if prompts is None else prompts:
            try:
                rows.append(self._continue(prompt, step))
            except StopRequested:
                raise
            except RnnlmError as error:
                self._leave_out(prompt, step, error)
            except Exception as error:
                traceback.print_exc()  # to the run's log
                self._leave_out(prompt, step, explained_aside(error, f"a sample of {counted(self._config.sampling.max_new_tokens, 'token')}"))
        return tuple(rows)

    def continue_prompt(self, prompt: str, step: int) -> SampleRow:
        """The continuation of one prompt, stored.

        Raises:
            InputError: a prompt that this vocabulary can't write.
        """
        return self._continue(prompt, step)

    def _leave_out(self, prompt: str, step: int, error: RnnlmError) -> None:
        self._records.add_event(EventRow(self._attempt, step, "note", f'no continuation of "{prompt}": {error.message}', time.time()))

    def _measure(self, split: Split, step: int, max_sentences: int) -> EvaluationRow:
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
            score = evaluate(self._model, self._watched(batches), unknown_id=self._codec.unk_id)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory("an evaluation", evaluation_shape(training.data_mode, training.context_length - 1)) from error
        row = EvaluationRow(
            attempt=self._attempt,
            step=step,
            split="test" if split == "test" else "validation",
            name=f"first {max_sentences:,} {split} sentences" if self._is_cut(split, max_sentences) else split,
            loss=score.loss,
            tokens=score.tokens,
            bits_per_byte=bits_per_byte(score.loss, score.tokens, score.unknown, corpus.scored_bytes(split, score.tokens, training.data_mode)),
            seconds=score.seconds,
            time=time.time(),
            unknown=score.unknown,
        )
        self._records.add_evaluation(row)
        return row

    def _is_cut(self, split: Split, max_sentences: int) -> bool:
        return 0 < max_sentences < self._corpus.manifest.splits[split].sentences

    def _continue(self, prompt: str, step: int) -> SampleRow:
        settings = self._config.sampling
        continuation = Continuation(self._model, self._codec, prompt, settings, after_end=self._config.training.data_mode == "stream")
        text = "".join(self._watched(continuation)) + continuation.rest()
        row = SampleRow(self._attempt, step, prompt, text, continuation.tokens, None if settings.is_greedy else settings.seed, time.time())
        self._records.add_sample(row)
        return row

    def _watched(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        for item in items:
            self._check_stop()
            yield item


def in_words(row: EvaluationRow) -> str:
    """`validation perplexity 57.30, 1.672 bits per byte`."""
    bits = bits_per_byte_text(row.bits_per_byte, row.unknown_share, digits=3, unit="bits per byte")
    return f"{row.name} perplexity {row.perplexity:,.2f}, {bits}"
