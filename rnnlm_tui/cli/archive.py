"""The verbs `archive` and `unarchive`: carry a whole run to another machine in one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rnnlm_tui import store
from rnnlm_tui.cli.options import JsonOption, RunArgument, arg
from rnnlm_tui.cli.output import line, note, print_json, showing_bytes
from rnnlm_tui.schema.formatting import counted, disk, user_path

if TYPE_CHECKING:
    from rnnlm_tui.store.archive import ArchiveHead


def archive(
    run: RunArgument,
    file: Annotated[Path, arg("FILE.tar.zst", "The archive to write; must not exist.")],
    json: JsonOption = False,
) -> None:
    """Copy a whole run into one file.

    It holds config, metrics, samples, labels, logs and verified checkpoints with their pins and
    notes, but not the text that the run trains on. A running run trains on: the archive continues
    from its newest checkpoint.
    """
    target = user_path(str(file)).absolute()
    with showing_bytes(f"archiving {run.name}") as report:
        head = store.archive.write_archive(run, target, report)
    size = target.stat().st_size
    if json:
        print_json({**head.model_dump(), "path": target, "archive_bytes": size})
        return
    line(f"archived {run.name} to {file}: {counted(head.files, 'file')}, {disk(size)}")
    if head.live:
        note(
            f"{run.name} is running: the archive continues from its checkpoint of step"
            f" {head.step:,}"
            if head.step
            else f"{run.name} is running and has no checkpoint yet: the archive restarts from"
            " step 0"
        )


def unarchive(
    file: Annotated[Path, arg("FILE.tar.zst", "A file of `archive`.")],
    name: Annotated[
        str | None, arg("[NAME]", "The run's name here (default: as archived).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a run of an archive, after checking all of it.

    Nothing is left of an archive that is damaged, unsafe, or of another version.
    """
    path = user_path(str(file))
    with showing_bytes(f"reading {path.name}") as report:
        run, head = store.archive.read_archive(path, name, report)
    place = _corpus_here(head)
    if json:
        facts = {"run": run.name, "path": run.path, "corpus_here": place}
        print_json({**head.model_dump(), **facts})
        return
    line(
        f"{run.name}: {counted(head.files, 'file')}, {disk(head.bytes)}, all verified"
        + (f"; newest checkpoint: step {head.step:,}" if head.step else "; no checkpoint")
    )
    if not place:
        note(
            f"to train on, it needs its text at {head.corpus}, as on the machine that"
            " archived it; everything else works without"
        )


def _corpus_here(head: ArchiveHead) -> bool:
    """Whether the text that the run needs to train on is on this machine."""
    from rnnlm_tui.schema.corpora import BUILT_IN_SOURCES

    source = head.corpus
    return source in BUILT_IN_SOURCES or os.path.exists(source)  # noqa: PTH110 (any name is fine)
