"""Chunk sizes for logits and token ids, used by the engine and by memory estimates."""

from __future__ import annotations

CHUNK_BYTES = 24_000_000
"""Logits are computed in chunks of this size on a CPU; half of it would cost a tenth of the speed (measured)."""

GPU_CHUNK_BYTES = 256_000_000
"""The chunk size on a GPU, whose matmuls need more rows (calculated, not measured)."""

SMALLEST_CHUNK = 64
"""Fewest rows in a chunk, for any vocabulary."""

WINDOW_CHUNK, LONGEST_WHOLE_WINDOW = 128, 256
"""mLSTM computes a window as one T x T matrix per head; windows of 256 steps or more are computed in
chunks, because the matrix grows quadratically."""

EVALUATED_STREAMS, EVALUATED_WINDOW, EVALUATED_SENTENCES = 16, 128, 128
"""Shape of evaluation batches: streams and their time steps, or sentences."""

RESIDENT_SHARE = 0.25
"""Largest fraction of a GPU's free memory for token ids."""


def chunk_rows(vocab_size: int, chunk_bytes: int = CHUNK_BYTES, number_bytes: int = 4) -> int:
    """Rows of a chunk for logits with `number_bytes` per number."""
    return max(SMALLEST_CHUNK, chunk_bytes // (vocab_size * number_bytes))
