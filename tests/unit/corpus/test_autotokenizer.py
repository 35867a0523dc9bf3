"""Tokenizer files for AutoTokenizer: a text gets the ids that our codec gives to it as a prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from rnnlm_tui.corpus.autotokenizer import AutoTokenizerFiles, autotokenizer_files
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, build_tokenizer
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TokenizerKind
from rnnlm_tui.schema.corpora import EosText, TextLayout
from tests.integration.runs import write_text

LAYOUTS: dict[TextLayout, EosText] = {"sentences": "\n", "lines": "\n", "raw": ""}
TEXTS = (
    "the cat",
    "  The  big dog. ",
    "Saw 1,234 birds",
    "naïve café – “old”\u00a0\u2028 x\t",
    "<eos> <pad> <unk>",
    "<eos>",
    "a\nb",
    "\n",
    "\n\nshe sat\n",
    "x \n y \n\n",
    "\x1c\x1d y \x1e\x1f",
    "日本語 🙂 e\u0301",
    " ",
)


@dataclass(frozen=True)
class Case:
    codec: TextCodec
    files: AutoTokenizerFiles
    tokenizer: Tokenizer
    """As AutoTokenizer sets it up: special tokens in a text are ordinary text."""
    after_end: bool


def case(folder: Path, *, after_end: bool) -> Case:
    codec = TextCodec(folder)
    files = autotokenizer_files(folder, codec, after_end=after_end)
    tokenizer = Tokenizer.from_str(json.dumps(files.tokenizer))
    tokenizer.encode_special_tokens = True
    return Case(codec, files, tokenizer, after_end)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = write_text(tmp_path_factory.mktemp("text") / "text.txt", sentences=200)
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("end", [True, False], ids=["end", "no end"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["word", "separate words", "character", "byte", "bpe"])
def test_texts_get_the_ids_of_our_prompts(
    kind: str, layout: TextLayout, end: bool, sentences: list[str], tmp_path: Path
) -> None:
    units = [line + "\n" for line in sentences] if layout == "raw" else sentences
    name = cast(TokenizerKind, "word" if kind == "separate words" else kind)
    built = build_tokenizer(
        TokenizerConfig(kind=name, vocab_size=300, end_of_sentence=end),
        CorpusConfig(source="x", lowercase=not end, mask_digits=end),
        lambda: iter([units]),
        size=sum(map(len, units)),
        tokenized=kind == "separate words",
        layout=layout,
    )
    built.save(tmp_path, LAYOUTS[layout], layout, "\n" if layout == "raw" else None)
    for after_end in (True, False):
        one = case(tmp_path, after_end=after_end)
        assert not one.files.notes
        for text in (*TEXTS, *(one + other for one in TEXTS for other in TEXTS[:6])):
            ids = one.codec.continuation_ids(text)  # of an empty prompt: none
            if ids or (after_end and layout != "raw" and end):
                ids = one.codec.prompt_ids(text, after_end=after_end)
            assert one.tokenizer.encode(text).ids == ids, (text, after_end)
        starts = one.files.start_id
        assert starts is None or [starts] == one.codec.prompt_ids("", after_end=after_end)
    if layout == "lines" and end:
        whole = "\n".join(sentences[:5])
        ids = one.codec.continuation_ids(whole)
        assert one.tokenizer.decode(ids) == one.codec.decode(ids) == whole
        assert "eos_token" not in one.files.config, "AutoTokenizer would make it special"


def pretrained(folder: Path, *, added: bool, line_break: bool) -> None:
    """A tokenizer as from a hub, with an end token that is the padding token too."""
    vocabulary = {"<end>": 0, "a": 1, "b": 2, "?": 3, **({"\n": 4} if line_break else {})}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken("<end>", special=True, normalized=False)])
    if added:
        tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    BuiltTokenizer(tokenizer, "pretrained", "?", "<end>", "?").save(folder, "\n", "lines")


@pytest.mark.parametrize("line_break", [True, False])
def test_what_a_pretrained_tokenizer_cannot_express_is_said(
    line_break: bool, tmp_path: Path
) -> None:
    pretrained(tmp_path, added=False, line_break=line_break)
    one = case(tmp_path, after_end=True)
    if line_break:
        assert "a line break in a text isn't an end token" in one.files.notes[0]
        assert one.tokenizer.encode("a b").ids == one.codec.prompt_ids("a b") == [0, 1, 2]
    else:
        assert not one.files.notes
        assert one.tokenizer.encode("a b\nb").ids == [0, 1, 2, 0, 2]
    pretrained(tmp_path, added=True, line_break=False)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    del config["rnnlm_layout"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "aren't removed" in case(tmp_path, after_end=True).files.notes[0]
