"""Exports of tiny trained models, loaded back where rnnlm_tui can't be imported, and imports."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from rnnlm_tui.cli.main import run as run_command
from rnnlm_tui.client.checkpoints import list_run
from rnnlm_tui.client.export import import_book
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.corpus.autotokenizer import autotokenizer_files
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.engine import onnx_graph
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.checkpoint import load_model, write_model
from rnnlm_tui.errors import InputError, install_extra
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.exports import (
    BOOK_NAME,
    GREEDY_TOKENS,
    LOGIT_TOLERANCE,
    ExportFormat,
    ExportRequest,
)
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.schema.sampling import FolderReading, ScoreRequest
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import read_labels
from rnnlm_tui.store.paths import HOME_VARIABLE, RunDirectory, corpora_dir
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from rnnlm_tui.worker.causal_model import open_folder
from rnnlm_tui.worker.export import _write_hf
from rnnlm_tui.worker.export import export as write_export
from rnnlm_tui.worker.export_comparison import (
    Computed,
    ExportedCheckpoint,
    allowed_difference,
    check_equal,
    compute,
    examine_in_child,
    load_source,
    question,
)
from rnnlm_tui.worker.models import ModelCache
from rnnlm_tui.worker.scoring import score_file
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.integration.runs import tiny_config, write_text
from tests.unit.client.logs import record

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 12
OWN = {"loss", "bits_per_byte", "seconds"}
ODD_TEXTS = ("The", " a  b ", "Hello, world!", "1,234 naïve cafés\n", "<eos> <unk>")
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "elman": {
        "tokenizer.kind": "word",
        "tokenizer.vocab_size": 40,
        "model.tie_weights": False,
    },
    "lstm": {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 300, "corpus.lowercase": True},
    "gru": {"tokenizer.kind": "byte", "model.tie_weights": True, "model.num_layers": 1},
    "mingru": {"tokenizer.kind": "character", "corpus.layout": "raw"},
    "minlstm": {"tokenizer.kind": "word", "corpus.layout": "lines"},
    "slstm": {
        "tokenizer.kind": "bpe",
        "tokenizer.vocab_size": 300,
        "corpus.layout": "lines",
        "model.num_heads": 2,
        "model.num_layers": 1,
    },
    "mlstm": {
        "tokenizer.kind": "pretrained",
        "corpus.mask_digits": True,
        "training.data_mode": "sentences",
        "training.context_length": 12,
        "model.num_layers": 1,
    },
    "transformer": {"tokenizer.kind": "word", "model.attention_window": 17},
}
"""Each cell with another tokenizer, layout or data mode, so that all are exported once."""


@dataclass(frozen=True)
class Trained:
    """A run with one checkpoint, trained in this process."""

    run: RunDirectory
    checkpoint: Path


def train(config: RunConfig, name: str) -> Trained:
    """Train some steps and save a checkpoint with an evaluation, without a worker."""
    corpus = prepare_corpus(
        config.corpus, config.tokenizer, config.training, corpora_dir(), lambda _: None
    )
    model = build_model(config, corpus)
    torch.manual_seed(config.training.seed)  # of dropout
    trainer = build_trainer(config, model, build_batches(config, corpus))
    for _ in range(STEPS):
        trainer.train_step()
    run = create_run(config, name)
    generation = {
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 0.95,
        "max_new_tokens": 20,
        "stop_strings": ["!"],
        "rnnlm_data_mode": config.training.data_mode,
        "rnnlm_context_length": config.training.context_length,
    }
    facts = {
        "corpus_hash": corpus.manifest.hash,
        "step": STEPS,
        "tokens_seen": trainer.tokens_seen,
        "validation_loss": 2.5,
    }
    path = write_checkpoint(
        run,
        STEPS,
        lambda folder: write_model(folder, model, corpus.path, generation=generation),
        None,
        facts,
    )
    record(
        run,
        EvaluationRow(1, STEPS, "validation", "validation", 2.5, 100, 1.2345, 0.1, time.time(), 0),
    )
    return Trained(run, path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """A trained model for each cell."""
    folder = tmp_path_factory.mktemp("trained")
    text = write_text(folder / "text.txt")
    size = write_tokenizer(folder / "llama", text.read_text().splitlines(), 320)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        for cell, changes in VARIANTS.items():
            own = (
                {"tokenizer.name": str(folder / "llama"), "tokenizer.vocab_size": size}
                if changes["tokenizer.kind"] == "pretrained"
                else {}
            )
            config = tiny_config(text, {"model.cell_type": cell, **changes, **own})
            found[cell] = train(config, f"small-{cell}")
    return found


@pytest.fixture(autouse=True)
def own_home(trained: dict[str, Trained], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data home with the trained runs."""
    monkeypatch.setenv(HOME_VARIABLE, str(trained["elman"].run.path.parents[1]))


