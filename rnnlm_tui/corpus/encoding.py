"""Sentences to token ids in flat files: one of ids, one of where each sentence begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rnnlm_tui.contract.corpora import Split, SplitFacts
from rnnlm_tui.corpus.encoders import EncodeLines
from rnnlm_tui.corpus.sources import Advance
from rnnlm_tui.corpus.staging import Piece, read_lines
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer

TokenDtype = Literal["uint16", "uint32"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What encoding a split has shown."""

    facts: SplitFacts
    unknown: int
    """Tokens outside the vocabulary."""


def token_dtype(vocab_size: int) -> TokenDtype:
    return "uint16" if vocab_size <= 65_536 else "uint32"


def encode_split(built: BuiltTokenizer, pieces: Sequence[Piece], folder: Path, split: Split, encode: EncodeLines, advance: Advance) -> Encoded:
    """Write `{split}.bin` and `{split}.offsets.bin` (uint64, one more than there are sentences), in constant memory."""
    eos, unk = built.eos_id, built.unk_id
    dtype = np.dtype(token_dtype(built.vocab_size))
    tokens = sentences = size = unknown = 0
    with (folder / f"{split}.bin").open("wb") as token_file, (folder / f"{split}.offsets.bin").open("wb") as offset_file:
        offset_file.write(np.zeros(1, np.uint64).tobytes())
        for batch in read_lines(pieces):
            ids, lengths = encode(batch)
            flat = ids.astype(dtype)
            if unk is not None:
                unknown += int((flat == unk).sum())
            kept = lengths > 0
            size += sum(len(line) for line, is_kept in zip(batch, kept, strict=True) if is_kept)
            lengths = lengths[kept]
            if eos is not None:
                flat = np.insert(flat, np.cumsum(lengths), dtype.type(eos))
                lengths = lengths + 1
                size += len(lengths)
            token_file.write(flat.tobytes())
            offset_file.write((np.cumsum(lengths) + tokens).astype(np.uint64).tobytes())
            tokens += len(flat)
            sentences += len(lengths)
            advance(sum(map(len, batch)) + len(batch))
    facts = SplitFacts(documents=sum(piece.documents for piece in pieces), sentences=sentences, tokens=tokens, bytes=size)
    return Encoded(facts, unknown)
