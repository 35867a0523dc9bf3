"""Prepared corpora: list them with the runs that use them, remove them, and preview a text."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from rnnlm_tui.client.child import run_child
from rnnlm_tui.client.listing import listed_runs
from rnnlm_tui.corpus.build import is_held, move_unheld
from rnnlm_tui.corpus.count import is_large
from rnnlm_tui.corpus.sources import open_source
from rnnlm_tui.errors import (
    InputError,
    RnnlmError,
    RunStateError,
    WorkerError,
    did_you_mean,
)
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, RunConfig, TokenizerKind
from rnnlm_tui.schema.corpora import (
    PREVIEWED_CHARACTERS,
    PREVIEWED_LINES,
    UNFINISHED_NAME,
    UNFINISHED_PREFIX,
    CorpusManifest,
    TextLayout,
    dataset_names,
)
from rnnlm_tui.schema.formatting import counted, first_of
from rnnlm_tui.schema.protocol import TokensDone
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.corpora import find_corpus, list_corpora
from rnnlm_tui.store.paths import corpora_dir
from rnnlm_tui.system.files import folder_bytes, storage_errors, text_of
from rnnlm_tui.system.locks import folder_lock, staging

_SHOWN_RUNS = 8
_NEEDING = LIVING | RESUMABLE | {"lost"}
"""Statuses of a run that needs its corpus."""

MOST_PREVIEWED_FILES = 5_000
"""A folder with more files isn't searched for a preview: it would take more than a tenth of a
second."""
_WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)|\s+(?!\S)|\s")
_SIGNS = str.maketrans({" ": "·", "\t": "→", "\n": "↵", "\r": "␍"})


@dataclass(frozen=True, slots=True)
class StoredCorpus:
    """A prepared corpus, or an unfinished one whose preparation is running or was interrupted."""

    path: Path
    name: str
    """The name of its folder: the first digits of its hash."""
    source: str
    bytes: int
    """Size on disk."""
    manifest: CorpusManifest | None
    """None if unfinished."""
    runs: tuple[str, ...] = ()
    """Runs that train or trained on it."""
    needed_by: tuple[str, ...] = ()
    """The runs among them that train or can be resumed."""
    preparing: bool = False
    """Whether a process is preparing it."""


def stored_corpora() -> list[StoredCorpus]:
    """All corpora, newest first; unfinished ones last.

    Raises:
        StorageError: the data home can't be read.
    """
    users: dict[str | None, list[RunSummary]] = {}
    for summary in listed_runs().runs:
        users.setdefault(summary.corpus_hash, []).append(summary)
    found = []
    for manifest in list_corpora():
        path, mine = corpora_dir() / manifest.folder, users.get(manifest.hash, ())
        found.append(
            StoredCorpus(
                path,
                manifest.folder,
                manifest.corpus.source,
                folder_bytes(path),
                manifest,
                tuple(user.run for user in mine),
                tuple(user.run for user in mine if user.status in _NEEDING),
            )
        )
    return found + _unfinished()


def choose_corpora(names: Sequence[str]) -> list[StoredCorpus]:
    """Find corpora by source or by the first characters of their folder's name; each is returned
    once.

    Raises:
        InputError: a name matches no corpus, or several.
    """
    known = stored_corpora()
    chosen: dict[str, StoredCorpus] = {}
    for name in names:
        same = [corpus for corpus in known if corpus.name == name] or [
            corpus
            for corpus in known
            if name and (corpus.name.startswith(name) or corpus.source == name)
        ]
        if not same:
            hint = (
                did_you_mean(
                    name, [word for corpus in known for word in (corpus.name, corpus.source)]
                )
                or "`rnnlm-tui corpus` lists them"
            )
            raise InputError(f'no prepared corpus "{name}"', hint=hint)
        if len(same) > 1:
            raise InputError(
                f'"{name}" matches {len(same)} prepared corpora:'
                f" {', '.join(corpus.name for corpus in same)}",
                hint="give the full folder name",
            )
        chosen[same[0].name] = same[0]
    return list(chosen.values())


def check_unneeded(corpora: Sequence[StoredCorpus]) -> None:
    """Refuse to remove corpora that a run needs or that are being prepared.

    Raises:
        RunStateError: names the runs.
    """
    for corpus in corpora:
        if corpus.preparing:
            raise RunStateError(
                f"{corpus.name} ({corpus.source}) is being prepared",
                hint="stop the run that prepares it first",
            )
        if corpus.needed_by:
            raise RunStateError(
                f"{corpus.name} ({corpus.source}) is needed by"
                f" {first_of(corpus.needed_by, _SHOWN_RUNS)}",
                hint=(
                    "a run that trains or can be resumed needs its corpus: let it finish, or"
                    " delete it"
                ),
            )


def remove_corpora(corpora: Sequence[StoredCorpus]) -> list[StoredCorpus]:
    """Check again that no run needs the corpora, then remove their folders; returns those that were
    still there.

    Raises:
        RunStateError: as `check_unneeded`.
        StorageError: a folder can't be removed.
    """
    chosen = {corpus.path for corpus in corpora}
    with staging(corpora_dir()) as doomed:
        with folder_lock(corpora_dir()):  # no run can start to use them until they are moved
            found = [corpus for corpus in stored_corpora() if corpus.path in chosen]
            check_unneeded(found)
            for corpus in found:
                with storage_errors("remove", corpus.path):
                    try:
                        move_unheld(corpus.path, doomed)
                    except BlockingIOError:
                        check_unneeded([replace(corpus, preparing=True)])
        for corpus in found:
            with storage_errors("remove all of", corpus.path):
                shutil.rmtree(doomed / corpus.path.name)
    return found


def _unfinished() -> list[StoredCorpus]:
    folders = sorted(corpora_dir().glob(f"{UNFINISHED_PREFIX}*")) if corpora_dir().is_dir() else []
    return [
        StoredCorpus(
            path,
            path.name.removeprefix(UNFINISHED_PREFIX),
            text_of(path / UNFINISHED_NAME),
            folder_bytes(path),
            None,
            preparing=is_held(path),
        )
        for path in folders
        if path.is_dir()
    ]


@dataclass(frozen=True, slots=True)
class Preview:
    """The start of a text as a model will read it."""

    layout: TextLayout
    reason: str
    """Why `corpus.layout=auto` chose this layout; empty if it was set."""
    lines: tuple[tuple[str, ...], ...]
    """The first lines or sentences of the training text, in pieces."""
    exact: bool
    """Whether the pieces are the tokens; otherwise they are words, which the tokenizer, once
    trained, may split or not know."""
    trained_on: str = ""
    """The part of the text that the tokenizer was trained on; empty: all of it, or no tokenizer."""


def preview(config: RunConfig) -> Preview | None:
    """The start of the text; None for a built-in corpus that isn't on this machine yet, and for a
    folder with too many files.

    Raises:
        CorpusError: the user's file is not text, or a table without the named column.
    """
    manifest = find_corpus(config.corpus, config.tokenizer)
    if manifest is not None and manifest.first_lines:
        return Preview(manifest.layout, manifest.layout_reason, manifest.first_lines, exact=True)
    if dataset_names(config.corpus):
        return None  # reading it would run the user's code in the app
    if config.corpus.source not in BUILT_IN_SOURCES and is_large(
        config.corpus.source, MOST_PREVIEWED_FILES
    ):
        return None
    try:
        source = open_source(config.corpus, corpora_dir())
        document = next(
            (found for found in source.documents(lambda _: None) if found.split == "train"), None
        )
        units = [] if document is None else list(islice(document.sentences, PREVIEWED_LINES))
    except RnnlmError:
        if config.corpus.source in BUILT_IN_SOURCES:
            return None
        raise
    except OSError:
        return None
    kind = config.tokenizer.kind
    lines = tuple(tuple(_pieces(unit[:PREVIEWED_CHARACTERS], kind)) for unit in units)
    return Preview(
        source.layout,
        source.layout_reason,
        lines,
        exact=kind == "character" or (kind == "byte" and "".join(units).isascii()),
    )


PREVIEW_SECONDS = 60.0
"""A pretrained tokenizer takes seconds to load; more means that something hangs."""


class _Cancelled(Exception):  # noqa: N818 - not an error: it was requested
    """The preview is no longer needed."""


def token_preview(
    config: RunConfig, cancelled: Callable[[], bool] = lambda: False
) -> Preview | None:
    """The start of the text as tokens. A child process splits it: the app imports no tokenizer.

    The tokenizer is built from the beginning of the text. Nothing is written.

    Args:
        cancelled: asked while it runs; the child is then killed.

    Returns:
        None if cancelled.

    Raises:
        CorpusError, TokenizerError: the text or the tokenizer can't be used.
        WorkerError: the child died or didn't answer.
    """
    deadline = time.monotonic() + PREVIEW_SECONDS

    def check() -> None:
        if cancelled():
            raise _Cancelled
        if time.monotonic() > deadline:
            raise WorkerError("the token preview didn't answer")

    try:
        message = run_child(
            "token_preview",
            config,
            TokensDone,
            what="the token preview",
            check=check,
        )
    except _Cancelled:
        return None
    part = f"the first {counted(message.read_characters, 'character')}"
    return Preview(
        message.layout,
        message.layout_reason,
        message.lines,
        exact=message.whole,
        trained_on="" if message.whole else part,
    )


def visible(piece: str) -> str:
    """Show white space as signs: `·` a space, `→` a tab, `↵` a line break."""
    return piece.translate(_SIGNS)


def _pieces(unit: str, kind: TokenizerKind) -> list[str]:
    if kind in ("character", "byte"):
        return list(unit)
    return [unit] if kind == "pretrained" else _WORD.findall(unit)
