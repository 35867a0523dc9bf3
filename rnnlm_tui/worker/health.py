"""HealthWatch: measures the net's health at evaluations and reports what leaves its range."""

from __future__ import annotations

import time
from typing import Any

from rnnlm_tui.engine.batches import Batch, StreamBatches, evaluation_batches
from rnnlm_tui.engine.device import errors_explained
from rnnlm_tui.engine.health import health
from rnnlm_tui.schema.health import Place, left_range, readings
from rnnlm_tui.schema.metrics import HealthRow
from rnnlm_tui.worker.session import Session

STREAMS, TOKENS = 8, 64
"""Of the sample of a stream."""
SENTENCES = 16
"""Of the sample of separate sentences, each cut to `TOKENS`."""


class HealthWatch:
    """Measures the health of a trainer's model on the same sample of the validation text.

    Training is the same with and without it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sample: Batch | None = None
        self._left = set[Place]().union(*map(left_range, session.health))
        """Figures that left their range earlier in the run."""

    def measure(self) -> None:
        """Store the figures, and an event for each that leaves its range for the first time.

        Raises:
            DeviceError: out of memory.
        """
        session = self._session
        if self._sample is None:
            self._sample = self._first_sample().to(session.trainer.device)
        sample, trainer = self._sample, session.trainer
        rows, length = sample.inputs_BT.shape
        with errors_explained("the health figures", (rows, length)):
            figures: dict[str, Any] = health(
                trainer.model, sample, trainer.optimizer, trainer.update.max_grad_norm
            )
        row = HealthRow(session.attempt.number, trainer.step, figures, time.time())
        session.attempt.recorder.add(row)
        for reading in readings([row]):
            if reading.advice and reading.place not in self._left:
                self._left.add(reading.place)
                session.event("health", reading.words)

    def _first_sample(self) -> Batch:
        corpus, training = self._session.corpus, self._session.attempt.config.training
        tokens = corpus.tokens("validation")
        if training.data_mode == "stream":
            return StreamBatches(
                tokens, min(STREAMS, max(1, (len(tokens) - 1) // TOKENS)), TOKENS
            ).batch(0, 0)
        batches = evaluation_batches(
            tokens,
            corpus.offsets("validation"),
            data_mode=training.data_mode,
            context_length=min(training.context_length, TOKENS + 1),
            pad_id=corpus.manifest.pad_id,
            max_sentences=SENTENCES,
        )
        return next(batches)
