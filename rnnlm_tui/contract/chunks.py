"""How much of logits and of token ids is held at once; the engine computes by it, estimates count by it."""

from __future__ import annotations

CHUNK_BYTES = 24_000_000
"""Memory of the logits that are held at once: a chunk of rows this large keeps the matrix products busy, and half of it costs a
tenth of the speed (measured)."""

GPU_CHUNK_BYTES = 256_000_000
"""The same on a GPU, whose products need more rows to be busy (by arithmetic, not measured)."""

SMALLEST_CHUNK = 64
"""Rows, however large the vocabulary is."""

WINDOW_CHUNK, LONGEST_WHOLE_WINDOW = 128, 256
"""mLSTM computes a window as one matrix of T x T a head; from 256 steps on it goes in chunks, since the matrix grows with the square."""

EVALUATED_STREAMS, EVALUATED_WINDOW, EVALUATED_SENTENCES = 16, 128, 128
"""Shape of an evaluation's batches: streams and their steps, or sentences."""

RESIDENT_SHARE = 0.25
"""Token ids may take this share of a GPU's free memory."""


def chunk_rows(vocab_size: int, chunk_bytes: int = CHUNK_BYTES, number_bytes: int = 4) -> int:
    """Rows of a chunk for this vocabulary, for logits of float32 or of `number_bytes`."""
    return max(SMALLEST_CHUNK, chunk_bytes // (vocab_size * number_bytes))
