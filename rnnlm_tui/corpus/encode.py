"""Encode sentences into files of token ids and offsets: many at once, with exactly the same ids as
the tokenizer's."""

from __future__ import annotations

import re
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain, islice, repeat
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.sources import Advance, text_units
from rnnlm_tui.corpus.splits import END, UNIT, Piece, marked_units, read_blocks, staged_lines
from rnnlm_tui.corpus.text_files import LineReader
from rnnlm_tui.corpus.tokenizers import UNK, BuiltTokenizer, byte_names, folding_of, piece_finder
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.corpora import Split, SplitFacts, TextLayout, token_dtype
from rnnlm_tui.schema.formatting import share
from rnnlm_tui.system.machine import usable_cores
from rnnlm_tui.system.processes import child_environment, python_command

REPEAT_BYTES = 32
COUNTED_REPEATS = 20_000
NOTED_REPEATS = 0.01
"""Repeats: shortest length, most sentences to look for, and fraction for a note."""


PROCESS_BYTES = 1 << 24
MOST_PROCESSES = 8
"""A process encodes at least this much text, which takes two seconds, and needs 0.1 GB."""


class Repeats:
    """Count held-out sentences that occur in the training text.

    Short ones are ignored, because they repeat by chance.
    """

    def __init__(self) -> None:
        self._held: dict[Split, set[int]] = {}
        self._found: dict[Split, set[int]] = {}

    def hold(self, split: Split, batch: Sequence[bytes]) -> None:
        """Add sentences of a held-out split, up to `COUNTED_REPEATS`."""
        held = self._held.setdefault(split, set())
        for line in batch if len(held) < COUNTED_REPEATS else ():
            if len(line) >= REPEAT_BYTES:
                held.add(hash(line))

    def look(self, batch: Sequence[bytes]) -> None:
        """Look for held-out sentences in a batch of the training text."""
        hashes = list(map(hash, batch))
        for split, held in self._held.items():
            self._found.setdefault(split, set()).update(held.intersection(hashes))

    def notes(self, layout: TextLayout) -> list[str]:
        """A note for each split with at least a fraction of `NOTED_REPEATS` repeats."""
        notes, unit = [], "sentences" if layout == "sentences" else "lines"
        for split, held in self._held.items():
            found = len(self._found.get(split, ()))
            if found >= NOTED_REPEATS * max(1, len(held)):
                notes.append(
                    f"{found:,} of {len(held):,} {split} {unit} ({share(found / len(held))}) also"
                    " occur in the training text: the model may have memorized them"
                )
        return notes


class EncodedLines(NamedTuple):
    """The tokens of some lines of a plain file."""

    ids: NDArray[Any]
    """All of them, end tokens included."""
    lengths: NDArray[np.int64]
    """Tokens of each sentence (or other unit), without empty ones."""
    bytes: int
    """As in `SplitFacts`."""
    unknown: int
    """Tokens outside the vocabulary."""

    def send(self, pipe: Connection) -> None:
        """Send them as plain bytes: no pickles."""
        for part in (self.ids, self.lengths, np.array(self[2:])):
            pipe.send_bytes(part.tobytes())

    @classmethod
    def received(cls, pipe: Connection, dtype: np.dtype[Any]) -> Self:
        ids, lengths, (size, unknown) = (
            np.frombuffer(pipe.recv_bytes(), kind) for kind in (dtype, np.int64, np.int64)
        )
        return cls(ids, lengths, int(size), int(unknown))


