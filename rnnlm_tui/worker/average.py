"""Average checkpoints: write the mean of their weights, as a task of `worker.task`.

All parts and the mean are evaluated on the whole validation set of the run, in the same way, so
that their losses compare. The mean is written into the folder that the request names: the caller
keeps or removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.errors import CheckpointError, InputError
from rnnlm_tui.schema.facts import CHANGED_FACT
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.protocol import (
    AverageDone,
    AveragePart,
    AverageRequest,
    EvaluatedPart,
    decode_line,
)
from rnnlm_tui.store.averages import AVERAGED_FACT, write_average
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.task import ReportProgress

if TYPE_CHECKING:
    from torch import Tensor

    from rnnlm_tui.corpus.corpus import PreparedCorpus
    from rnnlm_tui.engine.model import RecurrentLanguageModel
    from rnnlm_tui.schema.config import RunConfig

SHAPE_KEYS: tuple[str, ...] = (
    "model_type",
    "cell_type",
    "vocab_size",
    "embedding_dim",
    "hidden_size",
    "num_layers",
    "num_heads",
    "tie_word_embeddings",
)
"""Keys of config.json that must be equal in all parts."""
KEPT_FACTS: tuple[str, ...] = (
    *("preset", "epoch", "tokens_seen", "corpus_hash", "tokenizer_hash", CHANGED_FACT),
)
"""Facts of the newest part that hold for the average too."""


def check_alike(parts: Sequence[AveragePart]) -> None:
    """Check that the parts have the same architecture and vocabulary.

    Raises:
        InputError: two parts differ; names both.
        CheckpointError: a part's config.json or tokenizer can't be read.
    """
    from rnnlm_tui.engine.checkpoint import read_json
    from rnnlm_tui.worker.parent import vocabulary

    first = parts[0]
    shape, tokens = read_json(Path(first.path), "config.json"), vocabulary(Path(first.path))
    for part in parts[1:]:
        other = read_json(Path(part.path), "config.json")
        different = [
            f"{key} {shape.get(key)} and {other.get(key)}"
            for key in SHAPE_KEYS
            if shape.get(key) != other.get(key)
        ]
        if different:
            raise InputError(
                f"{first.address} and {part.address} have different shapes: {', '.join(different)}",
                hint="only checkpoints of the same architecture can be averaged",
            )
        theirs = vocabulary(Path(part.path))
        if theirs != tokens:
            raise InputError(
                f"{first.address} and {part.address} have different vocabularies"
                f" ({counted(len(tokens), 'type')} and {len(theirs):,})",
                hint="only checkpoints with the same tokenizer can be averaged",
            )


def mean_of_weights(folders: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights of checkpoints with the same shapes: summed in float64, as float32.

    Raises:
        CheckpointError: a file can't be read, a name or shape differs, or a weight isn't finite.
    """
    import torch

    from rnnlm_tui.engine.checkpoint import read_weights

    sums: dict[str, Tensor] = {}
    for folder in folders:
        weights = read_weights(folder)
        if sums and {name: tensor.shape for name, tensor in weights.items()} != {
            name: tensor.shape for name, tensor in sums.items()
        }:
            raise CheckpointError(
                f"{folder / 'model.safetensors'} has other tensors than"
                f" {folders[0] / 'model.safetensors'}"
            )
        for name, tensor in weights.items():
            if not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(
                    f"{folder / 'model.safetensors'}: {name} has weights that are not finite",
                    hint="leave out this checkpoint",
                )
            sums[name] = tensor.double() if name not in sums else sums[name].add_(tensor)
    return {name: total.div_(len(folders)).float() for name, total in sums.items()}


def average(request: AverageRequest, report: ReportProgress) -> AverageDone:
    """Average the parts, evaluate them and the mean, and write the mean.

    Raises:
        RnnlmError: a part is damaged or of another kind, the run's text has changed or can't be
            prepared, the device is missing, or the disk is full.
    """
    from rnnlm_tui.engine.checkpoint import load_model, read_json, write_model
    from rnnlm_tui.worker.build import set_up_torch
    from rnnlm_tui.worker.resuming import prepare_text

    run = RunDirectory(Path(request.run))
    folders = [Path(part.path) for part in request.parts]
    manifests = []
    for index, folder in enumerate(folders):
        report("verifying", index, len(folders))
        manifests.append(verify_checkpoint(folder))
    check_alike(request.parts)
    config = run.read_config()
    device = set_up_torch(config)
    corpus = prepare_text(run, config, manifests[0], lambda at: report(at.phase, at.done, at.total))
    model = load_model(folders[0], device)  # of tied weights, a file has one name
    scored: list[EvaluatedPart] = []
    total = len(folders) + 1
    for index, (part, folder) in enumerate(zip(request.parts, folders, strict=True)):
        report("evaluating", index, total)
        model.load_state_dict(mean_of_weights([folder]), strict=False)
        scored.append(EvaluatedPart(address=part.address, loss=_loss(model, config, corpus)[0]))
    report("averaging", 0, 1)
    model.load_state_dict(mean_of_weights(folders), strict=False)
    report("evaluating", len(folders), total)
    loss, tokens = _loss(model, config, corpus)
    manifest, newest = max(zip(manifests, folders, strict=True), key=lambda part: part[0].step)
    facts = {
        **{name: manifest.facts[name] for name in KEPT_FACTS if name in manifest.facts},
        AVERAGED_FACT: [part.address for part in request.parts],
        "averaged_hashes": [manifest.checksum for manifest in manifests],
        "validation_loss": loss,
    }
    report("saving", 0, 1)
    write_average(
        run,
        Path(request.folder),
        manifest.step,
        lambda folder: write_model(
            folder, model, newest, generation=read_json(newest, "generation_config.json")
        ),
        facts,
    )
    return AverageDone(step=manifest.step, loss=loss, tokens=tokens, parts=tuple(scored))


def task(request: bytes, report: ReportProgress) -> AverageDone:
    """Average as an AverageRequest asks."""
    return average(decode_line(request, AverageRequest), report)


def _loss(
    model: RecurrentLanguageModel, config: RunConfig, corpus: PreparedCorpus
) -> tuple[float, int]:
    """Loss on the whole validation set in nats per token, and its number of tokens."""
    from rnnlm_tui.engine.evaluate import evaluate
    from rnnlm_tui.worker.build import split_batches

    score = evaluate(model, split_batches(config, corpus, "validation"))
    return score.loss, score.tokens
