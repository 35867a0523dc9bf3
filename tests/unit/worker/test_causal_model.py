"""Models of other programs: their loss of a text is that of a plain sliding window, and a folder
without a usable causal model is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.sampling import FolderReading, ScoreDone, ScorePiece, ScoreRequest
from rnnlm_tui.worker.answers import Answers
from rnnlm_tui.worker.causal_model import CausalModel, windows
from tests.fakes.llama_tokenizer import write_tokenizer

LINES = ["Zoë saw 日本, and left 1,234 times.", "", "  Ann <s> the sea; Bob left.", "x"] * 8
TEXT = "\n".join(LINES)
OWN_CODE = """from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig): model_type = "own"
class OwnLM(LlamaForCausalLM): config_class = OwnConfig
"""
"""Classes of its own: transformers marks them, and later saves with their code."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama, once as `bos`, whose tokenizer puts a token before a text, and
    once as `plain`, where it doesn't."""
    from transformers import LlamaConfig, LlamaForCausalLM

    place = tmp_path_factory.mktemp("models")
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
    sizes |= {"intermediate_size": 24, "max_position_embeddings": 40, "initializer_range": 0.3}
    sizes["vocab_size"] = write_tokenizer(place / "bos", LINES, 300)
    torch.manual_seed(5)
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(place / "bos")
    shutil.copytree(place / "bos", place / "plain")
    change_json(place / "plain" / "tokenizer.json", post_processor=None)
    return place


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def score(folder: Path, path: Path, text: str = TEXT, **reading: Any) -> list[Any]:
    """The tokens of the text, and its score."""
    path.write_text(text, encoding="utf-8")
    asked = {"checkpoint": str(folder), "path": str(path), "folder": FolderReading(**reading)}
    *pieces, done = Answers().of(ScoreRequest(id="a", tokens=True, **asked), lambda: False)
    assert isinstance(done, ScoreDone)
    return [*(one for part in pieces if isinstance(part, ScorePiece) for one in part.tokens), done]


@pytest.mark.parametrize("kind", ["bos", "plain"])
@pytest.mark.parametrize(("window", "stride"), [(None, None), (24, 5), (9, 8)])
def test_a_text_is_scored_as_by_a_plain_sliding_window(
    kind: str, window: int | None, stride: int | None, folder: Path, tmp_path: Path
) -> None:
    """As in Hugging Face's guide to perplexity."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    *tokens, done = score(folder / kind, tmp_path / "text", window=window, stride=stride)
    ids = AutoTokenizer.from_pretrained(folder / kind)(TEXT, split_special_tokens=True).input_ids
    model = AutoModelForCausalLM.from_pretrained(folder / kind)
    nats, scored, previous = 0.0, 0, 0
    for begin in range(0, len(ids), done.stride):
        end = min(begin + done.window, len(ids))
        logits = model(torch.tensor([ids[begin:end]])).logits[0, :-1].detach()
        losses = cross_entropy(logits, torch.tensor(ids[begin + 1 : end]), reduction="none")
        new = losses[previous - end :]
        nats, scored, previous = nats + float(new.sum()), scored + len(new), end
        if end == len(ids):
            break
    start = "<s>" if kind == "bos" else ""
    assert (done.window, done.stride, done.start) == (window or 40, stride or 20, start)
    assert done.tokens == scored == len(ids) - 1
    assert done.loss == pytest.approx(nats / scored, abs=1e-5)
    assert done.scored_bytes == len(TEXT.encode()) - len(tokens[0].text.encode())
    assert done.bits_per_byte == pytest.approx(nats / math.log(2) / done.scored_bytes, abs=1e-5)
    assert [token.token for token in tokens] == ids
    assert "".join(token.text for token in tokens) == TEXT
    assert sum(one.bits for one in tokens[1:]) * math.log(2) == pytest.approx(nats, rel=1e-5)


def test_every_token_is_scored_once_after_enough_others() -> None:
    for count, first, window in ((1, 1, 2), (2, 1, 2), (50, 1, 7), (50, 3, 8), (64, 1, 64)):
        for stride in range(1, window + 1):
            seen: list[int] = []
            for begin, done, end in windows(count, first, window, stride):
                assert end - 1 - begin <= window
                assert begin == 0 or done - begin >= max(1, window - stride)
                seen += range(done, end)
            assert seen == list(range(first, count))


def test_lines_are_scored_each_on_its_own(folder: Path, tmp_path: Path) -> None:
    model = CausalModel(folder / "plain", "cpu", FolderReading())
    empty, one = model.score_lines(["", LINES[0]])
    assert empty == (0, 0, 0)
    *_, done = score(folder / "bos", tmp_path / "line", LINES[0])  # the first token counts too
    assert one == pytest.approx((done.loss * done.tokens, done.tokens, done.scored_bytes))


def changed(**config: object) -> Callable[[Path], None]:
    return lambda place: change_json(place / "config.json", **config)


def bring_code(place: Path) -> None:
    (place / "modeling_own.py").write_text(OWN_CODE)
    classes = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnLM"}
    change_json(place / "config.json", model_type="own", architectures=["O"], auto_map=classes)


DAMAGES: list[tuple[Callable[[Path], object], dict[str, Any], str]] = [
    (shutil.rmtree, {}, "model not found"),
    (lambda place: (place / "config.json").unlink(), {}, "has no config.json"),
    (changed(model_type="bert", architectures=["BertForMaskedLM"]), {}, "is BertForMaskedLM:"),
    (changed(model_type="t5", architectures=["T5Model"]), {}, "is T5Model: not a known causal"),
    (changed(num_hidden_layers=3), {}, r"another model than .* model.layers.2"),
    (changed(num_hidden_layers=1), {}, r"another model than .* model.layers.1"),
    (changed(intermediate_size=30), {}, r"another model than .*mlp"),
    (lambda place: (place / "model.safetensors").rename(place / "a.bin"), {}, "bin is a pickle"),
    (lambda place: (place / "model.safetensors").write_bytes(b"x"), {}, "can't load the model"),
    (lambda place: (place / "tokenizer.json").unlink(), {}, "no tokenizer.json"),
    (bring_code, {}, r"(?s)needs its own code.*--allow-code runs modeling_own.OwnLM"),
    (lambda _: None, {"window": 41}, "window 41 is longer than the model's context of 40"),
    (lambda _: None, {"window": 8, "stride": 9}, "stride 9 is longer than the window of 8"),
    (lambda _: None, {"text": ""}, "0 tokens: too few to score, at least 2 needed"),
]


@pytest.mark.parametrize(("damage", "reading", "words"), DAMAGES)
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(
    damage: Any, reading: Any, words: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "plain", tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(RnnlmError, match=words):
        score(tmp_path / "model", tmp_path / "text", **reading)


def test_code_of_a_folder_runs_if_it_is_allowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    shutil.copytree(folder / "plain", tmp_path / "model")
    bring_code(tmp_path / "model")
    own = score(tmp_path / "model", tmp_path / "text", allow_code=True)[-1]
    assert own.loss == score(folder / "plain", tmp_path / "text")[-1].loss
