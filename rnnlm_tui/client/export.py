"""Export checkpoints to other programs' formats, and import a foreign state dict as a run.

A child process writes a temporary folder beside the target and compares what it wrote with the
checkpoint; only then the folder gets its name.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rnnlm_tui.client.child import run_child
from rnnlm_tui.errors import InputError, RnnlmError, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.exports import (
    BOOK_NAME,
    MARKER_NAME,
    ExportDone,
    ExportFormat,
    ExportMarker,
    ExportRequest,
    ImportDone,
    ImportRequest,
)
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.formatting import counted, first_of, user_path
from rnnlm_tui.schema.metrics import AttemptRow, EventRow
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import Export, add_export
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.manifest import read_manifest
from rnnlm_tui.store.paths import RunDirectory, check_run_name, runs_dir
from rnnlm_tui.store.runs import check_name_free, create_run
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.system.disk import ROOM_FOR_ROWS, require_space
from rnnlm_tui.system.files import (
    make_private_directory,
    read_at_most,
    storage_errors,
)
from rnnlm_tui.system.locks import boot_id, host_name, put_staged, reading, staging

EXPORT_SETTINGS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""One thread: a training run needs the other cores."""
_MARKER_BYTES = 4 << 20

Report = Callable[[TaskProgress], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export."""

    run: str
    step: int
    format: ExportFormat
    folder: Path
    bytes: int
    files: tuple[str, ...]
    done: ExportDone
    """What the comparison found."""


def export_checkpoint(
    run: RunDirectory,
    checkpoint: Path,
    target: Path,
    format: ExportFormat,
    *,
    force: bool = False,
    report: Report = lambda _: None,
) -> Exported:
    """Write a checkpoint to the folder `target` in another format, compared with the checkpoint.

    Takes some seconds: call it in a thread. If it fails, nothing is left at or beside the target.

    Args:
        checkpoint: the checkpoint's folder in the run.
        force: replace an existing export, but no other folder.
        report: called with each phase; an exception ends the export.

    Raises:
        InputError: the target isn't empty, the format can't hold the model, or packages are
            missing.
        StorageError: the disk is full, or the checkpoint is damaged.
        WorkerError: the process died, or the exported model differs.
    """
    target = user_path(str(target)).absolute()
    check_target(target, force=force)
    size = read_manifest(checkpoint).bytes
    require_space(target.parent, size + ROOM_FOR_ROWS, "an export of this size")
    with staging(target.parent) as place:
        folder = place / "export"
        make_private_directory(folder)
        request = ExportRequest(
            run=str(run.path),
            checkpoint=str(checkpoint),
            target=str(folder),
            name=target.name,
            format=format,
        )
        with reading(checkpoint):
            done = run_child(
                "export", request, ExportDone, report, what="the export", settings=EXPORT_SETTINGS
            )
        with storage_errors("look into", folder):
            written = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        check_target(target, force=force)  # it may have changed
        with storage_errors("write", target):
            put_staged(folder, target)
    with suppress(StorageError):  # the export is complete; a read-only run can't be marked
        add_export(run, Export(done.step, format, str(target), time.time()))
    size = sum(written.values())
    return Exported(run.name, done.step, format, target, size, tuple(written), done)


def check_target(target: Path, *, force: bool = False) -> None:
    """Refuse a target that an export would overwrite.

    Raises:
        InputError: it is a file, a folder that isn't empty, or with `force` not an export.
        StorageError: its parent folder is missing, or can't be read or written.
    """
    if not target.parent.is_dir():
        raise StorageError(f"folder not found: {target.parent}", hint="create it first")
    if not os.access(target.parent, os.W_OK):
        raise StorageError(
            f"can't write to {target.parent}", hint="choose a folder that you may write to"
        )
    if target.is_symlink() or (os.path.lexists(target) and not target.is_dir()):
        raise InputError(
            f"{target} is {'a link' if target.is_symlink() else 'a file'}, not a folder",
            hint="name a new folder",
        )
    if not target.is_dir():
        return
    with storage_errors("look into", target):
        names = {path.name for path in target.iterdir()}
    if not names:
        return
    marker = _read_marker(target)
    if not force:
        raise InputError(
            f"the folder {target} is not empty",
            hint="name a new folder"
            + ("" if marker is None else f", or replace this export of {marker.run} with --force"),
        )
    if marker is None:
        raise InputError(
            f"the folder {target} is not an export (it has no {MARKER_NAME}), so --force doesn't"
            " replace it",
            hint="name a new folder",
        )
    others = sorted(names - marker.files.keys() - {MARKER_NAME})
    if others:
        raise InputError(
            f"the export in {target} has {counted(len(others), 'file')} that"
            f" {'was' if len(others) == 1 else 'were'} added later: {first_of(others, 5)}",
            hint="move them elsewhere, or name a new folder",
        )


def import_book(
    file: Path,
    name: str | None = None,
    *,
    tokenizer: str | None = None,
    report: Report = lambda _: None,
) -> tuple[RunDirectory, ImportDone]:
    """Make a run with one checkpoint of a state dict of the book's model (.pth).

    Args:
        name: of the run; generated if None.
        tokenizer: a folder with tokenizer.json, or a name on the Hugging Face hub; None: the files
            beside the state dict.
        report: called with each phase; an exception ends the import.

    Raises:
        InputError: no tokenizer, or the run's name is taken.
        CheckpointError: the file isn't a state dict of the book's model.
        StorageError: the file can't be read, or the run can't be written.
        WorkerError: the process died.
    """
    file = user_path(str(file)).absolute()
    if name is not None:
        check_run_name(name)
        check_name_free(name)
    if not file.is_file():
        raise StorageError(
            f"{file} is {'a folder' if file.is_dir() else 'missing'}, not a state dict",
            hint=f"name the file: {file / BOOK_NAME}" if (file / BOOK_NAME).is_file() else "",
        )
    vocabulary = tokenizer or _tokenizer_beside(file)
    make_private_directory(runs_dir())
    with staging(runs_dir()) as place:
        files = place / "model"
        make_private_directory(files)
        request = ImportRequest(
            file=str(file),
            tokenizer=vocabulary,
            target=str(files),
        )
        done = run_child(
            "export", request, ImportDone, report, what="the import", settings=EXPORT_SETTINGS
        )
        return _make_run(files, file, name, vocabulary, done), done


def _tokenizer_beside(file: Path) -> str:
    if (file.parent / "tokenizer.json").is_file():
        return str(file.parent)
    raise InputError(
        f"no tokenizer beside {file}, and a state dict holds weights alone",
        hint="name the one it was trained with: --tokenizer FOLDER, or for the book's own model"
        " --tokenizer microsoft/Phi-3.5-mini-instruct (needs a network)",
    )


def _make_run(
    files: Path, origin: Path, name: str | None, tokenizer: str, done: ImportDone
) -> RunDirectory:
    """A finished run whose only checkpoint, of step 0, has these model files."""
    run = create_run(_config(tokenizer, done), name)
    try:

        def copy_files(folder: Path) -> None:
            for path in files.iterdir():
                shutil.copyfile(path, folder / path.name)

        write_checkpoint(run, 0, copy_files, None, {"imported_from": origin.name, "step": 0})
        now = time.time()
        note = f"imported from {origin}: weights only, it can be sampled and forked"
        process = os.getpid(), host_name(), boot_id()
        row = AttemptRow(1, *process, "cpu", 0, {"imported_from": str(origin)}, now)
        with RunLog.begin(run, row) as log:
            log.append(
                Facts(
                    parameters=done.parameters,
                    vocab_size=done.vocab_size,
                    max_steps=0,
                    corpus_title=f"imported from {origin.name}",
                ),
                EventRow(1, 0, "note", note, now),
                EventRow(1, 0, "finished", note, now),
            )
            log.sync()
    except BaseException:
        with suppress(RnnlmError):
            delete_run(run)
        raise
    return run


def _config(tokenizer: str, done: ImportDone) -> RunConfig:
    """The preset `book` with the shape and the tokenizer of the state dict."""
    pretrained = done.tokenizer_kind == "pretrained"
    return parse_config(
        merge(
            PRESETS["book"],
            {
                "preset": "book",
                "model.embedding_dim": done.width,
                "model.hidden_size": done.width,
                "model.num_layers": done.num_layers,
                "tokenizer.kind": done.tokenizer_kind,
                "tokenizer.name": tokenizer if pretrained else None,
                "tokenizer.vocab_size": done.vocab_size,
                "tokenizer.end_of_sentence": done.end_of_sentence,
                "training.data_mode": done.data_mode,
                "training.context_length": done.context_length,
            },
        )
    )


def _read_marker(folder: Path) -> ExportMarker | None:
    """What an exported folder says it is; None: it isn't an export."""
    try:
        return ExportMarker.model_validate_json(read_at_most(folder / MARKER_NAME, _MARKER_BYTES))
    except (OSError, ValidationError):
        return None
