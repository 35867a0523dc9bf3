"""Create, list, find and rename runs."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.errors import (
    ConfigError,
    RnnlmError,
    RunNameError,
    RunStateError,
    StorageError,
    UnknownRunError,
    did_you_mean,
)
from rnnlm_tui.schema.formatting import counted, first_of
from rnnlm_tui.store.labels import RunLabels, check_tags, labels_file, read_labels
from rnnlm_tui.store.paths import RUN_NAME, RunDirectory, check_run_name, runs_dir, trash_dir
from rnnlm_tui.system.files import (
    folders_named,
    fsync_directory,
    make_private_directory,
    storage_errors,
    write_text_atomically,
)
from rnnlm_tui.system.locks import RunLock, folder_lock, staging

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.store.lineage import ParentCheckpoint


ADJECTIVES = (
    "amber", "bold", "brisk", "bright", "calm", "candid", "clever", "cosy", "dapper", "deft",
    "dusty", "eager", "early", "fair", "gentle", "golden", "hardy", "honest", "humble", "jolly",
    "keen", "kind", "lively", "lucid", "mellow", "merry", "mild", "misty", "modest", "nimble",
    "noble", "patient", "plain", "plucky", "polite", "proud", "quick", "quiet", "rapid", "rustic",
    "salty", "sandy", "sharp", "shy", "silent", "silver", "sleek", "smart", "snowy", "solid",
    "stern", "still", "sunny", "swift", "tidy", "tiny", "vivid", "warm", "wild", "wise",
)  # fmt: skip
ANIMALS = (
    "adder", "alpaca", "badger", "beaver", "bison", "bittern", "camel", "crane", "curlew", "dingo",
    "dunlin", "egret", "falcon", "ferret", "finch", "gecko", "gibbon", "grouse", "hare", "heron",
    "ibex", "jackal", "kestrel", "kite", "lark", "lemur", "linnet", "lizard", "lynx", "marten",
    "mole", "moose", "newt", "ocelot", "okapi", "osprey", "otter", "owl", "panda", "petrel",
    "pipit", "plover", "puffin", "quail", "rabbit", "raven", "robin", "seal", "shrew", "siskin",
    "stoat", "stork", "swan", "tapir", "tern", "toad", "vole", "walrus", "weasel", "wombat", "wren",
    "yak", "zebra",
)  # fmt: skip


_SHOWN_NAMES = 8
DELETION = r"\.\d{10,12}\.[0-9a-f]{8}"
"""What the name of a folder in the trash ends with: Unix seconds, and a number of the deletion."""
_TRASHED = re.compile(RUN_NAME.pattern + DELETION)


def suggest_name() -> str:
    """A free name such as `plain-otter`. Uses the system's randomness: seeded generators are
    unaffected."""

    draw = secrets.SystemRandom()
    for _ in range(64):
        name = f"{draw.choice(ADJECTIVES)}-{draw.choice(ANIMALS)}"
        if not os.path.lexists(runs_dir() / name) and renamed_run(name) is None:
            return name
    return f"{draw.choice(ADJECTIVES)}-{draw.choice(ANIMALS)}-{secrets.token_hex(3)}"


def create_run(
    config: RunConfig,
    name: str | None = None,
    parent: ParentCheckpoint | None = None,
    *,
    tags: Sequence[str] = (),
) -> RunDirectory:
    """Create a run, without a worker. Its folder with config.toml appears atomically.

    Args:
        config: saved as config.toml, with absolute paths.
        name: generated if None.
        parent: the checkpoint whose weights it starts from; they are put into its folder.
        tags: its first tags.

    Raises:
        RunNameError: the name is invalid or taken.
        ConfigError: fields of the config contradict each other, or the parent's weights.
        InputError, CheckpointError: the parent can't be used: see `take_parent`.
        StorageError: the folder can't be written.
    """
    from rnnlm_tui.schema.validation import config_to_raw, parse_config
    from rnnlm_tui.store.lineage import take_parent

    config = with_absolute_paths(parse_config(config_to_raw(config)))
    if name is not None:
        check_run_name(name)
    make_private_directory(runs_dir())
    if name is not None:
        check_name_free(name)
    with staging(runs_dir()) as folder:
        unfinished = folder / "run"
        make_private_directory(unfinished)
        run = RunDirectory(unfinished)
        if parent is not None:
            take_parent(run, parent, config)
        write_text_atomically(run.config_path, _config_text(config))
        if tags:
            labels_file(run).write(RunLabels(tags=check_tags(tags)))
        return put_in_place(unfinished, name)


def list_runs() -> list[RunDirectory]:
    """All runs, newest first. Fast with hundreds of runs: no file is read.

    Raises:
        StorageError: the data home is a file, or can't be read.
    """
    runs = map(RunDirectory, _run_paths())
    return sorted(runs, key=lambda run: (run.created(), run.name), reverse=True)


def tagged_runs(tag: str) -> list[RunDirectory]:
    """The runs with a tag, newest first.

    Raises: as `list_runs`.
    """
    return [run for run in list_runs() if tag in read_labels(run).tags]


def find_run(name_or_prefix: str) -> RunDirectory:
    """The run of this name, or the only one whose name starts with it.

    Raises:
        UnknownRunError: no run matches (suggests similar names), or several do (lists them).
    """
    shown = shown_name(name_or_prefix)
    names = sorted(path.name for path in _run_paths())
    matches = [name for name in names if name_or_prefix and name.startswith(name_or_prefix)]
    if name_or_prefix in names or len(matches) == 1:
        return RunDirectory(runs_dir() / matches[0])  # the whole name is the first of them
    if matches:
        raise UnknownRunError(
            f"{shown} matches {counted(len(matches), 'run')}: {first_of(matches, _SHOWN_NAMES)}",
            hint="type more of the name",
        )
    if renamed := renamed_run(name_or_prefix):
        raise UnknownRunError(f"no run {shown}", hint=f'it was renamed to "{renamed.name}"')
    raise _unknown(name_or_prefix, names)


def run_named(name: str) -> RunDirectory:
    """The run with exactly this name or former name, for references in other runs' files.

    Raises:
        UnknownRunError: there is none; suggests similar names.
    """
    names = sorted(path.name for path in _run_paths())
    found = RunDirectory(runs_dir() / name) if name in names else renamed_run(name)
    if found is None:
        raise _unknown(name, names)
    return found


def _unknown(name: str, names: list[str]) -> UnknownRunError:
    """The error for a run that isn't among these."""
    known = (
        "`rnnlm-tui runs` lists them"
        if names
        else "there are no runs yet: `rnnlm-tui train` starts one"
    )
    return UnknownRunError(
        f"no run {shown_name(name)}",
        hint=_in_trash(name) or did_you_mean(name[:64], names) or known,
    )


