"""The verbs `corpus`, `corpus remove` and `baseline`: prepared and built-in corpora."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.cli.options import YesOption, arg, check_exclusive, flag
from rnnlm_tui.cli.output import Answer, ProgressLine, check_agreed, line, table
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import (
    count,
    counted,
    disk,
    duration,
    figure,
    first_of,
    perplexity_text,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import StoredCorpus
    from rnnlm_tui.schema.corpora import CorpusManifest
    from rnnlm_tui.schema.protocol import CountModel


_SHOWN_RUNS = 3
_COLUMNS = (
    "prepared", "tokenizer", ">train", ">validation", ">test", ">text", ">on disk", "folder",
    "runs",
)  # fmt: skip


def complete_corpus() -> list[str]:
    """List the folders of prepared corpora, for the shell."""
    return [manifest.folder for manifest in store.corpora.list_corpora()]


def corpus() -> Answer:
    """List corpora with their sizes and runs."""
    stored = client.corpora.stored_corpora()
    built_in = _built_in()

    def text() -> None:
        known = [(str(item["source"]), f"{item['title']}{_where(item)}") for item in built_in]
        table(("built in", "description"), known)
        line()
        if not stored:
            line("no prepared corpora yet: a corpus is prepared by its first run")
            return
        rows = [_row(one, one.manifest) for one in stored]
        table(_COLUMNS, rows, spare=(4, 3, 5, 2, 1))
        for one in stored:
            for remark in one.manifest.all_notes if one.manifest is not None else ():
                line(f"{one.name}: {remark}")
        line(
            f"{disk(sum(one.bytes for one in stored))} in total: `rnnlm-tui corpus remove FOLDER`"
            " removes an unused one"
        )

    value = {
        "built_in": built_in,
        "prepared": [_corpus_json(one, one.manifest) for one in stored if one.manifest is not None],
        "unfinished": [
            {**_facts(one), "source": one.source or None, "preparing": one.preparing}
            for one in stored
            if one.manifest is None
        ],
    }
    return Answer(value, text)


def corpus_remove(
    corpora: list[str] | None = arg(
        "[CORPUS]...",
        "Folders of prepared corpora (their first characters are enough), or sources.",
        None,
        complete_corpus,
    ),
    unused: bool = flag("--unused", "Remove every prepared corpus that no run has used."),
    dry_run: bool = flag("--dry-run", "Print what would be removed, without removing it."),
    yes: YesOption = False,
) -> Answer:
    """Remove unused prepared corpora; asks for confirmation.

    A corpus that a run needs (one that trains or can be resumed) is not removed. Your text files
    are not touched: a new run prepares the corpus again.
    """
    from rnnlm_tui.client.corpora import check_unneeded, choose_corpora, remove_corpora

    check_exclusive(CORPUS=corpora, unused=unused)
    if not corpora and not unused:
        raise InputError("name a corpus, or use --unused", hint="`rnnlm-tui corpus` lists them")
    found = (
        [one for one in client.corpora.stored_corpora() if not one.runs and not one.preparing]
        if unused
        else choose_corpora(corpora or [])
    )
    check_unneeded(found)
    if found and not dry_run:
        question = f"remove {_named(found)}, {disk(sum(one.bytes for one in found))}?"
        check_agreed(question, "corpus remove", yes=yes, otherwise="nothing was removed")
        found = remove_corpora(found)
    size, done = sum(one.bytes for one in found), "would remove" if dry_run else "removed"
    value = {done.replace(" ", "_"): list(map(_facts, found)), "freed": 0 if dry_run else size}
    words = f"{done} {_named(found)}, {disk(size)}{'' if dry_run else ' freed'}" if found else ""
    return Answer(value, words or "no unused prepared corpora")


def baseline(
    corpus: str = arg(
        "CORPUS",
        "A prepared corpus's folder (its first characters are enough), or its source.",
        complete=complete_corpus,
    ),
) -> Answer:
    """Count a corpus's n-grams: the perplexities to beat.

    All training tokens are counted, and the losses are kept with the corpus, for its next runs.
    The models are interpolated modified Kneser-Ney models of order 1 to 5. If tokens may be parts
    of words, models of words are listed too: compare bits per byte.
    """
    from rnnlm_tui.cli.checkpoints import progress_text
    from rnnlm_tui.client.corpora import choose_corpora, count_baselines

    (chosen,) = choose_corpora([corpus])
    with ProgressLine() as progress:
        done = count_baselines(chosen, lambda at: progress(progress_text(at)))

    def tables() -> None:
        for mode in done.modes:
            kept = mode.kept_tokens
            text = "stream" if kept is None else f"{counted(kept, 'token')} of each sentence"
            line(f"{chosen.source}, {text}: {counted(mode.counted, 'training token')} counted")
            table(_MODEL_COLUMNS, map(_model_row, mode.models), spare=(4, 5))

    return Answer({**_facts(chosen), **done.model_dump()}, tables)


_MODEL_COLUMNS = (
    "model", ">val ppl", ">test ppl", ">bits/byte", ">n-grams", ">time",
)  # fmt: skip


def _model_row(model: CountModel) -> tuple[str, ...]:
    per, test = model.perplexity, model.bits_per_byte["test"]
    return (
        f"{model.order}-gram of {model.unit}s",
        *(perplexity_text(per[split]) for split in ("validation", "test")),
        figure(test, 3),
        count(model.ngrams),
        duration(model.seconds),
    )


def _named(corpora: list[StoredCorpus]) -> str:
    if len(corpora) > 1:
        return f"{len(corpora)} prepared corpora ({', '.join(one.name for one in corpora)})"
    return f"the prepared corpus {corpora[0].name}" + (
        f" ({corpora[0].source})" if corpora[0].source else ""
    )


def _row(one: StoredCorpus, manifest: CorpusManifest | None) -> tuple[str, ...]:
    if manifest is None:
        state, runs = (
            ("being prepared", "") if one.preparing else ("unfinished", "its next run starts again")
        )
        empty = [""] * 4
        return (one.source or "unknown", state, *empty, disk(one.bytes), one.name, runs)
    tokens = (f"{manifest.splits[split].tokens:,}" for split in ("train", "validation", "test"))
    text = disk(sum(facts.bytes for facts in manifest.splits.values()))
    runs = first_of(one.runs, _SHOWN_RUNS) or "none"
    return (
        manifest.corpus.source,
        f"{manifest.tokenizer.kind} {manifest.vocab_size:,}",
        *tokens,
        text,
        disk(one.bytes),
        one.name,
        runs,
    )


def _where(item: dict[str, object]) -> str:
    """Describe what a built-in corpus needs, or its size on disk."""
    if not item["available"]:
        return f" (needs: {item['needs']})"
    size = item.get("bytes")
    if not isinstance(size, int):
        return ""
    when = f", downloaded {str(item['fetched'])[:10]}" if item["fetched"] else ""
    return f" ({disk(size)}{when})"


_TITLES = {
    "presidents": "57 spoken State of the Union addresses since 1961",
    "elman": "generated number-agreement sentences with known entropy",
    "news": "22 million news sentences, as used by the book",
}


def _built_in() -> list[dict[str, object]]:
    from rnnlm_tui.corpus.news import news_files, news_record
    from rnnlm_tui.store.paths import corpora_dir

    files, record = news_files(corpora_dir()), news_record(corpora_dir())
    news = {
        "available": files is not None,
        "needs": "" if files else "a network connection: the first run downloads it",
        "bytes": sum(path.stat().st_size for path in files) if files else None,
        **{name: getattr(record, name, None) for name in ("fetched", "url", "sha256")},
    }
    here = {"available": True, "needs": ""}
    return [
        {"source": source, "title": title, **(news if source == "news" else here)}
        for source, title in _TITLES.items()
    ]


_STORED = {
    "hash", "title", "vocab_size", "splits", "source_loss", "created", "layout", "first_lines",
}  # fmt: skip
"""What `--json` prints of a manifest."""


def _corpus_json(one: StoredCorpus, manifest: CorpusManifest) -> dict[str, object]:
    configs = (manifest.corpus, *(other.corpus for other in manifest.also))
    return manifest.model_dump(mode="json", include=_STORED) | {
        "source": manifest.corpus.source,
        "tokenizer": manifest.tokenizer.kind,
        "notes": list(manifest.all_notes),
        "sources": [config.source for config in configs],
        "path": one.path,
        "bytes": one.bytes,
        "runs": one.runs,
        "needed_by": one.needed_by,
    }


def _facts(one: StoredCorpus) -> dict[str, object]:
    return {"folder": one.name, "source": one.source, "path": one.path, "bytes": one.bytes}