def request_of(one: Trained, folder: Path, format: ExportFormat = "hf") -> ExportRequest:
    """The request to export the checkpoint to an empty folder."""
    return ExportRequest(
        run=str(one.run.path),
        checkpoint=str(one.checkpoint),
        target=str(folder),
        name="model",
        format=format,
    )


def source_of(one: Trained, folder: Path) -> ExportedCheckpoint:
    """The checkpoint, loaded for an export."""
    return load_source(request_of(one, folder))


def exported(one: Trained, folder: Path) -> ExportedCheckpoint:
    """The checkpoint, exported for transformers without a check."""
    folder.mkdir()
    source = source_of(one, folder)
    files = autotokenizer_files(source.path, source.codec, after_end=source.after_end)
    _write_hf(source, files, folder)
    return source


def test_every_cell_can_be_exported() -> None:
    from rnnlm_tui.engine import modeling_rnnlm  # imports transformers, which takes seconds

    assert set(CELLS) == set(VARIANTS) == set(modeling_rnnlm.CELLS)


def test_transformers_compute_the_same_for_every_cell_without_rnnlm_tui(
    trained: dict[str, Trained], tmp_path: Path
) -> None:
    """One child process for all: importing transformers takes seconds."""
    asked = []
    for cell, one in trained.items():
        folder = tmp_path / cell
        source = exported(one, folder)
        asked.append((source, question(source, folder, tmp_path / f"{cell}.safetensors")))
    place = tmp_path / "place"
    place.mkdir()
    answers = examine_in_child([request for _, request in asked], place)
    for (source, request), greedy in zip(asked, answers, strict=True):
        ours = compute(source)
        theirs = Computed(load_file(request["out"])["logits"], greedy)
        _, difference = check_equal(source, ours, theirs)
        assert difference <= allowed_difference(ours.logits_TV)
        assert greedy == ours.greedy
        assert len(greedy) == GREEDY_TOKENS
        check_tokenizer_and_padding(source, Path(request["folder"]), greedy)


def test_an_exported_run_scores_a_text_as_the_run_does(
    trained: dict[str, Trained], tmp_path: Path
) -> None:
    """Every tokenizer, layout and data mode: nothing that reading a text needs is lost."""
    text = "\n".join(("The CAT saw <eos> 1,234 birds.", "", "  a big dog\tsat. ", *ODD_TEXTS))
    (tmp_path / "text").write_text(text + "\nthe cat chased a bird" * 60, encoding="utf-8")
    request = ScoreRequest(id="a", checkpoint="", path=str(tmp_path / "text"))
    for cell, one in trained.items():
        exported(one, tmp_path / cell)
        models = (
            open_folder(tmp_path / cell, "cpu", FolderReading()),
            ModelCache().get(str(one.checkpoint)),
        )
        done, own = (list[Any](score_file(model, request, lambda: None))[-1] for model in models)
        assert done.loss == pytest.approx(own.loss, abs=1e-5), cell
        assert done.model_dump(exclude=OWN) == own.model_dump(exclude=OWN)


