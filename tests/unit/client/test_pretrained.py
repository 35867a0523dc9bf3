"""The vocabulary size of a pretrained tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.client.pretrained import check_tokenizer, tokenizer_size
from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.config import TokenizerConfig
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.store.runs import list_runs
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.unit.cli.test_config import build_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path / "pieces", ["the cat sat on the mat and the dog ran"] * 20, 300)
    return tmp_path / "pieces"


def pretrained(folder: Path, *more: str) -> list[str]:
    return ["tokenizer.kind=pretrained", f"tokenizer.name={folder}", *more]


def test_the_size_equals_that_of_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    loaded: Any = AutoTokenizer.from_pretrained(str(folder))
    assert tokenizer_size(TokenizerConfig(kind="pretrained", name=str(folder))) == len(loaded)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["additional_special_tokens"] = ["<|more|>"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = AutoTokenizer.from_pretrained(str(folder))
    assert tokenizer_size(TokenizerConfig(kind="pretrained", name=str(folder))) == len(loaded)


def test_a_pretrained_tokenizer_sets_the_vocabulary_size(folder: Path) -> None:
    size = tokenizer_size(TokenizerConfig(kind="pretrained", name=str(folder)))
    assert build_config(None, None, pretrained(folder)).tokenizer.vocab_size == size != 2_048
    assert build_config("book", None, [f"tokenizer.name={folder}"]).tokenizer.vocab_size == size
    assert build_config("book", None, None) == BOOK


def test_a_size_set_by_the_user_is_kept_and_checked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = pretrained(folder, "tokenizer.vocab_size=500")
    assert build_config(None, None, wanted).tokenizer.vocab_size == 500
    (tmp_path / "a.txt").write_text("the cat sat on the mat\n" * 500)
    arguments = [
        part
        for assignment in (*wanted, f"corpus.source={tmp_path / 'a.txt'}")
        for part in ("--set", assignment)
    ]
    for verb in (
        ["train", "--detach"],
        ["train", "--draft"],
        ["estimate"],
        ["estimate", "--probe"],
    ):
        assert run([*verb, *arguments]) == 2
        assert "types, but tokenizer.vocab_size is 500" in capsys.readouterr().err
    assert list_runs() == []
    with pytest.raises(TokenizerError, match=r"tokenizer\.vocab_size is 500"):
        check_tokenizer(TokenizerConfig(kind="pretrained", name=str(folder), vocab_size=500))


def test_a_size_in_a_config_file_counts_as_set(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[tokenizer]\nvocab_size = 500\n")
    assert build_config(None, file, pretrained(folder)).tokenizer.vocab_size == 500


def test_a_hub_tokenizer_is_read_from_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    for path in folder.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        "huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub")
    )
    wanted = ["tokenizer.kind=pretrained", "tokenizer.name=owner/name"]
    size = tokenizer_size(TokenizerConfig(kind="pretrained", name=str(folder)))
    assert build_config(None, None, wanted).tokenizer.vocab_size == size
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match='cannot download the tokenizer "owner/name"'):
        build_config(None, None, wanted)


def test_a_tokenizer_that_cannot_be_downloaded_is_refused() -> None:
    with pytest.raises(
        TokenizerError, match=r'cannot download the tokenizer "owner/nowhere" to read its size'
    ) as refused:
        build_config(None, None, ["tokenizer.kind=pretrained", "tokenizer.name=owner/nowhere"])
    assert "set tokenizer.vocab_size" in refused.value.hint
    assert (
        build_config(
            None,
            None,
            [
                "tokenizer.kind=pretrained",
                "tokenizer.name=owner/nowhere",
                "tokenizer.vocab_size=300",
            ],
        ).tokenizer.vocab_size
        == 300
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"model": 3}', '{"model": {"vocab": {}}}'])
def test_a_damaged_tokenizer_has_no_known_size(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    (folder / "tokenizer_config.json").unlink()
    assert tokenizer_size(TokenizerConfig(kind="pretrained", name=str(folder))) is None
