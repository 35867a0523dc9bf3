"""Which fields do nothing in a config, and why: they stand dim in the form instead of promising an effect."""

from __future__ import annotations

from rnnlm_tui.contract.config import RunConfig


def idle_fields(config: RunConfig) -> dict[str, str]:
    """Dotted path to a few words, for each field that this config's other fields make idle."""
    idle: dict[str, str] = {}
    corpus, tokenizer, training, sampling = config.corpus, config.tokenizer, config.training, config.sampling
    if corpus.source != "elman":
        idle |= dict.fromkeys(("corpus.sentences", "corpus.seed"), "elman only")
    if corpus.source in ("presidents", "elman", "python-docs"):
        idle["corpus.text_field"] = "JSONL only"
    if corpus.test_source is not None:
        idle["corpus.test_fraction"] = "test source is set"
    elif corpus.source == "presidents":
        idle["corpus.test_fraction"] = "has its own test set"
    if tokenizer.kind == "byte":
        idle["tokenizer.vocab_size"] = "256 bytes"
    if tokenizer.kind != "pretrained":
        idle["tokenizer.name"] = "pretrained only"
    if config.schedule.kind == "constant":
        idle["schedule.final_fraction"] = "cosine only"
    if training.max_steps is not None:
        idle["training.epochs"] = "max steps decides"
    if training.data_mode == "stream":
        idle |= dict.fromkeys(("training.context_length", "training.shuffle"), "sentence mode only")
    else:
        idle["training.bptt"] = "stream mode only"
    if sampling.greedy:
        idle |= dict.fromkeys(("sampling.temperature", "sampling.top_k", "sampling.top_p", "sampling.seed"), "greedy")
    return idle
