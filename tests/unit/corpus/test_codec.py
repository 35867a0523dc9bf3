"""Encoding prompts, decoding tokens at once and piece by piece, and stop strings."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.corpora import EosText

from .conftest import LINES, Builder

KINDS = ("byte", "character", "bpe", "word")
ALL_KINDS = (*KINDS, "tokenized")
"""With a text whose words are separated by spaces."""


def codec(
    build: Builder, folder: Path, kind: str, eos_text: EosText = "\n", *, eos: bool = True
) -> TextCodec:
    tokenized = kind == "tokenized"
    built = build("word" if tokenized else kind, 290, tokenized=tokenized, eos=eos)
    built.save(folder, eos_text)
    return TextCodec(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_reverses_encoding(build: Builder, tmp_path: Path, kind: str) -> None:
    codec_ = codec(build, tmp_path, kind)
    for line in LINES:
        expected = line if kind != "word" else line.replace("  ", " ").replace("\t", " ")
        assert codec_.decode(codec_.encode(line)) == expected


def test_end_tokens_are_decoded_and_padding_is_dropped(build: Builder, tmp_path: Path) -> None:
    texts: tuple[EosText, ...] = ("\n", " ")
    for eos_text in texts:
        codec_ = codec(build, tmp_path, "word", eos_text)
        first, second = codec_.encode("He said"), codec_.encode("must go")
        assert codec_.eos_id is not None
        assert (
            codec_.decode([*first, codec_.eos_id, *second, codec_.eos_id, codec_.pad_id])
            == f"He said{eos_text}must go{eos_text}"
        )


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_tokens_added_one_by_one_or_together_give_the_whole_text(
    build: Builder, tmp_path: Path, kind: str
) -> None:
    codec_ = codec(build, tmp_path, kind)
    rng = random.Random(4)
    real = [index for line in LINES for index in [*codec_.encode(line), codec_.eos_id or 0]]
    for ids in (
        real,
        [rng.randrange(codec_.vocab_size) for _ in range(2_000)],
        codec_.encode(LINES[3])[:-1],
    ):
        single, together, shown = codec_.incremental(), codec_.incremental(), ""
        whole = codec_.decode(ids)
        while ids:
            size = rng.randint(0, 30)
            piece = together.extend(ids[:size])
            assert piece == "".join(map(single.push, ids[:size]))
            if size:
                assert together.peek(ids[0]) == single.peek(ids[0])
            shown += piece
            ids = ids[size:]
        assert shown + together.flush() == whole


def test_a_token_is_looked_at_without_being_added(build: Builder, tmp_path: Path) -> None:
    decoder = codec(build, tmp_path, "byte").incremental()
    first, second = codec(build, tmp_path, "byte").encode("é")
    decoder.push(first)
    assert (decoder.peek(second), decoder.peek(first)) == ("é", "")
    assert decoder.push(second) == "é"


def test_a_prompt_that_continues_a_text_has_no_token_in_front(
    build: Builder, tmp_path: Path
) -> None:
    for kind in KINDS:
        codec_ = codec(build, tmp_path, kind)
        assert codec_.continuation_ids("The state") == codec_.encode("The state")
        assert codec_.continuation_ids("") == []
    assert codec(build, tmp_path, "word").continuation_ids("  ") == []


def test_no_piece_ends_inside_a_character(build: Builder, tmp_path: Path) -> None:
    codec_ = codec(build, tmp_path, "byte")
    decoder = codec_.incremental()
    pieces = [decoder.push(index) for index in codec_.encode("é🙂!")]
    assert pieces == ["", "é", "", "", "", "🙂", "!"]
    half = codec_.encode("é")[0]
    assert decoder.push(half) == ""
    assert decoder.flush() == "\ufffd"
    assert any(decoder.push(half) for _ in range(64)), "text that never ends isn't held back"


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_continuation_is_spaced_as_if_the_prompt_had_been_decoded_with_it(
    build: Builder, tmp_path: Path, kind: str
) -> None:
    codec_ = codec(build, tmp_path, kind)
    whole, prompt = "The state of the Union", "The state"
    later = codec_.encode(whole)[len(codec_.encode(prompt)) :]
    decoder = codec_.incremental(codec_.prompt_ids(prompt))
    assert prompt + "".join(map(decoder.push, later)) == whole


def test_a_prompt_starts_where_a_sentence_starts(build: Builder, tmp_path: Path) -> None:
    codec_ = codec(build, tmp_path, "bpe")
    assert codec_.prompt_ids("The state ") == [codec_.eos_id, *codec_.encode("The state")]
    assert codec_.prompt_ids("The state", after_end=False) == codec_.encode("The state")
    assert codec_.prompt_ids("") == [codec_.eos_id]
    assert codec_.prompt_ids("", after_end=False) == [codec_.eos_id]
    assert (
        codec(build, tmp_path, "byte").prompt_ids("a ")[-1]
        == codec(build, tmp_path, "byte").encode(" ")[0]
    )


def test_an_empty_prompt_needs_an_end_token(build: Builder, tmp_path: Path) -> None:
    codec_ = codec(build, tmp_path, "bpe", eos=False)
    assert codec_.prompt_ids("The") == codec_.encode("The")
    with pytest.raises(TokenizerError, match="prompt is empty"):
        codec_.prompt_ids("")


def test_unknown_characters_are_reported_once(build: Builder, tmp_path: Path) -> None:
    assert codec(build, tmp_path, "character").unknown_characters("Ж and й, Ж") == ["Ж", "й"]
    assert codec(build, tmp_path, "word").unknown_characters("The xylophone of the xylophone") == [
        "xylophone"
    ]
    assert codec(build, tmp_path, "byte").unknown_characters("Ж \ud800") == ["\ufffd"]
    assert codec(build, tmp_path, "bpe").unknown_characters("Ж 漢") == []


def test_any_text_can_be_encoded(build: Builder, tmp_path: Path) -> None:
    for kind in KINDS:
        codec_ = codec(build, tmp_path, kind)
        for text in ("\0\x1b[31m", "\ud83d alone", "<eos><pad>", "\n\n", "e\u0301" * 50):
            assert codec_.eos_id not in codec_.encode(text)
            codec_.decode(codec_.encode(text))


@pytest.mark.parametrize("damage", ["missing", "config", "tokenizer", "eos", "text"])
def test_missing_and_damaged_files_are_reported(
    build: Builder, tmp_path: Path, damage: str
) -> None:
    build("byte").save(tmp_path, "\n")
    config = tmp_path / "tokenizer_config.json"
    if damage == "missing":
        config.unlink()
    elif damage == "config":
        config.write_text("{}")
    elif damage == "tokenizer":
        (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    elif damage == "eos":
        config.write_text(config.read_text().replace("<eos>", "<nowhere>"))
    else:
        config.write_text(config.read_text().replace('"\\n"', '"x"'))
    with pytest.raises(
        TokenizerError, match="can't read the tokenizer" if damage == "missing" else "damaged"
    ):
        TextCodec(tmp_path)