class LineEncoder:
    """Encodes lines of a plain file, with end tokens."""

    def __init__(self, built: BuiltTokenizer, layout: TextLayout) -> None:
        self._built, self._layout = built, layout
        self._encode = marked_encoder(built)
        self.dtype: np.dtype[Any] = np.dtype(token_dtype(built.vocab_size))
        """Of the ids."""

    def __call__(self, block: bytes) -> EncodedLines:
        """The tokens of some lines."""
        marked = marked_units(block, self._layout)
        ids = self._encode(marked)
        marks = np.flatnonzero(ids >= END_ID)
        lengths = np.diff(marks, prepend=-1) - 1
        ended = (ids[marks] == END_ID) & (self._built.eos_id is not None)
        size = len(marked.encode(errors="surrogateescape")) - len(marks)
        if self._layout == "sentences" and not lengths.all():
            ended &= lengths > 0
            units = _MARKED.split(marked)[::2]
            size -= sum(len(units[place].encode()) for place in np.flatnonzero(lengths == 0))
        if self._layout != "raw":
            size += int(ended.sum())
        flat = np.delete(ids, marks[~ended])
        flat[flat == END_ID] = self._built.eos_id or 0
        unknown = 0 if self._built.unk_id is None else int((flat == self._built.unk_id).sum())
        lengths += ended
        return EncodedLines(flat.astype(self.dtype), lengths[lengths > 0], size, unknown)


def encode_file(path: Path, built: BuiltTokenizer, layout: TextLayout) -> Iterator[EncodedLines]:
    """The tokens of a UTF-8 text file, in parts and in constant memory: exactly those of a corpus
    with this file as a split, for a tokenizer that such a corpus could have.

    Raises:
        CorpusError: the file can't be read or isn't text.
    """
    encode, folding = LineEncoder(built, layout), folding_of(built.tokenizer)
    units = text_units(LineReader(path, lambda _: None), layout)
    lines = staged_lines(units, layout, folding)
    # few lines at once, because each may have 64 KB
    batches = iter(lambda: "".join(f"{line}\n" for line in islice(lines, 256)), "")
    return (encode(batch.encode()) for batch in batches)


def encode_split(
    split: Split,
    pieces: Sequence[Piece],
    encode: LineEncoder,
    folder: Path,
    advance: Advance,
    look: Callable[[Sequence[bytes]], None],
) -> tuple[SplitFacts, int]:
    """Write `{split}.bin` and `{split}.offsets.bin` (uint64, sentences + 1), in constant memory.

    Returns the split's facts, and its tokens outside the vocabulary.

    Args:
        folder: has the tokenizer, for the processes that encode a large text.
        look: called with each batch of sentences.
    """
    tokens = sentences = size = unknown = 0
    with (
        (folder / f"{split}.bin").open("wb") as token_file,
        (folder / f"{split}.offsets.bin").open("wb") as offset_file,
    ):
        offset_file.write(bytes(8))  # the offsets start with 0
        for block, part in _encoded(pieces, encode, folder):
            look(block[:-1].split(b"\n"))
            token_file.write(part.ids.tobytes())
            ends = np.cumsum(part.lengths) + tokens
            offset_file.write(ends.astype(np.uint64).tobytes())
            tokens += len(part.ids)
            sentences += len(part.lengths)
            size += part.bytes
            unknown += part.unknown
            advance(len(block))
    documents = sum(piece.documents for piece in pieces)
    facts = SplitFacts(documents=documents, sentences=sentences, tokens=tokens, bytes=size)
    return facts, unknown


