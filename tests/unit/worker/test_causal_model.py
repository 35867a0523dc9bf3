"""Models of other programs: their loss of a text is that of a plain sliding window, and a folder
without a usable causal model is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnnlm_tui.errors import CorpusError, InputError, RnnlmError
from rnnlm_tui.schema.sampling import (
    CacheSettings,
    FolderReading,
    InspectedToken,
    ScoreDone,
    ScorePiece,
    ScoreRequest,
)
from rnnlm_tui.worker.answers import Answers
from rnnlm_tui.worker.causal_model import CausalModel, open_folder, windows
from tests.fakes.llama_tokenizer import write_tokenizer

LINES = ["Zoë saw 日本, and left 1,234 times.", "", "  Ann <unk> the sea; Bob left.", "x"] * 8
TEXT = "\n".join(LINES)
OWN_CODE = """from transformers import GPT2Config, GPT2LMHeadModel
class OwnConfig(GPT2Config):
    model_type = "own"
class OwnLM(GPT2LMHeadModel):
    config_class = OwnConfig
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of each kind: `llama`, whose tokenizer puts a token before a text,
    and `gpt2`, whose tokenizer has bytes as tokens and adds none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    place = tmp_path_factory.mktemp("models")
    types = write_tokenizer(place / "llama", LINES, 300)
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
    torch.manual_seed(5)
    llama = LlamaConfig(vocab_size=types, intermediate_size=24, max_position_embeddings=48, **sizes)
    LlamaForCausalLM(llama).save_pretrained(place / "llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(  # type: ignore[call-arg]
        vocab_size=280, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES[1:], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    fast.save_pretrained(place / "gpt2")
    gpt2 = GPT2Config(
        vocab_size=len(fast), n_embd=16, n_layer=2, n_head=2, n_positions=40, initializer_range=0.4
    )
    GPT2LMHeadModel(gpt2).save_pretrained(place / "gpt2")
    return place


def score(
    folder: Path, text: str, path: Path, **reading: Any
) -> tuple[list[InspectedToken], ScoreDone]:
    path.write_text(text, encoding="utf-8")
    request = ScoreRequest(
        id="a",
        checkpoint=str(folder),
        path=str(path),
        tokens=True,
        folder=FolderReading(**reading),
    )
    *pieces, done = Answers().of(request, lambda: False)
    assert isinstance(done, ScoreDone)
    return [token for one in pieces if isinstance(one, ScorePiece) for token in one.tokens], done


def plain_nats(folder: Path, ids: list[int], window: int, stride: int) -> tuple[float, int]:
    """Summed loss and scored tokens, as in Hugging Face's guide to perplexity."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    total, scored, previous = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        inputs = torch.tensor([ids[begin:end]])
        labels = inputs.clone()
        labels[:, : -(end - previous)] = -100
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += float(model(inputs, labels=labels).loss) * count
        scored, previous = scored + count, end
        if end == len(ids):
            break
    return total, scored


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(("window", "stride"), [(None, None), (24, 5), (9, 8)])
def test_a_text_is_scored_as_by_a_plain_sliding_window(
    kind: str, window: int | None, stride: int | None, folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokens, done = score(folder / kind, TEXT, tmp_path / "text", window=window, stride=stride)
    tokenizer = AutoTokenizer.from_pretrained(folder / kind)
    ids = tokenizer(TEXT, split_special_tokens=True)["input_ids"]
    context = 48 if kind == "llama" else 40
    read = window or context, stride or context // 2
    nats, scored = plain_nats(folder / kind, ids, *read)
    assert (done.window, done.stride) == read
    assert done.start == ("<s>" if kind == "llama" else "")
    assert done.tokens == scored == len(ids) - 1
    assert done.loss == pytest.approx(nats / scored, abs=1e-5)
    unscored = 0 if kind == "llama" else len(tokens[0].text.encode())
    assert (done.bytes, done.scored_bytes) == (len(TEXT.encode()), len(TEXT.encode()) - unscored)
    assert done.bits_per_byte == pytest.approx(nats / math.log(2) / done.scored_bytes, abs=1e-5)
    assert [token.token for token in tokens] == ids
    assert "".join(token.text for token in tokens) == TEXT
    assert sum(token.bits or 0 for token in tokens) * math.log(2) == pytest.approx(nats, abs=1e-3)
    assert tokens[0].bits is None


def test_every_token_is_scored_once_after_enough_others() -> None:
    for count, first, window in ((1, 1, 2), (2, 1, 2), (50, 1, 7), (50, 3, 8), (64, 1, 64)):
        for stride in range(1, window + 1):
            seen = []
            for begin, done, end in windows(count, first, window, stride):
                assert end - 1 - begin <= window
                assert begin == 0 or done - begin >= max(1, window - stride)
                seen += range(done, end)
            assert seen == list(range(first, count))


def test_lines_are_scored_each_on_its_own(folder: Path, tmp_path: Path) -> None:
    for kind in ("llama", "gpt2"):
        model = open_folder(folder / kind, "cpu", FolderReading())
        assert isinstance(model, CausalModel)
        found = list(model.score_lines(["日本", *LINES[:3]]))
        assert (found[2].tokens, found[2].bytes, found[2].nats) == (0, 0, 0.0)
        for line, one in zip(["日本", *LINES[:3]], found, strict=True):
            if line:
                _, done = score(folder / kind, line, tmp_path / "line")
                assert (one.tokens, one.bytes) == (done.tokens, done.scored_bytes)
                assert one.nats == pytest.approx(done.loss * done.tokens, rel=1e-6)
    assert found[0].bytes == 5, "the first byte of six isn't predicted"


def changed(**config: object) -> Callable[[Path], None]:
    """A change to config.json."""

    def change(place: Path) -> None:
        path = place / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))

    return change


def look_ahead(place: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    sizes = {"vocab_size": 300, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertLMHeadModel(BertConfig(initializer_range=0.5, **sizes)).save_pretrained(place)


def rename_weights(place: Path) -> None:
    (place / "model.safetensors").rename(place / "pytorch_model.bin")


def remove_tokenizer(place: Path) -> None:
    for path in place.glob("tokenizer*"):
        path.unlink()


def bring_code(place: Path) -> None:
    (place / "modeling_own.py").write_text(OWN_CODE)
    classes = {"AutoConfig": "OwnConfig", "AutoModelForCausalLM": "OwnLM"}
    auto_map = {name: f"modeling_own.{one}" for name, one in classes.items()}
    changed(model_type="own", architectures=["OwnLM"], auto_map=auto_map)(place)


@pytest.mark.parametrize(
    ("damage", "reading", "words"),
    [
        (shutil.rmtree, {}, "model folder not found"),
        (lambda place: (place / "config.json").unlink(), {}, "has no config.json"),
        (changed(model_type="bert", architectures=["BertForMaskedLM"]), {}, "is BertForMaskedLM"),
        (changed(model_type="t5", architectures=["T5ForGeneration"]), {}, "is T5ForGeneration:"),
        (changed(model_type="other", architectures=["OtherLM"]), {}, "transformers doesn't know"),
        (changed(n_layer=3), {}, r"another model than .* transformer.h.2.* is missing"),
        (changed(n_layer=1), {}, r"another model than .* transformer.h.1.* is only in the file"),
        (changed(n_inner=30), {}, r"another model than .* has another shape"),
        (changed(vocab_size=64), {}, "another shape"),
        (look_ahead, {}, "predicts a token from those after it, too"),
        (rename_weights, {}, "pytorch_model.bin is a pickle, which may run code"),
        (lambda place: (place / "model.safetensors").write_bytes(b"x"), {}, "can't load the model"),
        (remove_tokenizer, {}, "no tokenizer.json"),
        (bring_code, {}, r"(?s)needs its own code.*--allow-code runs .*modeling_own.py"),
        (lambda _: None, {"window": 41}, "window 41 is longer than the model's context of 40"),
        (lambda _: None, {"window": 8, "stride": 9}, "stride 9 is longer than the window of 8"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(
    damage: Callable[[Path], None],
    reading: Mapping[str, int],
    words: str,
    folder: Path,
    tmp_path: Path,
) -> None:
    place = tmp_path / "model"
    shutil.copytree(folder / "gpt2", place)
    damage(place)
    with pytest.raises(RnnlmError, match=words):
        score(place, TEXT, tmp_path / "text", **reading)


def test_code_of_a_folder_runs_if_it_is_allowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    place = tmp_path / "model"
    shutil.copytree(folder / "gpt2", place)
    bring_code(place)
    _, own = score(place, TEXT, tmp_path / "text", allow_code=True)
    _, done = score(folder / "gpt2", TEXT, tmp_path / "text")
    assert own.loss == done.loss


def test_what_cannot_be_scored_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="1 token: too few to score, at least 2 needed"):
        score(folder / "gpt2", "x", tmp_path / "text")
    _, done = score(folder / "llama", "x", tmp_path / "text")
    assert done.tokens == 2
    request = ScoreRequest(
        id="a",
        checkpoint=str(folder / "gpt2"),
        path="",
        folder=FolderReading(),
        cache=CacheSettings(size=5, theta=1, weight=0.1),
    )
    with pytest.raises(InputError, match="the continuous cache needs a run's model"):
        list(Answers().of(request, lambda: False))


def test_a_tokenizer_that_changes_the_text_gives_no_bits_per_byte(
    folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(folder / "gpt2", place)
    state = json.loads((place / "tokenizer.json").read_text())
    state["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": ""}
    (place / "tokenizer.json").write_text(json.dumps(state))
    _, done = score(place, TEXT, tmp_path / "text")
    assert (done.scored_bytes, done.bits_per_byte) == (0, None)
    assert np.isfinite(done.loss)
