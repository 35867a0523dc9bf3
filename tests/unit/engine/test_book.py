"""The book's state dict: what is written, and what is refused before or while it is read."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rnnlm_tui.engine.book import (
    book_model,
    check_book_shape,
    plain_logits,
    read_state_dict,
    write_state_dict,
)
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import CheckpointError, InputError
from tests.integration.book_reference import PlainModel, as_engine_weights
from tests.unit.engine.builders import built_model

Weights = dict[str, object]


def model(**changes: object) -> RecurrentLanguageModel:
    settings: dict[str, object] = {
        "vocab_size": 50,
        "embedding_dim": 8,
        "hidden_size": 8,
        "num_layers": 2,
        "initialization": "book",
        **changes,
    }
    return built_model(**settings)


def weights() -> Weights:
    """The state dict of a small model, as the book's class names it."""
    plain = PlainModel(50, 8, 2, 0).draw(1)
    return {
        "embedding.weight": plain.embedding.weight.detach(),
        **{
            f"rnn.rnn_units.{index}.{ours}": getattr(layer, theirs).detach()
            for index, layer in enumerate(plain.layers)
            for ours, theirs in (("Wh", "W"), ("Uh", "U"), ("b", "b"))
        },
        "fc.weight": plain.head.weight.detach(),
        "fc.bias": plain.head.bias.detach(),
    }


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_a_written_state_dict_is_read_back_as_the_same_model(tmp_path: Path) -> None:
    ours = model(seed=3)
    check_book_shape(ours)
    write_state_dict(tmp_path / "model.pth", ours)
    tensors = read_state_dict(tmp_path / "model.pth")
    again = book_model(tensors, None)
    ids = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, _ = ours(ids, ours.initial_state(2))
        found, _ = again(ids, again.initial_state(2))
    assert torch.equal(found, expected)
    assert torch.allclose(plain_logits(tensors, ids[0].tolist()), expected[0], atol=1e-6)


def test_the_reference_model_gives_the_same_logits_after_an_import(tmp_path: Path) -> None:
    plain = PlainModel(50, 8, 2, 0).draw(1)
    again = book_model(read_state_dict(saved(tmp_path / "m.pth", weights())), 0)
    expected = as_engine_weights(plain)
    assert {name: tensor.shape for name, tensor in again.named_parameters()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    ids = torch.randint(50, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, _ = again(ids, again.initial_state(1))
        assert torch.allclose(found, plain(ids), atol=1e-6)


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model"])
def test_a_state_dict_inside_a_checkpoint_of_other_values_is_found(
    key: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "m.pth", {"epoch": 3, key: weights(), "loss": 4.2})
    assert read_state_dict(path)["fc.bias"].shape == (50,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cell_type": "gru"}, "its cell is gru, not elman"),
        ({"num_layers": 3}, "it has 3 layers, not 2"),
        ({"embedding_dim": 4}, "its embedding has 4 dimensions and its layers 8"),
        ({"tie_weights": True}, "its output weights are those of the embedding"),
    ],
)
def test_a_model_of_another_form_is_refused_with_the_reason(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        check_book_shape(model(**changes))


class Runs:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def without(name: str) -> Callable[[Weights], object]:
    return lambda found: {key: value for key, value in found.items() if key != name}


def with_(name: str, value: object) -> Callable[[Weights], object]:
    return lambda found: {**found, name: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("fc.bias"), "no fc.bias"),
        (without("rnn.rnn_units.1.Uh"), "no rnn.rnn_units.1.Uh"),
        (with_("extra.weight", torch.zeros(2)), "unknown name 'extra.weight'"),
        (with_("rnn.rnn_units.4.b", torch.zeros(8)), "unknown name 'rnn.rnn_units.4.b'"),
        (with_("fc.bias", torch.zeros(49)), r"fc.bias has shape \(49,\), must be \(50,\)"),
        (with_("fc.bias", torch.zeros(50, dtype=torch.int64)), "fc.bias is no tensor of 16"),
        (with_("fc.bias", torch.empty(50, dtype=torch.float4_e2m1fn_x2)), "fc.bias is no tensor"),
        (with_("fc.bias", "text"), "fc.bias is no tensor of 16, 32 or 64 bit floats"),
        (with_("fc.bias", torch.zeros(50, device="meta")), "no weights: fc.bias is on device meta"),
        (with_("fc.bias", torch.full((50,), torch.nan)), "values that are not finite"),
        (with_("embedding.weight", torch.zeros(50)), "must be \\(types, width\\)"),
        (
            with_("embedding.weight", torch.zeros(1, 8).expand(10**9, 8)),
            "embedding.weight is larger than the file",
        ),
        (lambda found: list(found.values()), "holds a list, not a state dict"),
        (lambda found: torch.zeros(3), "holds a Tensor, not a state dict"),
    ],
)
def test_another_content_is_refused_with_its_name(
    change: Callable[[Weights], object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(saved(tmp_path / "m.pth", change(weights())))


@pytest.mark.faults
def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = saved(tmp_path / "m.pth", {**weights(), "fc.bias": Runs(trap)})
    with pytest.raises(CheckpointError, match="refused to read") as refusal:
        read_state_dict(path)
    assert "save the weights alone" in refusal.value.hint
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Runs(trap)))
    with pytest.raises(CheckpointError, match=r"a \.pth file of torch 1\.6"):
        read_state_dict(plain)
    assert not trap.exists()


@pytest.mark.faults
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pth", weights())
    content = path.read_bytes()
    for length in (0, 1, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_state_dict(path)


@pytest.mark.faults
def test_a_compressed_zip_that_unpacks_to_more_than_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = {**weights(), "embedding.weight": torch.zeros(50_000, 8)}
    path = saved(tmp_path / "m.pth", zeros)
    bomb = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(CheckpointError, match="what it unpacks to is larger than the file"):
        read_state_dict(bomb)