def rename_run(run: RunDirectory, name: str) -> RunDirectory:
    """Rename a run that isn't running; returns it with its new path.

    Runs that started from its weights keep referring to its old name, which no other run can take
    then.

    Raises:
        RunNameError: the name is invalid or taken.
        RunStateError: a worker holds the run.
        StorageError: the folder can't be renamed.
    """
    if check_run_name(name) == run.name:
        return run
    from rnnlm_tui.store.queue import following_rename

    with lock_run(run, "renamed"), following_rename(run.name, name):
        return move_in_place(run, name)


def move_in_place(run: RunDirectory, name: str) -> RunDirectory:
    """Move a run's folder to `runs/name`.

    Raises:
        RunNameError: the name is invalid or taken.
        StorageError: the folder can't be moved.
    """
    check_run_name(name)
    with folder_lock(run.path), storage_errors("move", run.path):
        moved = _rename(run.path, name, but=run)
        fsync_directory(run.path.parent)
    return moved


def _rename(folder: Path, name: str, *, but: RunDirectory | None = None) -> RunDirectory:
    """Rename a folder to `runs/name`, which must be free: see `check_name_free`."""
    check_name_free(name, but=but)
    folder.rename(runs_dir() / name)
    fsync_directory(runs_dir())
    return RunDirectory(runs_dir() / name)


def trashed_paths() -> list[Path]:
    """The folders of deleted runs, in no order; those starting with a dot are being purged."""
    return _run_folders(trash_dir(), _TRASHED)


def trashed_names() -> list[str]:
    """The names of deleted runs."""
    return [path.name.rsplit(".", 2)[0] for path in trashed_paths()]


@contextmanager
def lock_run(run: RunDirectory, done: str) -> Iterator[None]:
    """Hold a run's lock, so that no worker can start meanwhile.

    Args:
        done: `deleted`, `renamed` or `changed`, for the message.

    Raises:
        RunStateError: a worker holds the run.
        StorageError: the run is gone, or can't be locked.
    """
    run.check_there()
    lock = RunLock(run.lock_path)
    try:
        lock.acquire(patience=0.2)
    except RunStateError as error:
        raise RunStateError(
            f"{error.message}: it can't be {done}", hint=f"`rnnlm-tui stop {run.name}` first"
        ) from error
    except StorageError:
        run.check_there()
        raise
    try:
        yield
    finally:
        lock.release()


def _in_trash(name: str) -> str:
    """A hint if a deleted run has this name; empty if none has."""
    if name not in trashed_names():
        return ""
    return f"it is in the trash: `rnnlm-tui restore {name}` restores it"


