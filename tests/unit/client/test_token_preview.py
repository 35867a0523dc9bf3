"""A text's first lines are split by the tokenizer of its config, in a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client.corpora import token_preview
from rnnlm_tui.errors import CorpusError, InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.worker import token_preview as worker

LINES = "The cat sat on the mat.\nThe dog sat on the cat.\n" * 40


def config(source: Path, **tokenizer: object) -> RunConfig:
    return parse_config(
        merge(
            RunConfig(),
            {
                "corpus.source": str(source),
                **{f"tokenizer.{name}": value for name, value in tokenizer.items()},
            },
        )
    )


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(LINES)
    return tmp_path / "text.txt"


def test_the_tokens_are_those_of_the_configs_tokenizer(text: Path) -> None:
    found = token_preview(config(text, kind="bpe", vocab_size=270))
    assert found is not None
    assert found.exact
    assert "".join(found.lines[0]) == "The cat sat on the mat."
    assert 7 < len(found.lines[0]) < 23  # neither words nor characters


def test_it_can_be_cancelled(text: Path) -> None:
    assert token_preview(config(text), lambda: True) is None


@pytest.mark.parametrize("kind", ["word", "character", "byte", "bpe"])
def test_every_kind_splits_without_loss(text: Path, kind: str) -> None:
    found = worker.preview_tokens(config(text, kind=kind, vocab_size=270))
    joined = ["".join(line) for line in found.lines]
    assert joined[0].replace(" ", "") == "Thecatsatonthemat."
    assert found.whole


def test_a_long_text_is_read_in_part(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST_CHARACTERS", 1_000)
    found = worker.preview_tokens(config(text, kind="word", vocab_size=100))
    assert not found.whole
    assert 1_000 <= found.read_characters < 1_100


def test_errors_are_those_of_text_and_tokenizer(tmp_path: Path, text: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(CorpusError):
        worker.preview_tokens(config(tmp_path / "empty.txt"))
    with pytest.raises(InputError, match="too small for a BPE vocabulary"):
        token_preview(config(text, vocab_size=9_000))
