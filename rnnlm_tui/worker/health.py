"""HealthWatch: measures the net's health at evaluations and reports what leaves its range."""

from __future__ import annotations

import time

from rnnlm_tui.engine.batches import Batch, SentenceBatches, StreamBatches
from rnnlm_tui.engine.device import errors_explained
from rnnlm_tui.engine.health import health
from rnnlm_tui.schema.health import HealthRow, readings
from rnnlm_tui.worker.session import Session

STREAMS, TOKENS = 8, 64
"""Of the sample of a stream."""
SENTENCES = 16
"""Of the sample of separate sentences, each cut to `TOKENS`."""
MOST_TIME = 0.01
"""Share of the training time that may have been spent before the next measurement."""


class HealthWatch:
    """Measures the health of a trainer's model on the same sample of the validation text.

    Training is the same with and without it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sample: Batch | None = None
        self._seconds = 0.0
        self._left = {
            (one.part, one.name) for row in session.health for one in readings([row]) if one.advice
        }
        """Figures that left their range earlier in the run."""

    def measure(self) -> None:
        """Store the figures, and an event for each that leaves its range for the first time; leave
        them out if those before took too much of the training time.

        Raises:
            DeviceError: out of memory.
        """
        session, trainer, began = self._session, self._session.trainer, time.perf_counter()
        if self._seconds > MOST_TIME * trainer.active_seconds:
            return
        if self._sample is None:
            self._sample = self._first_sample().to(trainer.device)
        rows, length = self._sample.inputs_BT.shape
        with errors_explained("the health figures", (rows, length)):
            figures = health(trainer.update, self._sample)
        row = HealthRow(session.attempt.number, trainer.step, {**figures}, time.time())
        session.attempt.recorder.add(row)
        for one in readings([row]):
            if one.advice and (one.part, one.name) not in self._left:
                self._left.add((one.part, one.name))
                session.event("health", one.words)
        self._seconds += time.perf_counter() - began

    def _first_sample(self) -> Batch:
        corpus, training = self._session.corpus, self._session.attempt.config.training
        tokens = corpus.tokens("validation")
        if training.data_mode == "stream":
            streams = min(STREAMS, max(1, (len(tokens) - 1) // TOKENS))
            return StreamBatches(tokens, streams, TOKENS).batch(0, 0)
        offsets, pad_id = corpus.offsets("validation"), corpus.manifest.pad_id
        longest = min(training.context_length, TOKENS + 1)
        return SentenceBatches(tokens, offsets, SENTENCES, longest, pad_id, shuffle=False).batch(
            0, 0
        )
