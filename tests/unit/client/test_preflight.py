"""Checks before a run is created."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rnnlm_tui.client import gpus, start
from rnnlm_tui.client.gpus import check_device, check_precision
from rnnlm_tui.client.pretrained import check_tokenizer
from rnnlm_tui.client.start import (
    check_before_start,
    check_corpus,
)
from rnnlm_tui.errors import CorpusError, DeviceError, TokenizerError
from rnnlm_tui.schema.config import (
    CorpusConfig,
    RunConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.presets import PRESETS
from tests.fakes.nvml import NO_DRIVER, replay


def source(path: Path) -> CorpusConfig:
    return CorpusConfig(source=str(path))


@pytest.mark.parametrize("name", ["presidents", "elman"])
def test_the_built_in_corpora_pass(name: str) -> None:
    check_before_start(RunConfig(corpus=CorpusConfig(source=name)))


def test_a_missing_test_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.txt"):
        check_corpus(CorpusConfig(source="elman", test_source=str(tmp_path / "none.txt")))


def test_only_the_beginning_of_a_long_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"a line of text\n" * 300_000 + b"\xff\n")
    monkeypatch.setattr(start, "MAX_READ_BYTES", 100_000)
    check_corpus(source(path))
    monkeypatch.setattr(start, "MAX_READ_BYTES", 100_000_000)
    with pytest.raises(CorpusError, match="UTF-8"):
        check_corpus(source(path))


def test_a_device_that_this_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, NO_DRIVER)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    for device in ("cuda", "cuda:3", "mps"):
        with pytest.raises(DeviceError, match=device):
            check_device(device)
    check_device("auto")
    check_device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match='CUDA_VISIBLE_DEVICES="" hides all GPUs'):
        check_device("cuda")


def test_a_missing_tokenizer_folder_is_refused_and_a_hub_name_accepted(
    tmp_path: Path,
) -> None:
    with pytest.raises(TokenizerError, match="tokenizer folder not found"):
        check_tokenizer(TokenizerConfig(kind="pretrained", name=str(tmp_path / "none")))
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.json"):
        check_tokenizer(TokenizerConfig(kind="pretrained", name=str(tmp_path)))
    (tmp_path / "tokenizer.json").write_text("{}")
    check_tokenizer(TokenizerConfig(kind="pretrained", name=str(tmp_path)))
    check_tokenizer(TokenizerConfig(kind="pretrained", name="owner/name"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("train", "no ptb.valid.txt and no ptb.test.txt"),
        ("train test", "no ptb.valid.txt"),
        ("train valid", "no ptb.test.txt"),
    ],
)
def test_only_penn_treebank_presets_need_all_three_files(
    files: str, words: str, tmp_path: Path
) -> None:
    for name in files.split():
        (tmp_path / f"ptb.{name}.txt").write_text("a b c d\n" * 2_000, encoding="utf-8")
    config = PRESETS["ptb-small"].model_copy(update={"corpus": source(tmp_path)})
    with pytest.raises(CorpusError, match=f"^{words} beside ptb.train.txt"):
        check_before_start(config)
    check_before_start(config.model_copy(update={"preset": "lstm"}))
    for name in ("train", "valid", "test"):
        (tmp_path / f"ptb.{name}.txt").write_text("a b c d\n" * 2_000, encoding="utf-8")
    check_before_start(config)


@pytest.mark.parametrize(
    ("device", "cards", "shown"),
    [("cpu", 1, "cpu"), ("mps", 1, "mps"), ("auto", 0, "cpu"), ("cuda", 0, "cuda")],
)
def test_bf16_is_refused_without_a_gpu_with_the_engines_message(
    device: str, cards: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "gpu_count", lambda: cards)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr("sys.platform", "linux")
    needs = "training.precision is bf16, which needs a CUDA GPU with bf16"
    with pytest.raises(DeviceError, match=f"^{needs}; the device is {shown}\n"):
        check_precision(TrainingConfig(precision="bf16", device=device))
    check_precision(TrainingConfig(device=device))


def test_bf16_with_a_gpu_is_checked_by_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpus, "gpu_count", lambda: 1)
    for device in ("auto", "cuda", "cuda:0"):
        check_precision(TrainingConfig(precision="bf16", device=device))


def test_the_check_imports_nothing_heavy_and_writes_nothing(home: Path) -> None:
    code = (
        "import sys; from rnnlm_tui.schema.config import RunConfig; from rnnlm_tui.client.start"
        " import check_before_start; check_before_start(RunConfig())\nprint(sorted({'torch',"
        " 'numpy', 'tokenizers', 'pandas'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        == "[]\n"
    )
    assert not home.exists()


def test_news_passes_before_the_download_and_is_checked_afterwards(
    home: Path,
) -> None:
    check_corpus(CorpusConfig(source="news"))
    check_corpus(CorpusConfig(source="elman", test_source="news"))
    assert not home.exists()
    folder = home / "corpora" / "news"
    folder.mkdir(parents=True)
    for name in ("train.txt", "test.txt"):
        (folder / name).write_text("a b c\n", encoding="utf-8")
    check_corpus(CorpusConfig(source="news"))