def shown_name(name: str) -> str:
    """A name for a message: quoted, shortened, control characters escaped."""
    short = name if len(name) <= 64 else name[:64] + "…"
    return f'"{short}"' if short.isprintable() else repr(short)


def _run_paths() -> list[Path]:
    return _run_folders(runs_dir(), RUN_NAME)


def _run_folders(place: Path, name: re.Pattern[str]) -> list[Path]:
    return [path for path in folders_named(place, name) if _may_be_run(path)]


def _may_be_run(path: Path) -> bool:
    """Whether the folder has a config; True without permission, so that opening the run reports
    it."""
    try:
        (path / "config.toml").stat()
    except OSError as error:
        return not isinstance(error, (FileNotFoundError, NotADirectoryError))
    return True


def check_name_free(name: str, *, but: RunDirectory | None = None) -> None:
    """Refuse a name that a run has, or had and is still referred to by.

    Args:
        but: a run that may take its own former names.

    Raises:
        RunNameError: the name is taken.
    """
    if os.path.lexists(runs_dir() / name):
        raise RunNameError(
            f'run "{name}" already exists',
            hint=f"choose another name; `rnnlm-tui open {name}` opens that run",
        )

    known = renamed_run(name)
    if known is not None and known != but:
        raise RunNameError(
            f'"{name}" is a former name of {known.name}, which runs that started from its weights'
            " refer to",
            hint="choose another name",
        )


def set_device(run: RunDirectory, device: str) -> None:
    """Let a run that isn't running train on another device from its next attempt on.

    Raises:
        ConfigError: no device has this name.
        StorageError: the config can't be read or written.
    """
    from rnnlm_tui.schema.validation import merge, parse_config

    before = run.read_config()
    config = parse_config(merge(before, {"training.device": device}))
    if config != before:  # the file's time is the run's creation
        write_text_atomically(run.config_path, _config_text(config), modified=run.created())


def change_draft(run: RunDirectory, config: RunConfig, text: str) -> None:
    """Change the config of a run that was never started.

    Args:
        config: the config, with absolute paths; of a text with problems the nearest valid one.
        text: as TOML. With problems, it stays beside the config until they are fixed.

    Raises:
        RunStateError: the run was started.
        StorageError: the run is gone, or can't be read or written.
    """
    import tomllib

    from rnnlm_tui.schema.validation import parse_config
    from rnnlm_tui.store.lineage import record_changes
    from rnnlm_tui.store.reader import RunReader

    with lock_run(run, "changed"):
        with RunReader(run) as reader:
            if reader.last_state() is not None:
                raise RunStateError(
                    f"{run.name} was started: its config can't change any more",
                    hint="n makes a new run from it",
                )
        record_changes(run, run.read_config(), config)
        try:
            valid = parse_config(tomllib.loads(text)) == config
        except ConfigError:
            valid = False
        if valid:
            write_text_atomically(run.config_path, text)
            with storage_errors("remove", run.draft_path):
                run.draft_path.unlink(missing_ok=True)
        else:
            write_text_atomically(run.draft_path, text)
            write_text_atomically(run.config_path, _config_text(config))


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The config with absolute paths and patterns, so that the run can be resumed from any
    folder."""
    from rnnlm_tui.store.corpora import absolute_paths

    corpus, tokenizer = absolute_paths(config.corpus, config.tokenizer)
    return config.model_copy(update={"corpus": corpus, "tokenizer": tokenizer})


def _config_text(config: RunConfig) -> str:
    from rnnlm_tui.schema.toml import toml_text
    from rnnlm_tui.schema.validation import config_to_raw

    return toml_text(config_to_raw(config))


def put_in_place(unfinished: Path, name: str | None) -> RunDirectory:
    """Rename a finished folder below the runs folder to a run; durable.

    Args:
        name: generated if None.

    Raises:
        RunNameError: the name is taken.
        StorageError: the folder can't be renamed.
    """
    chosen = suggest_name() if name is None else name
    with storage_errors("create", runs_dir() / chosen):
        return _rename(unfinished, chosen)


def renamed_run(name: str) -> RunDirectory | None:
    """The run that had this name when another, which may be deleted, started from its weights."""
    from rnnlm_tui.store.lineage import read_parent

    known = {run.created(): run for run in map(RunDirectory, _run_paths())}
    for child in map(RunDirectory, [*_run_paths(), *trashed_paths()]):
        with suppress(RnnlmError):
            parent = read_parent(child)
            found = known.get(parent.created) if parent is not None else None
            if parent is not None and parent.run == name and found not in (None, child):
                return found
    return None
