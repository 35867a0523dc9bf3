"""Encoders cache the pieces of a text; `test_layout` compares their ids with the tokenizer's."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers

from rnnlm_tui.corpus import encode
from rnnlm_tui.corpus.encode import LineEncoder, PieceCache, encode_split, marked_encoder
from rnnlm_tui.corpus.splits import END, Piece
from rnnlm_tui.corpus.tokenizers import BLOCKS, WORDS, BuiltTokenizer, load_pretrained
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import TokenizerConfig
from rnnlm_tui.schema.corpora import SplitFacts, TextLayout
from tests.fakes.llama_tokenizer import write_tokenizer

from .conftest import LINES, Builder

TEXT = "\n".join(f"{line} {number}" for number in range(300) for line in LINES).encode() + b"\n"


def test_words_end_at_what_the_library_takes_for_white_space() -> None:
    text = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    found = pre_tokenizers.Split(Regex(r"\s+"), "removed").pre_tokenize_str(text)
    assert WORDS.findall(text) == [word for word, _ in found]
    assert "".join(BLOCKS.findall(text)) == text


@pytest.mark.parametrize("kind", ["bpe", "word"])
@pytest.mark.parametrize("layout", ["sentences", "lines"])
def test_every_short_text_has_the_ids_that_its_tokenizer_gives(
    build: Builder, kind: str, layout: TextLayout
) -> None:
    texts = [
        "".join(signs) for size in (1, 2, 3, 4) for signs in product("as1'<>.\t é٣", repeat=size)
    ]
    texts = [text for text in texts if layout == "lines" or text == text.strip()]
    lines = (*LINES, *texts[:200])
    built = build(kind, 330, lines=lines, eos=False, layout=layout)
    found = LineEncoder(built, layout)("".join(f"{text}\n" for text in texts).encode())
    wanted = built.encode(texts)
    assert found.lengths.tolist() == [len(ids) for ids in wanted]
    assert found.ids.tolist() == [index for ids in wanted for index in ids]


def test_pieces_are_cached_up_to_a_limit(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "CACHED_PIECES", 100)
    built = build("bpe")
    encoder = marked_encoder(built)
    assert isinstance(encoder, PieceCache)
    for first in range(0, 600, 60):
        text = " ".join(f"w{number}" for number in range(first, first + 60))
        assert encoder(text + END).tolist() == [*built.encode([text])[0], encode.END_ID]
        assert f" {first + 59}" not in encoder
        assert 60 <= len(encoder) <= 100 + 62 + 2


def test_nothing_has_no_ids(build: Builder) -> None:
    for kind in ("byte", "character", "word", "bpe"):
        part = LineEncoder(build(kind, eos=False, layout="lines"), "lines")(b"\n\n")
        assert (part.ids.tolist(), part.lengths.tolist(), part.bytes) == ([], [], 0)


def test_special_tokens_in_a_text_are_ordinary_text(build: Builder) -> None:
    built = build("bpe", 290, eos=False)
    assert build("bpe", 290).eos_id not in LineEncoder(built, "sentences")(b"a <eos> b\n").ids


def test_a_pretrained_tokenizer_of_the_shape_of_gpt_2_is_cached(
    build: Builder, tmp_path: Path
) -> None:
    build("bpe").save(tmp_path, "\n")
    size = write_tokenizer(tmp_path / "llama", list(LINES), 300)
    for folder, vocab_size, cached in ((tmp_path, 300, True), (tmp_path / "llama", size, False)):
        config = TokenizerConfig(
            kind="pretrained", name=str(folder), vocab_size=vocab_size, end_of_sentence=cached
        )
        assert isinstance(marked_encoder(load_pretrained(config)), PieceCache) is cached


@pytest.mark.parametrize("kind", ["bpe", "word", "character"])
def test_processes_encode_as_one(
    build: Builder, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = encoded(build(kind), tmp_path / "alone")
    monkeypatch.setattr(encode, "PROCESS_BYTES", 1)
    monkeypatch.setattr(encode, "usable_cores", lambda: 2)
    assert encoded(build(kind), tmp_path / "together") == alone


def test_a_killed_process_is_an_error(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "PROCESS_BYTES", 1)
    monkeypatch.setattr(encode, "usable_cores", lambda: 2)
    monkeypatch.setattr(encode, "python_command", lambda *_: [sys.executable, "-c", ""])
    with pytest.raises(CorpusError, match="a process that encoded the text was killed"):
        encoded(build("bpe"), tmp_path / "killed")


def encoded(built: BuiltTokenizer, folder: Path) -> tuple[SplitFacts, int, bytes, bytes]:
    """What `encode_split` returns and writes for TEXT."""
    folder.mkdir()
    built.save(folder, "\n")
    (folder / "text").write_bytes(TEXT)
    pieces = [Piece(folder / "text", 0, len(TEXT), 1)]
    encoder = LineEncoder(built, "sentences")
    facts, unknown = encode_split("train", pieces, encoder, folder, lambda _: None, lambda _: None)
    files = [(folder / f"train{end}").read_bytes() for end in (".bin", ".offsets.bin")]
    return facts, unknown, files[0], files[1]
