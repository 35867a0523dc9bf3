"""The README.md of an exported folder: what the model is, what it was trained on, how good it is,
and how to load it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from pydantic import JsonValue

from rnnlm_tui import __version__
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.cells import ATTENDING_CELLS, HEADED_CELLS
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.exports import FORMAT_TITLES, ExportFormat
from rnnlm_tui.schema.formatting import UNSAFE, counted, scored_part_text
from rnnlm_tui.schema.metrics import EvaluationRow, perplexity
from rnnlm_tui.store.manifest import Manifest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.worker.export_comparison import ExportedCheckpoint

Rows = list[tuple[str, str]]


def write_card(
    folder: Path,
    source: ExportedCheckpoint,
    format: ExportFormat,
    *,
    name: str,
    notes: tuple[str, ...],
) -> None:
    """Write README.md with the facts of the checkpoint, as far as the run still has them.

    Args:
        name: of the folder, in the end.
        notes: what the format can't express.

    Raises:
        OSError: it can't be written.
    """
    model, codec, facts = source.model, source.codec, source.manifest.facts
    config = source.run.read_config()
    kind = "transformer" if model.cell_type in ATTENDING_CELLS else "recurrent"
    title, evaluations = _text_and_evaluations(source.run, config, source.manifest)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[kind, "rnnlm-tui"],
    )
    heads = f", {counted(model.num_heads, 'head')}" if model.cell_type in HEADED_CELLS else ""
    if model.cell_type in ATTENDING_CELLS:
        heads += f", each token attends to {model.shape.attention_window:,}"
    starts = source.after_end and codec.eos_id is not None and codec.layout != "raw"
    training = config.training
    length = counted(training.context_length, "token")
    tables: dict[str, Rows] = {
        "Model": [
            ("cell", f"{model.cell_type}, {model.num_layers} x {model.hidden_size}{heads}"),
            (
                "embedding",
                f"{model.embedding_dim}{', tied to the output' * bool(model.tie_weights)}",
            ),
            ("parameters", f"{model.num_parameters():,}"),
            ("tokenizer", f"{codec.kind}, {counted(model.vocab_size, 'type')}"),
        ],
        "Training": [
            ("text", _plain(title)),
            (
                "read",
                f"as a stream in windows of {counted(training.bptt, 'token')}, the state carried"
                if training.data_mode == "stream"
                else f"as separate sentences of at most {length}",
            ),
            *_figures(facts),
        ],
        "Results": _results(evaluations, facts.get("validation_loss")),
    }
    parts = [
        *([f"---\n{data.to_yaml()}\n---\n"] if format == "hf" else []),
        f"# {_plain(name)}\n",
        f"A {kind} language model, the checkpoint of step {source.manifest.step:,} of the run"
        f" `{source.run.name}`, trained and exported by rnnlm-tui {__version__} as"
        f" {FORMAT_TITLES[format]}.\n",
        *(f"## {title}\n\n{_table(rows)}" for title, rows in tables.items() if rows),
        f"## Load it\n\n{_LOADING[format]}",
        (
            "A prompt begins with an end token, as in training, where it follows a sentence."
            if starts
            else "A prompt begins with its own first token."
        )
        + (
            f" It writes an end token (id {codec.eos_id}) between"
            f" {'documents' if codec.layout == 'raw' else codec.layout}.\n"
            if codec.eos_id is not None
            else "\n"
        ),
        *(
            ["## Differences from rnnlm-tui\n", *(f"- {note}" for note in notes), ""]
            if notes
            else []
        ),
        "## Config\n",
        f"```json\n{json.dumps(_config(config), indent=2, ensure_ascii=False)}\n```\n",
    ]
    ModelCard("\n".join(parts), ignore_metadata_errors=True).save(folder / "README.md")


def _text_and_evaluations(
    run: RunDirectory, config: RunConfig, manifest: Manifest
) -> tuple[str, list[EvaluationRow]]:
    """The text's title, and the evaluations of the checkpoint's step."""
    source = config.corpus.source
    title = Path(source).name if Path(source).is_absolute() else source
    with suppress(RnnlmError), RunReader(run) as reader:  # a card can do without the logs
        rows = [row for row in reader.evaluations() if row.step == manifest.step]
        return reader.facts().corpus_title or title, rows
    return title, []


def _figures(facts: dict[str, JsonValue]) -> Rows:
    rows: Rows = []
    for key, title in (("step", "steps"), ("tokens_seen", "tokens"), ("epoch", "epochs")):
        value = facts.get(key)
        if isinstance(value, int | float):
            rows.append((title, f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"))
    loss = facts.get("train_loss")
    if isinstance(loss, int | float):
        rows.append(("training loss", f"{loss:.4f} nats per token"))
    return rows


def _results(evaluations: list[EvaluationRow], loss: JsonValue) -> Rows:
    """The evaluations of the step, or the validation loss that the checkpoint itself records."""
    rows: Rows = []
    for row in evaluations:
        name = f"{_plain(row.name)} ({row.split})" if row.name != row.split else row.name
        words = [f"perplexity {row.perplexity:,.2f}"]
        if row.bits_per_byte is not None:
            scored = scored_part_text(row.scored_share)
            words.append(f"{row.bits_per_byte:.4f} bits per byte" + f" of {scored}" * bool(scored))
        rows.append((name, ", ".join([*words, counted(row.tokens, "token")])))
    if isinstance(loss, int | float) and all(row.split != "validation" for row in evaluations):
        rows.insert(0, ("validation", f"perplexity {perplexity(float(loss)):,.2f}"))
    return rows


def _table(rows: Rows) -> str:
    lines = "".join(f"| {key} | {value} |\n" for key, value in rows)
    return f"|  |  |\n| --- | --- |\n{lines}"


def _plain(text: str) -> str:
    """A name or title for a line of Markdown."""
    return UNSAFE.sub("�", " ".join(text.split())).replace("|", "\\|").replace("<", "\\<")


def _config(config: RunConfig) -> dict[str, JsonValue]:
    """The run's config, without the paths of this machine."""
    values: dict[str, JsonValue] = config.model_dump(mode="json")
    for section, field in (("corpus", "source"), ("corpus", "test_source"), ("tokenizer", "name")):
        known = values[section]
        if isinstance(known, dict) and isinstance(path := known.get(field), str) and "/" in path:
            known[field] = Path(path).name if Path(path).is_absolute() else path
    return values


