"""What lies in the folder of the corpora: prepared ones, the runs that use each, unfinished ones; and how one is removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.corpora import UNFINISHED_PREFIX, CorpusManifest
from rnnlm_tui.contract.status import LIVING, RESUMABLE
from rnnlm_tui.corpus.building import is_held, move_aside_unheld, root_lock
from rnnlm_tui.errors import InputError, RnnlmError, RunStateError, StorageError, near_names
from rnnlm_tui.store.corpora import list_corpora
from rnnlm_tui.store.locations import corpora_dir
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.supervisor.monitor import summary_or_problem

_SHOWN_RUNS = 8


@dataclass(frozen=True, slots=True)
class StoredCorpus:
    """A prepared corpus, or what a preparation that ended early has left."""

    path: Path
    name: str
    """Of its folder: the beginning of its hash."""
    source: str
    bytes: int
    """On the disk."""
    manifest: CorpusManifest | None
    """None while it is unfinished."""
    runs: tuple[str, ...] = ()
    """Those that train or trained on it."""
    needed_by: tuple[str, ...] = ()
    """Of these, those that train or can go on."""
    preparing: bool = False
    """A process works on it just now."""


@dataclass(frozen=True, slots=True)
class _User:
    run: str
    needs: bool
    """It trains, or can go on."""
    corpus_hash: str | None
    config: RunConfig | None

    def uses(self, manifest: CorpusManifest) -> bool:
        if self.corpus_hash is not None:
            return self.corpus_hash == manifest.hash
        return self.config is not None and manifest.is_from(self.config.corpus, self.config.tokenizer)


def stored_corpora() -> list[StoredCorpus]:
    """All of them, the newest first, the unfinished ones behind the prepared ones.

    Raises:
        StorageError: the data home can't be read.
    """
    users = _users()
    found = []
    for manifest in list_corpora():
        mine = [user for user in users if user.uses(manifest)]
        path = corpora_dir() / manifest.folder
        runs, needed_by = tuple(user.run for user in mine), tuple(user.run for user in mine if user.needs)
        found.append(StoredCorpus(path, manifest.folder, manifest.corpus.source, _size(path), manifest, runs, needed_by))
    return found + _unfinished()


def choose_corpora(names: Sequence[str]) -> list[StoredCorpus]:
    """The corpora of these names, each the beginning of a folder's name or a source, once.

    Raises:
        InputError: none of a name, or several.
    """
    known = stored_corpora()
    chosen: dict[str, StoredCorpus] = {}
    for name in names:
        same = [corpus for corpus in known if corpus.name == name] or [
            corpus for corpus in known if name and (corpus.name.startswith(name) or corpus.source == name)
        ]
        if not same:
            hint = near_names(name, [word for corpus in known for word in (corpus.name, corpus.source)]) or "`rnnlm-tui corpus` lists them"
            raise InputError(f'no prepared corpus "{name}"', hint=hint)
        if len(same) > 1:
            raise InputError(
                f'"{name}" means {len(same)} prepared corpora: {", ".join(corpus.name for corpus in same)}', hint="name the folder of one, or of each"
            )
        chosen[same[0].name] = same[0]
    return list(chosen.values())


def check_unneeded(corpora: Sequence[StoredCorpus]) -> None:
    """Refuse to remove what a run needs, or what is being prepared.

    Raises:
        RunStateError: with the names of the runs.
    """
    for corpus in corpora:
        if corpus.preparing:
            raise RunStateError(f"{corpus.name} ({corpus.source}) is being prepared", hint="stop the run that prepares it first")
        if corpus.needed_by:
            names = ", ".join(corpus.needed_by[:_SHOWN_RUNS]) + (
                f" and {len(corpus.needed_by) - _SHOWN_RUNS} more" if len(corpus.needed_by) > _SHOWN_RUNS else ""
            )
            raise RunStateError(
                f"{corpus.name} ({corpus.source}) is needed by {names}",
                hint="a run that trains or can be resumed needs its corpus: let it finish, or delete it",
            )


def remove_corpora(corpora: Sequence[StoredCorpus]) -> list[StoredCorpus]:
    """Remove their folders for good, where still nobody needs any of them; those that were removed, as they were then.

    Raises:
        RunStateError: as `check_unneeded`, by what the runs need now.
        StorageError: one can't be removed.
    """
    chosen = {corpus.path for corpus in corpora}
    aside = []
    try:
        with root_lock(corpora_dir()):  # until they are out of the way no run can begin to use them
            found = [corpus for corpus in stored_corpora() if corpus.path in chosen]
            check_unneeded(found)
            for corpus in found:
                try:
                    aside.append(move_aside_unheld(corpus.path))
                except BlockingIOError:
                    check_unneeded([replace(corpus, preparing=True)])
                except OSError as error:
                    raise StorageError(f"{corpus.path} can't be removed: {error.strerror or error}") from error
    finally:
        for path in aside:
            shutil.rmtree(path, ignore_errors=True)
    if left := [path for path in aside if path.exists()]:
        raise StorageError(f"not all of {left[0]} can be removed", hint="look at its owner and permissions")
    return found


def _users() -> list[_User]:
    """Every run that has begun; which corpus is its own stands in its summary, or follows from its settings where an earlier version started it."""
    found = []
    for run in list_runs():
        summary = summary_or_problem(run)
        if summary.status == "draft":
            continue
        try:
            config = run.read_config() if summary.corpus_hash is None else None
        except RnnlmError:
            config = None
        found.append(_User(run.name, summary.status in LIVING | RESUMABLE | {"lost"}, summary.corpus_hash, config))
    return found


def _unfinished() -> list[StoredCorpus]:
    folders = sorted(corpora_dir().glob(f"{UNFINISHED_PREFIX}*")) if corpora_dir().is_dir() else []
    return [
        StoredCorpus(path, path.name.removeprefix(UNFINISHED_PREFIX), _unfinished_source(path), _size(path), None, preparing=is_held(path))
        for path in folders
        if path.is_dir()
    ]


def _unfinished_source(folder: Path) -> str:
    try:
        source = json.loads((folder / "unfinished.json").read_bytes())["source"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return source if isinstance(source, str) else ""


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0  # removed meanwhile
