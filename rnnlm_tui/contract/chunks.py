"""How much of logits and of token ids is held at once; the engine computes by it, estimates count by it."""

from __future__ import annotations

CHUNK_BYTES = 24_000_000
"""Memory of the logits that are held at once: a chunk of rows this large keeps the matrix products busy, and half of it costs a
tenth of the speed (measured)."""

SMALLEST_CHUNK = 64
"""Rows, however large the vocabulary is."""

RESIDENT_SHARE = 0.25
"""Token ids may take this share of a GPU's free memory."""


def chunk_rows(vocab_size: int, chunk_bytes: int = CHUNK_BYTES, number_bytes: int = 4) -> int:
    """Rows of a chunk for this vocabulary, for logits of float32 or of `number_bytes`."""
    return max(SMALLEST_CHUNK, chunk_bytes // (vocab_size * number_bytes))
