"""Layouts: sentences, lines and raw text, and the automatic choice."""

from __future__ import annotations

import hashlib
import random
import re
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given, settings, strategies

from rnnlm_tui.corpus import text_files
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus, prepare_corpus
from rnnlm_tui.corpus.encode import encode_file
from rnnlm_tui.corpus.sources import layout_of, open_source
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, build_tokenizer
from rnnlm_tui.errors import CorpusError, TokenizerError
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.corpora import SPLITS, TextLayout
from tests.fakes.llama_tokenizer import write_tokenizer

SMALL = TrainingConfig(batch_size=2)
PROSE = "".join(
    f"{who} {what} the {where}, {number} times.\n"
    for who in ("Ann", "Bob", "Zoë")
    for what in ("saw", "left")
    for where in ("sea", "hill")
    for number in range(20)
)
CODE = "".join(
    f'def rule_{number}(value: int) -> int:\n    """Rule {number}."""\n\tif value:   \n\n'
    f"        return value - {number}\r\n    return 0\n\n\n"
    for number in range(60)
)
PLAY = "".join(
    f"SPEAKER {number}:\nWhat light through yonder window breaks,\n"
    "It is the east, and Juliet is the sun\nArise fair sun\n\n"
    for number in range(40)
)
KINDS = ("byte", "character", "word", "bpe")


def tokenizer(kind: str, vocab_size: int = 2_000) -> TokenizerConfig:
    return TokenizerConfig.model_validate(
        {"kind": kind, "vocab_size": 300 if kind == "bpe" else vocab_size}
    )


def prepare(root: Path, corpus: CorpusConfig, config: TokenizerConfig) -> PreparedCorpus:
    return prepare_corpus(corpus, config, SMALL, root / "corpora", lambda _: None)


def decoded(prepared: PreparedCorpus) -> str:
    codec = TextCodec(prepared.path)
    return "".join(codec.decode(prepared.tokens(split).tolist()) for split in SPLITS)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_files_of_a_folder_are_decoded_one_by_one(tmp_path: Path, kind: str) -> None:
    rng = random.Random(9)
    folder = tmp_path / "src"
    folder.mkdir()
    texts = {f"{index:02}.py": CODE[: rng.randrange(200, 900)] for index in range(12)}
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    prepared = prepare(tmp_path, CorpusConfig(source=str(folder)), tokenizer(kind))
    codec = TextCodec(prepared.path)
    found: list[str] = []
    for split in SPLITS:
        held: list[int] = []
        for index in prepared.tokens(split).tolist():
            held.append(index)
            if index == prepared.manifest.eos_id:
                found.append(codec.decode(held))
                held = []
        assert held == [], "each document ends with an end token"
    if kind in ("byte", "bpe"):
        assert sorted(found) == sorted(texts.values())
    assert len(found) == 12
    assert prepared.manifest.layout == "raw"
    size = sum(facts.bytes for facts in prepared.manifest.splits.values())
    assert size == sum(len(text.encode()) for text in texts.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["lines", "raw"])
def test_code_and_a_prompt_keep_their_indentation_and_blank_lines(
    tmp_path: Path, kind: str, layout: TextLayout
) -> None:
    code = CODE if layout == "raw" else CODE.replace("\r", "")
    (tmp_path / "a.py").write_bytes(code.encode())
    corpus = CorpusConfig(source=str(tmp_path / "a.py"), layout=layout)
    prepared = prepare(tmp_path, corpus, tokenizer(kind))
    codec, tokens = TextCodec(prepared.path), prepared.tokens("train").tolist()
    train = codec.decode(tokens)
    if kind in ("byte", "bpe"):
        assert decoded(prepared) == code
    assert code.startswith(train)
    assert prepared.manifest.splits["train"].sentences == train.count("\n")
    prompt = "\n".join(code.split("\n")[:12])
    ids = codec.prompt_ids(prompt, after_end=False)
    assert ids == tokens[: len(ids)]
    assert codec.decode(ids) == prompt
    if layout == "raw":  # an empty prompt begins a line where there is one document
        assert codec.decode(codec.prompt_ids("")) == "\n"