@pytest.mark.usefixtures("warm")
def test_the_verb_scores_with_an_exported_run_as_with_the_run(
    trained: dict[str, Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, text = tmp_path / "export", tmp_path / "text"
    exported(trained["lstm"], folder)
    text.write_text("\n".join(ODD_TEXTS), encoding="utf-8")
    found = []
    for scorer in ([trained["lstm"].run.name], ["--model", str(folder)]):
        assert run_command(["score", *scorer, str(text), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[1]["perplexity"] == pytest.approx(found[0]["perplexity"], abs=1e-5)
    assert found[1].keys() - found[0].keys() == {"model", "window", "stride"}


def check_tokenizer_and_padding(
    source: ExportedCheckpoint, folder: Path, greedy: list[int]
) -> None:
    """The exported tokenizer encodes and decodes as ours; padding on the left changes no logits."""
    from transformers import PreTrainedTokenizerFast

    from rnnlm_tui.engine.modeling_rnnlm import RnnlmForCausalLM

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    codec = source.codec
    sentences: list[list[int]] = [[]]
    for index in source.ids:
        if index == codec.eos_id:
            sentences.append([])
        else:
            sentences[-1].append(index)
    for text in (*(codec.decode(ids) for ids in sentences if ids), *ODD_TEXTS):
        ids = codec.prompt_ids(text, after_end=source.after_end)
        assert tokenizer(text)["input_ids"] == ids, (codec.kind, text)
    text, ours = tokenizer.decode(greedy), codec.decode(greedy)
    if codec.layout != "sentences":
        assert text.replace("<eos>", "").replace("<pad>", "") == ours
    elif codec.eos_id not in greedy:
        assert text == ours
    model = RnnlmForCausalLM.from_pretrained(folder)
    prompts = [source.prompt, source.prompt[2:]]
    padded = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    together, alone = model(**padded).logits[1, -1], model(torch.tensor(prompts[1:])).logits[0, -1]
    assert torch.allclose(together, alone, atol=1e-6)


def test_onnxruntime_computes_the_same_for_every_cell(
    trained: dict[str, Trained], tmp_path: Path
) -> None:
    for cell, one in trained.items():
        folder = tmp_path / cell
        folder.mkdir()
        phases: list[str] = []
        done = write_export(request_of(one, folder, "onnx"), phases.append)
        assert phases == ["loading", "writing", "checking"]
        ours = compute(source_of(one, folder))
        assert done.largest_difference <= allowed_difference(ours.logits_TV)
        assert done.greedy_tokens == GREEDY_TOKENS
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        model = load_model(one.checkpoint)
        shapes = [tuple(part.shape[1:]) for layer in model.initial_state(1) for part in layer]
        if cell == "transformer":  # of a fixed size in a graph
            shapes = 2 * [(16, 24), (16, 24), (16,)]
        assert [tuple(state["shape"][1:]) for state in facts["states"]] == shapes
        assert len(facts["vocabulary"]) == model.vocab_size
        assert facts["vocabulary"][facts["pad_id"]] is not None
        assert "onnxruntime" in (folder / "README.md").read_text(encoding="utf-8")
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        state = {
            one["input"]: np.zeros([3, *one["shape"][1:]], np.float32) for one in facts["states"]
        }
        batch = session.run(["logits"], {"ids": np.array([3, 5, 7]), **state})[0]
        with torch.no_grad():
            one_by_one, _ = model.step(torch.tensor([3, 5, 7]), model.initial_state(3))
        assert np.allclose(batch, one_by_one.numpy(), atol=1e-5), "any batch size"


@pytest.mark.parametrize("cell", ["lstm", "mlstm", "transformer"])
def test_generation_in_transformers_goes_on_from_a_state_and_searches_with_beams(
    cell: str, trained: dict[str, Trained], tmp_path: Path
) -> None:
    from rnnlm_tui.engine.modeling_rnnlm import RnnlmForCausalLM

    source = exported(trained[cell], tmp_path / "model")
    model = RnnlmForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.tensor([source.ids[:20], source.ids[20:40]])
    greedy = {"do_sample": False, "max_new_tokens": 8}
    whole = model.generate(ids, **greedy)
    assert torch.equal(whole, model.generate(ids, use_cache=False, **greedy))
    beams = {**greedy, "num_beams": 3}
    assert torch.equal(model.generate(ids, **beams), model.generate(ids, use_cache=False, **beams))
    state = model(ids[:, :12]).state
    assert torch.equal(whole, model.generate(ids, state=state, **greedy))
    parts = [model(ids[:, :12]), model(ids[:, 12:], state=state)]
    together = torch.cat([part.logits for part in parts], dim=1)
    assert torch.allclose(together, model(ids).logits, atol=1e-6)
    loss = model(ids, labels=ids).loss
    expected = torch.nn.functional.cross_entropy(
        model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    assert torch.allclose(loss, expected)
    loss.backward()
    with pytest.raises(ValueError, match="pad on the left"):
        model.generate(ids, attention_mask=torch.tensor([[1] * 20, [1] * 19 + [0]]), **greedy)
    with pytest.raises(ValueError, match="pass the whole text"):
        model.generate(ids[:, 12:], state=model(ids).state, **greedy)


@pytest.mark.usefixtures("warm")
def test_a_checkpoint_goes_to_transformers_then_to_the_book_and_comes_back_as_a_run(
    trained: dict[str, Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way by commands, with their processes."""
    one, target = trained["elman"], tmp_path / "out"
    assert run_command(["export", f"{one.run.name}@best", str(target), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["greedy_tokens"] == GREEDY_TOKENS
    assert facts["largest_difference"] <= LOGIT_TOLERANCE
    assert facts["files"] == sorted(path.name for path in target.iterdir())
    check_card(target)
    generation = json.loads((target / "generation_config.json").read_text(encoding="utf-8"))
    assert "stop_strings" not in generation
    assert (generation["temperature"], generation["top_p"]) == (0.8, 0.95)
    assert (generation["do_sample"], generation["max_new_tokens"]) == (True, 20)
    assert generation["suppress_tokens"] == [2], "the sampler never takes <unk> either"
    (export,) = read_labels(one.run).exports
    assert (export.step, export.format, export.folder) == (STEPS, "hf", str(target))
    (item,) = list_run(one.run)
    assert "exported" in item.marks
    ours = load_model(one.checkpoint)
    assert load_model(target).num_parameters() == ours.num_parameters()

    again = ["export", one.run.name, str(target), "--format", "book"]
    assert run_command(again) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run_command([*again, "--force"]) == 0
    assert "to out" in capsys.readouterr().out.replace(str(tmp_path) + "/", "")
    assert not (target / "config.json").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    weights = torch.load(target / BOOK_NAME, weights_only=True)
    units = [f"rnn.rnn_units.{layer}.{part}" for layer in (0, 1) for part in ("Uh", "Wh", "b")]
    assert list(weights) == ["embedding.weight", *units, "fc.weight", "fc.bias"]

    assert run_command(["import", str(target / BOOK_NAME), "from-the-book", "--json"]) == 0
    imported = find_run(json.loads(capsys.readouterr().out)["run"])
    summary = summarize(imported)
    assert (summary.status, summary.step) == ("finished", 0)
    assert summary.model.parameters == ours.num_parameters()
    assert imported.read_config().tokenizer == one.run.read_config().tokenizer
    loaded = ModelCache().get(str(checkpoint_path(imported, "last")))
    assert loaded.after_end, "it was trained on a stream"
    known = json.loads((loaded.path / "generation_config.json").read_text(encoding="utf-8"))
    assert not known["do_sample"]
    mine = dict(ours.named_parameters())
    assert all(
        torch.equal(mine[name], parameter)
        for name, parameter in load_model(loaded.path).named_parameters()
    )
    assert loaded.codec.encode("the cat") == TextCodec(one.checkpoint).encode("the cat")
    assert run_command(["verify", imported.name]) == 0
    assert run_command(["resume", imported.name]) == 3
    source = ["--set", f"corpus.source={one.run.read_config().corpus.source}"]
    assert run_command(["train", "--from", imported.name, "--draft", *source]) == 0


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    "changes",
    [
        {"corpus.layout": "raw"},
        {
            "corpus.layout": "lines",
            "training.data_mode": "sentences",
            "training.context_length": 12,
        },
    ],
)
def test_any_export_for_the_book_comes_back_with_its_layout_and_data_mode(
    changes: dict[str, object], tmp_path: Path
) -> None:
    shape = {"model.cell_type": "elman", "model.tie_weights": False}
    one = train(
        tiny_config(write_text(tmp_path / "text.txt"), {**shape, **changes}), f"book-{len(changes)}"
    )
    folder = tmp_path / "out"
    folder.mkdir()
    write_export(request_of(one, folder, "book"), lambda _: None)
    imported = import_book(folder / BOOK_NAME)[0]
    mine, back = (
        ModelCache().get(str(path)) for path in (one.checkpoint, checkpoint_path(imported, "last"))
    )
    assert (back.codec.layout, back.data_mode) == (changes["corpus.layout"], mine.data_mode)
    assert back.context_length == mine.context_length
    training = imported.read_config().training
    assert training.data_mode == mine.data_mode
    assert mine.context_length in (None, training.context_length)


def check_card(folder: Path) -> None:
    """The model card has the run's figures and no path of this machine."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    for words in ("elman, 2 x 24", "text.txt", "perplexity 12.18, 1.2345 bits per byte"):
        assert words in card
    assert str(folder.parent.parent) not in card


def test_onnx_without_its_packages_names_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_graph, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="needs onnx and onnxscript and onnxruntime") as refusal:
        onnx_graph.require_onnx()
    assert install_extra("export") in refusal.value.hint
