"""The verbs `archive`, `unarchive`, `export` and `import`: runs and models as files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnlm_tui import client, store
from rnnlm_tui.cli.options import (
    RunArgument,
    arg,
    checkpoint_path,
    complete_address,
    flag,
    opt,
    split_address,
)
from rnnlm_tui.cli.output import Answer, ProgressLine, line, note, showing_bytes
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import BUILT_IN_SOURCES
from rnnlm_tui.schema.formatting import counted, disk, user_path

if TYPE_CHECKING:
    from rnnlm_tui.schema.protocol import TaskProgress


def archive(
    run: RunArgument,
    file: Path = arg("FILE.tar.zst", "The archive to write; must not exist."),
) -> Answer:
    """Copy a whole run into one file.

    It holds config, metrics, samples, labels, logs and verified checkpoints with their pins and
    notes, but not the text that the run trains on. A running run trains on: the archive continues
    from its newest checkpoint.
    """
    target = user_path(str(file)).absolute()
    with showing_bytes(f"archiving {run.name}") as report:
        head = store.archive.write_archive(run, target, report)
    size, remark = target.stat().st_size, ""
    if head.live and head.step:
        at = f"step {head.step:,}"
        remark = f"{run.name} is running: the archive continues from its checkpoint of {at}"
    elif head.live:
        restarts = "the archive restarts from step 0"
        remark = f"{run.name} is running and has no checkpoint yet: {restarts}"
    return Answer(
        {**head.model_dump(), "path": target, "archive_bytes": size},
        f"archived {run.name} to {file}: {counted(head.files, 'file')}, {disk(size)}",
        remark,
    )


def unarchive(
    file: Path = arg("FILE.tar.zst", "A file of `archive`."),
    name: str | None = arg("[NAME]", "The run's name here (default: as archived).", None),
) -> Answer:
    """Make a run of an archive, after checking all of it.

    Nothing is left of an archive that is damaged, unsafe, or of another version.
    """
    path = user_path(str(file))
    with showing_bytes(f"reading {path.name}") as report:
        run, head = store.archive.read_archive(path, name, report)
    text = head.corpus
    here = text in BUILT_IN_SOURCES or os.path.exists(text)  # noqa: PTH110 (any name is fine)
    newest = f"newest checkpoint: step {head.step:,}" if head.step else "no checkpoint"
    return Answer(
        {**head.model_dump(), "run": run.name, "path": run.path, "corpus_here": here},
        f"{run.name}: {counted(head.files, 'file')}, {disk(head.bytes)}, all verified; {newest}",
        ""
        if here
        else f"to train on, it needs its text at {text}, as on the machine that archived it;"
        " everything else works without",
    )


def export(
    address: str = arg(
        "RUN[@CHECKPOINT]",
        "A run and its checkpoint: @best (default), @last or @STEP.",
        complete=complete_address,
    ),
    folder: Path = arg("DIR", "The folder to write; must not exist."),
    format: Literal["hf", "onnx", "book"] = opt("--format hf|onnx|book", "What to write.", "hf"),
    force: bool = flag("--force", "Replace an earlier export, but no other folder."),
) -> Answer:
    """Write a checkpoint for transformers, ONNX or the book.

    hf: a folder that transformers loads and generates with, on a machine without rnnlm-tui. onnx:
    one step as a graph, with the state in and out. book: the state dict of the book's own model.
    The result is loaded again and compared with the checkpoint before the folder gets its name.
    """
    run, which = split_address(address)
    if which == "now":
        raise InputError(
            f"{run.name}@now can't be exported: the weights in memory have no checkpoint",
            hint=f"`rnnlm-tui checkpoint {run.name}` saves one; then export {run.name}@last",
        )
    checkpoint = checkpoint_path(run, which)
    target = user_path(str(folder))
    with _progress(f"exporting {run.name}") as report:
        exported = client.export.export_checkpoint(
            run, checkpoint, target, format, force=force, report=report
        )
    done = exported.done

    def text() -> None:
        line(
            f"exported {run.name}@{exported.step} to {folder}:"
            f" {counted(len(exported.files), 'file')}, {disk(exported.bytes)}"
        )
        line(
            f"loaded again and compared: {counted(done.logits_compared, 'logit')}, largest"
            f" difference {done.largest_difference:.1e}; {counted(done.greedy_tokens, 'token')} of"
            " greedy text are equal"
        )
        for words in done.notes:
            note(f"note: {words}")

    facts = {name: getattr(exported, name) for name in ("run", "format", "bytes", "files")}
    return Answer({**facts, "path": exported.folder, **done.model_dump()}, text)


def import_model(
    file: Path = arg("FILE.pth", "A state dict of the book's model."),
    name: str | None = arg("[NAME]", "The run's name (default: a random one).", None),
    tokenizer: str | None = opt(
        "--tokenizer DIR|NAME",
        "Its tokenizer: a folder or a Hugging Face name (default: the file's folder).",
        None,
    ),
) -> Answer:
    """Make a run of the book's state dict (.pth).

    The run has one checkpoint, which can be sampled, scored and forked. Only tensors are read: a
    file with code, wrong names or wrong shapes is refused.
    """
    path = user_path(str(file))
    with _progress(f"importing {path.name}") as report:
        run, done = client.export.import_book(path, name, tokenizer=tokenizer, report=report)
    return Answer(
        {"run": run.name, "path": run.path, "step": 0, **done.model_dump()},
        f"imported {path.name} as {run.name}: elman, {done.num_layers} x {done.width},"
        f" {counted(done.vocab_size, 'type')}, {counted(done.parameters, 'parameter')}",
        f"`rnnlm-tui sample {run.name}` samples it, `rnnlm-tui train --from {run.name}` forks it",
    )


@contextmanager
def _progress(what: str) -> Iterator[Callable[[TaskProgress], None]]:
    """Show the phase, on a terminal."""
    with ProgressLine() as shown:
        shown(f"{what}: starting")
        yield lambda progress: shown(f"{what}: {progress.phase}")
