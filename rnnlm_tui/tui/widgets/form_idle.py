"""Which fields have no effect in a config, and why; the form dims and folds them."""

from __future__ import annotations

from collections.abc import Sequence

from rnnlm_tui.contract.config import HEADED_CELLS, RECURRENT_WEIGHT_CELLS, RunConfig
from rnnlm_tui.contract.corpora import BUILT_IN_SOURCES


def fold_words(reasons: Sequence[str], room: int, *, open: bool = False) -> str:
    """Label folded fields, with as many reasons as fit: `5 more for news, elman; greedy`."""
    unique = tuple(dict.fromkeys(reasons))
    number = f"hide {len(reasons)}" if open else f"{len(reasons)} more"
    for count in range(len(unique), 0, -1):
        kinds = ", ".join(reason.removesuffix(" only") for reason in unique[:count] if reason.endswith(" only"))
        rest = [reason for reason in unique[:count] if not reason.endswith(" only")]
        words = f"{number} {'; '.join([*([f'for {kinds}'] if kinds else []), *rest])}{', …' if count < len(unique) else ''}"
        if len(words) <= room:
            return words
    return number


def idle_fields(config: RunConfig) -> dict[str, str]:
    """Map the fields that have no effect in this config to a few words why."""
    idle: dict[str, str] = {}
    corpus, tokenizer, training, sampling = config.corpus, config.tokenizer, config.training, config.sampling
    if corpus.source != "elman":
        idle |= dict.fromkeys(("corpus.sentences", "corpus.seed"), "elman only")
    if "news" not in (corpus.source, corpus.test_source):
        idle["corpus.url"] = "news only"
    if corpus.source in BUILT_IN_SOURCES:
        idle |= {"corpus.text_field": "records only", "corpus.layout": "your own text only"}
    if corpus.test_source is not None:
        idle["corpus.test_fraction"] = "test source is set"
    elif corpus.source in ("presidents", "news"):
        idle["corpus.test_fraction"] = "has its own test set"
    if tokenizer.kind == "byte":
        idle["tokenizer.vocab_size"] = "256 bytes"
    if tokenizer.kind in ("byte", "bpe"):
        idle["sampling.unknown"] = f"no <unk> in {tokenizer.kind}"
    if tokenizer.kind != "pretrained":
        idle["tokenizer.name"] = "pretrained only"
    idle |= _idle_of_the_model(config)
    if config.optimizer.algorithm != "adamw":
        idle |= dict.fromkeys(("optimizer.beta1", "optimizer.beta2", "optimizer.eps"), "adamw only")
    if config.schedule.kind != "cosine":
        idle["schedule.final_fraction"] = "cosine only"
    if config.schedule.kind != "decay":
        idle |= dict.fromkeys(("schedule.decay_after", "schedule.decay_factor"), "decay only")
    if training.max_steps is not None:
        idle["training.epochs"] = "max steps is set"
    if training.data_mode == "stream":
        idle |= dict.fromkeys(("training.context_length", "training.shuffle"), "sentence mode only")
    else:
        idle["training.bptt"] = "stream mode only"
    if sampling.is_greedy:
        idle |= dict.fromkeys(("sampling.top_k", "sampling.top_p", "sampling.min_p", "sampling.seed"), "greedy")
    if sampling.greedy:
        idle["sampling.temperature"] = "greedy"
    return idle


def _idle_of_the_model(config: RunConfig) -> dict[str, str]:
    """Return the model's fields that the cell, the initial weights or the data mode leave unused."""
    idle: dict[str, str] = {}
    model = config.model
    if model.cell_type not in HEADED_CELLS:
        idle["model.num_heads"] = f"{' and '.join(HEADED_CELLS)} only"
    if model.cell_type not in RECURRENT_WEIGHT_CELLS:
        idle["model.weight_dropout"] = f"not used by {model.cell_type}"
    if model.initialization != "uniform":
        idle["model.init_scale"] = "uniform only"
    if config.training.data_mode == "sentences":
        idle |= dict.fromkeys(("model.variational_dropout", "model.embedding_dropout", "model.weight_dropout"), "stream mode only")
    elif not model.dropout:
        idle["model.variational_dropout"] = "dropout is 0"
    return idle