def test_an_empty_prompt_starts_a_document_if_there_are_many(tmp_path: Path) -> None:
    for index in range(20):
        (tmp_path / f"{index}.py").write_bytes(CODE.encode())
    prepared = prepare(tmp_path, CorpusConfig(source=str(tmp_path)), tokenizer("byte"))
    assert TextCodec(prepared.path).prompt_ids("") == [prepared.manifest.eos_id]


def test_code_is_raw_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(CODE.encode())
    (tmp_path / "b.md").write_bytes(PROSE[:500].encode())
    source = open_source(CorpusConfig(source=str(tmp_path)), tmp_path)
    assert (source.layout, source.eos_text) == ("raw", "")
    assert source.notes[0] == "layout raw, chosen automatically: 1 of 2 files are code (.py)"
    prepared = prepare(tmp_path, CorpusConfig(source=str(tmp_path / "a.py")), tokenizer("byte"))
    assert prepared.manifest.notes[0] == "layout raw, chosen automatically: the file is code (.py)"


def test_a_play_is_raw_and_prose_is_sentences() -> None:
    assert layout_of(PLAY)[0] == "raw"
    assert (
        layout_of(PLAY)[1]
        == "0 % of its lines end like a sentence and 24 % are followed by a blank line"
    )
    assert layout_of(CODE)[0] == "raw"
    assert layout_of("one long line without any break " * 4_000)[0] == "raw"
    assert layout_of(PROSE) == ("sentences", "")
    assert layout_of(PROSE.replace("\n", "\n\n"))[0] == "sentences"
    tokenized = (
        " no it was n't black monday \n but while the new york stock exchange did n't fall apart \n"
        * 50
    )
    assert layout_of(tokenized)[0] == "sentences", "text set apart by spaces has a sentence a line"