def _encoded(
    pieces: Sequence[Piece], encode: LineEncoder, folder: Path
) -> Iterator[tuple[bytes, EncodedLines]]:
    """The blocks of a split and their tokens; of a large one by processes that take turns."""
    blocks, size = read_blocks(pieces), sum(piece.end - piece.start for piece in pieces)
    count = min(usable_cores(), MOST_PROCESSES, size // PROCESS_BYTES)
    if count < 2:
        yield from ((block, encode(block)) for block in blocks)
        return
    command = python_command("rnnlm_tui.corpus.encode", str(folder))
    environment = child_environment({"TOKENIZERS_PARALLELISM": "false"})
    waiting: deque[tuple[Connection, bytes]] = deque()
    try:
        with ExitStack() as stack:
            for _ in range(count):
                pipe, theirs = Pipe()
                with theirs:
                    stack.enter_context(Popen(command, stdin=theirs.fileno(), env=environment))
                waiting.append((stack.enter_context(pipe), b""))
            for block in chain(blocks, repeat(b"", count)):
                pipe, before = waiting.popleft()
                part = EncodedLines.received(pipe, encode.dtype) if before else None
                pipe.send_bytes(block)
                waiting.append((pipe, block))
                if part is not None:
                    yield before, part
    except (EOFError, ConnectionError) as error:
        raise CorpusError(
            "a process that encoded the text was killed",
            hint="the machine may be short of memory: close other programs and try again",
        ) from error


def encode_for_parent(folder: Path) -> None:
    """Encode the blocks that come through stdin, as a process of `_encoded`."""
    codec, pipe = TextCodec(folder), Connection(sys.stdin.fileno())
    encode = LineEncoder(codec.built, codec.layout)
    with suppress(EOFError, ConnectionError):
        while True:
            encode(pipe.recv_bytes()).send(pipe)


Ids = NDArray[np.uint32]
END_ID, UNIT_ID = 2**32 - 2, 2**32 - 1
_MARK_IDS = {END: END_ID, UNIT: UNIT_ID}
_MARKED = re.compile(f"([{UNIT}{END}])")

CACHED_PIECES = 200_000
"""Most pieces in a cache, about; a full cache is cleared to limit memory."""


def marked_encoder(built: BuiltTokenizer) -> Callable[[str], Ids]:
    """The fastest encoder of text from `marked_units`, with UNIT_ID and END_ID for its marks.

    Sentences have no white space at their ends.
    """
    built.tokenizer.encode_special_tokens = True  # "<eos>" in the text is ordinary text
    if built.kind == "byte":
        table = np.array([built.tokenizer.token_to_id(name) for name in byte_names()], np.uint32)
        table[-2:] = END_ID, UNIT_ID  # bytes that UTF-8 never has
        return lambda text: table[np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)]
    if built.kind == "character":
        table = np.full(0x110000, built.unk_id, np.uint32)
        for name, index in (built.tokenizer.get_vocab() | _MARK_IDS).items():
            if len(name) == 1:
                table[ord(name)] = index
        return lambda text: table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "u4")]
    find = piece_finder(built)
    return PieceCache(built, find) if find else lambda marked: _encode(built, marked)


class PieceCache(dict[str, bytes]):
    """Encode each piece of a text once, for a tokenizer whose tokens never cross pieces.

    Most of an ordinary text are pieces that occurred before. The ids of each one are the bytes of
    an array.
    """

    def __init__(self, built: BuiltTokenizer, find: Callable[[str], list[str]]) -> None:
        """
        Args:
            find: cuts marked text into pieces, as `piece_finder`.
        """
        self._find, self._model = find, built.tokenizer.model
        self._cut = built.tokenizer.pre_tokenizer.pre_tokenize_str
        named = (built.tokenizer.get_vocab() if built.kind == "word" else {}) | _MARK_IDS
        self._first = {name: index.to_bytes(4, sys.byteorder) for name, index in named.items()}
        self._unknown = self._first.get(UNK)
        super().__init__(self._first)

    def __call__(self, marked: str) -> Ids:
        if len(self) > len(self._first) + CACHED_PIECES:
            self.clear()
            self.update(self._first)
        pieces = self._find(marked)
        found = map(self.__getitem__, pieces)
        if self._unknown and marked.replace(END, "").replace(UNIT, "").isascii():
            found = map(self.get, pieces, repeat(self._unknown))  # many unknown ones: twice as fast
        return np.frombuffer(b"".join(found), np.uint32)

    def __missing__(self, piece: str) -> bytes:
        if self._unknown and piece.isascii():
            return self._unknown
        parts = (
            [piece.translate(_SIGNS)] if piece.isascii() else [part for part, _ in self._cut(piece)]
        )
        ids = array("I", [token.id for part in parts for token in self._model.tokenize(part)])
        self[piece] = ids.tobytes()
        return self[piece]


_SIGNS = dict(enumerate(byte_names()[:128]))
"""The signs of ASCII in byte-level models."""


def _encode(built: BuiltTokenizer, marked: str) -> Ids:
    """Encode whole units with the tokenizer, which uses all cores."""
    parts = _MARKED.split(marked)
    marks = ((_MARK_IDS[mark],) for mark in parts[1::2])
    ids = chain.from_iterable(zip(built.encode(parts[:-1:2]), marks, strict=True))
    return np.fromiter(chain.from_iterable(ids), np.uint32)


if __name__ == "__main__":
    encode_for_parent(Path(sys.argv[1]))