_LOADING: dict[ExportFormat, str] = {
    "hf": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
inputs = tokenizer("The", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))
```

It needs torch and transformers 5. `trust_remote_code` runs `modeling_rnnlm.py`, which is in this
folder: one file with the formulas of the cell. The state is carried from token to token,
so each token costs the same. Pad batches on the left, which is the tokenizer's default.
""",
    "onnx": """```python
import json
import numpy as np
import onnxruntime

facts = json.load(open("model.json"))
session = onnxruntime.InferenceSession("model.onnx")
state = {one["input"]: np.zeros([1, *one["shape"][1:]], np.float32) for one in facts["states"]}
for token in facts["start_ids"]:
    logits, *after = session.run(None, {"ids": np.array([token]), **state})
    state = {one["input"]: part for one, part in zip(facts["states"], after)}
print(facts["vocabulary"][int(logits[0].argmax())])
```

`model.onnx` is one step for any batch size: token ids and the state in, logits and the new state
out. The state starts with zeros. `tokenizer.json` is for the library tokenizers.
""",
    "book": """```python
import torch

weights = torch.load("model.pth", weights_only=True)
print({name: tuple(tensor.shape) for name, tensor in weights.items()})
```

The names are those of the book's class: `model.load_state_dict(weights)`. `rnnlm-tui import
model.pth` makes a run of it again, with the tokenizer beside it.
""",
}