def test_a_configured_layout_overrides_the_automatic_choice(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(CODE.encode())
    for layout in ("sentences", "lines", "raw"):
        source = open_source(
            CorpusConfig.model_validate({"source": str(tmp_path / "a.py"), "layout": layout}),
            tmp_path,
        )
        assert (source.layout, source.notes) == (layout, [])


BEFORE = {
    "byte": "d49717bb0e8c73f570488b64e96b1c1ceb769510e0b552c8b3bc3d98ae920696",
    "word": "b2fef7daa0857cdb0189fb97081d47726ce424a4a5b2c99f6b41578f15db0c29",
    "character": "bdf5e93ba05588f7fa9f93ebc84c20babf52091cdd4fb4dcab870c2510cd5a89",
    "bpe": "460b9531c6d85b1b214005b8ba5da3b4b28ad2bbc2bf13ce2b083e30de84a452",
}
"""The SHA-256 of the files of a corpus, as earlier versions made them."""


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_are_unchanged_since_earlier_versions(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.txt").write_bytes(PROSE.encode())
    config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": 300})
    prepared, same = (
        prepare(
            tmp_path,
            CorpusConfig.model_validate({"source": str(tmp_path / "a.txt"), "layout": layout}),
            config,
        )
        for layout in ("auto", "sentences")
    )
    names = [f"{split}{end}" for split in SPLITS for end in (".bin", ".offsets.bin")]
    files = b"".join((prepared.path / name).read_bytes() for name in [*names, "tokenizer.json"])
    assert hashlib.sha256(files).hexdigest() == BEFORE[kind]
    assert prepared.manifest.notes == ()
    assert same.path == prepared.path


def test_one_line_of_raw_text_can_be_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"the quick brown fox jumps " * 4_000)
    prepared = prepare(tmp_path, CorpusConfig(source=str(tmp_path / "a.txt")), tokenizer("byte"))
    assert (
        prepared.manifest.notes[0]
        == "layout raw, chosen automatically: the text has almost no line breaks"
    )
    assert decoded(prepared) == "the quick brown fox jumps " * 4_000
    shares = {split: facts.bytes / 104_000 for split, facts in prepared.manifest.splits.items()}
    assert 0.04 < shares["test"] < 0.06
    assert 0.03 < shares["validation"] < 0.06


def test_a_record_with_a_nul_is_rejected_in_raw_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\u0000b"}\n' * 50, encoding="utf-8")
    with pytest.raises(CorpusError, match="NUL"):
        prepare(
            tmp_path,
            CorpusConfig(source=str(tmp_path / "a.jsonl"), layout="raw"),
            tokenizer("byte"),
        )


def test_a_pretrained_tokenizer_that_changes_white_space_is_rejected_for_raw_text(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.py").write_bytes(CODE.encode())
    first = prepare(tmp_path, CorpusConfig(source=str(tmp_path / "a.py")), tokenizer("bpe"))
    lossless = TokenizerConfig(kind="pretrained", name=str(first.path), vocab_size=300)
    prepared = prepare(tmp_path, CorpusConfig(source=str(tmp_path / "a.py")), lossless)
    assert decoded(prepared) == CODE
    (tmp_path / "b.txt").write_bytes(PROSE.encode())
    words = prepare(tmp_path, CorpusConfig(source=str(tmp_path / "b.txt")), tokenizer("word", 300))
    lossy = TokenizerConfig(
        kind="pretrained", name=str(words.path), vocab_size=words.manifest.vocab_size
    )
    with pytest.raises(
        TokenizerError, match=r"changes .* to .*, but the layout raw needs every character"
    ) as raised:
        prepare(tmp_path, CorpusConfig(source=str(tmp_path / "a.py")), lossy)
    assert "tokenizer.kind to bpe" in raised.value.hint


WORDS = (
    "foo", "Zoë", "don't", "1,000", "漢字", "🙂", "e\u0301", "_name", "’s", "(x)", "<eos>", "<unk>",
    "¼", "…", "ab" * 15,
)  # fmt: skip
SPACES = (" ", " ", "  ", "\t", "\n", "\r\n", "\r", "   ", "\u00a0", "\u2028", "\x1c", "\v", "")


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("separate words", "sentences"), *product((*KINDS, "pretrained"), get_args(TextLayout))],
)
@settings(deadline=None)
@given(
    parts=strategies.lists(
        strategies.sampled_from(WORDS)
        | strategies.sampled_from(SPACES)
        | strategies.text(
            strategies.characters(exclude_characters="\0", codec="utf-8"), max_size=9
        ),
        max_size=60,
    ),
    times=strategies.sampled_from((1, 5)),
    block=strategies.integers(3, 400),
)
def test_a_text_has_the_ids_that_its_tokenizer_gives_for_the_whole(
    parts: list[str], times: int, block: int, kind: str, layout: TextLayout
) -> None:
    text = "".join(parts) * times  # repeated words are cached
    built = built_for(kind, layout)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / "a.txt").write_bytes(text.encode())
        patch.setattr(text_files, "_BLOCK", block)
        patch.setattr(text_files, "_KINDS", ())  # a short text may begin as a picture does
        patch.setattr(text_files, "MAX_UNIT", 100)
        found = [part.ids for part in encode_file(Path(folder) / "a.txt", built, layout)]
    units = [text] if layout == "raw" else re.split("\r\n|\r|\n", text)
    if layout == "sentences":
        units = [unit.strip() for unit in [units[0].removeprefix("\ufeff"), *units[1:]]]
        units = [unit for unit in units if unit]
    elif not units[-1]:
        units.pop()
    wanted = [
        [*built.tokenizer.encode(unit, add_special_tokens=False).ids, built.eos_id]
        for unit in units
    ]
    ids = [int(index) for part in found for index in part]
    assert ids == [index for unit in wanted for index in unit]
    if layout != "sentences" and kind in ("byte", "bpe", "pretrained"):
        back = built.tokenizer.decode(ids, skip_special_tokens=False)
        assert back == "".join(f"{unit}<eos>" for unit in units)


@cache
def built_for(kind: str, layout: TextLayout) -> BuiltTokenizer:
    """A tokenizer of prose and code; the pretrained one is that of Llama, or one without loss."""
    lines = [f"{line}\n" for line in (PROSE + CODE).split("\n")]
    separate = kind == "separate words"
    name, size = None, 350 if kind in ("bpe", "pretrained") else 2_000
    with TemporaryDirectory() as folder:
        if kind == "pretrained" and layout == "sentences":
            name, size = folder, write_tokenizer(Path(folder), lines, size)
        elif kind == "pretrained":
            name = folder
            built_for("bpe", "lines").save(Path(folder), "\n", layout)
        return build_tokenizer(
            TokenizerConfig.model_validate(
                {"kind": "word" if separate else kind, "name": name, "vocab_size": size}
            ),
            CorpusConfig(), lambda: iter([lines]), size=1_000, layout=layout,
            tokenized=separate,
        )  # fmt: skip
