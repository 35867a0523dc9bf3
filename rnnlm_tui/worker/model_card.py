"""The README.md of an exported folder: what the model is, what it was trained on, how good it is,
and how to load it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from rnnlm_tui import __version__
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.exports import FORMAT_TITLES, ExportFormat
from rnnlm_tui.schema.formatting import UNSAFE, counted, scored_part_text
from rnnlm_tui.schema.metrics import EvaluationRow, perplexity
from rnnlm_tui.store.manifest import Manifest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader

Rows = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a model card states."""

    run: str
    config: RunConfig
    manifest: Manifest
    corpus_title: str
    evaluations: tuple[EvaluationRow, ...]
    """Of the checkpoint's step."""


def card_facts(run: RunDirectory, manifest: Manifest) -> CardFacts:
    """The facts of a checkpoint, as far as the run still has them."""
    config = run.read_config()
    source = config.corpus.source
    title = Path(source).name if Path(source).is_absolute() else source
    evaluations = list[EvaluationRow]()
    with suppress(RnnlmError), RunReader(run) as reader:  # a card can do without the logs
        title = reader.facts().corpus_title or title
        evaluations = [row for row in reader.evaluations() if row.step == manifest.step]
    return CardFacts(run.name, config, manifest, title, tuple(evaluations))


def model_card(
    facts: CardFacts,
    model: RecurrentLanguageModel,
    codec: TextCodec,
    format: ExportFormat,
    *,
    name: str,
    start: bool,
    notes: tuple[str, ...],
) -> str:
    """The text of README.md.

    Args:
        name: of the folder.
        start: prompts begin with an end token.
        notes: what the format can't express.
    """
    training = facts.config.training
    mode = (
        f"as a stream in windows of {counted(training.bptt, 'token')}, the state carried"
        if training.data_mode == "stream"
        else f"as separate sentences of at most {counted(training.context_length, 'token')}"
    )
    front = (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        "tags:\n- recurrent\n- rnnlm-tui\n---\n\n"
        if format == "hf"
        else ""
    )
    parts = [
        f"{front}# {_plain(name)}\n",
        f"A recurrent language model, the checkpoint of step {facts.manifest.step:,} of the run"
        f" `{facts.run}`, trained and exported by rnnlm-tui {__version__} as"
        f" {FORMAT_TITLES[format]}.\n",
        "## Model\n",
        _table(_model_rows(model, codec)),
        "## Training\n",
        _table(
            [
                ("text", _plain(facts.corpus_title)),
                ("read", mode),
                *_training_rows(facts.manifest.facts),
            ]
        ),
        *_results(facts),
        "## Load it\n",
        _LOADING[format],
        (
            "A prompt begins with an end token, as in training, where it follows a sentence."
            if start
            else "A prompt begins with its own first token."
        )
        + (
            f" It writes an end token (id {codec.eos_id}) between"
            f" {'documents' if codec.layout == 'raw' else codec.layout}.\n"
            if codec.eos_id is not None
            else "\n"
        ),
        *(["## Differences from rnnlm-tui\n", *(f"- {note}" for note in notes), ""] * bool(notes)),
        "## Config\n",
        f"```json\n{json.dumps(_config(facts.config), indent=2, ensure_ascii=False)}\n```\n",
    ]
    return "\n".join(parts)


def write_card(folder: Path, text: str) -> None:
    """Write README.md.

    Raises:
        OSError: it can't be written.
    """
    (folder / "README.md").write_text(text, encoding="utf-8")


def _model_rows(model: RecurrentLanguageModel, codec: TextCodec) -> Rows:
    heads = f", {counted(model.num_heads, 'head')}" if model.cell_type in ("slstm", "mlstm") else ""
    tied = ", tied to the output" if model.tie_weights else ""
    return [
        ("cell", f"{model.cell_type}, {model.num_layers} x {model.hidden_size}{heads}"),
        ("embedding", f"{model.embedding_dim}{tied}"),
        ("parameters", f"{model.num_parameters():,}"),
        ("tokenizer", f"{codec.kind}, {counted(model.vocab_size, 'type')}"),
    ]


def _training_rows(facts: dict[str, JsonValue]) -> Rows:
    rows: Rows = []
    for key, title in (("step", "steps"), ("tokens_seen", "tokens"), ("epoch", "epochs")):
        value = facts.get(key)
        if isinstance(value, int):
            rows.append((title, f"{value:,}"))
        elif isinstance(value, float):
            rows.append((title, f"{value:,.2f}"))
    loss = facts.get("train_loss")
    if isinstance(loss, int | float):
        rows.append(("training loss", f"{loss:.4f} nats per token"))
    return rows


def _bits(row: EvaluationRow) -> str:
    if row.bits_per_byte is None:
        return ""
    scored = scored_part_text(row.scored_share)
    return f", {row.bits_per_byte:.4f} bits per byte" + (f" of {scored}" if scored else "")


def _results(facts: CardFacts) -> list[str]:
    """The evaluations of the step, or the validation loss that the checkpoint itself records."""
    rows = [
        (
            f"{_plain(row.name)} ({row.split})" if row.name != row.split else row.name,
            f"perplexity {row.perplexity:,.2f}{_bits(row)}, {counted(row.tokens, 'token')}",
        )
        for row in facts.evaluations
    ]
    loss = facts.manifest.facts.get("validation_loss")
    if isinstance(loss, int | float) and "validation" not in [
        row.split for row in facts.evaluations
    ]:
        rows.insert(0, ("validation", f"perplexity {perplexity(float(loss)):,.2f}"))
    return ["## Results\n", _table(rows)] if rows else []


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
folder: one file with the formulas of the cell. The recurrent state is carried from token to token,
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
