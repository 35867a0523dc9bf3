"""The verbs `archive` and `unarchive`: carry a whole run to another machine in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.options import JsonOption, RunArgument
from rnnlm_tui.cli.output import ProgressLine, line, note, print_json
from rnnlm_tui.schema.formatting import counted, disk, percent, user_path

if TYPE_CHECKING:
    from rnnlm_tui.store.archive_file import ArchiveManifest


def archive(
    run: RunArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.tar.zst", help="The archive to write; must not exist.", show_default=False
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Copy a whole run into one verified file.

    It holds config, metrics, samples, labels, logs and checkpoints, with their hashes, but not the
    text that the run trains on. A running run trains on: the archive continues from its newest
    checkpoint.
    """
    from rnnlm_tui.store.archive import write_archive
    from rnnlm_tui.store.runs import find_run

    directory, target = find_run(run), user_path(str(file)).absolute()
    with _progress(f"archiving {directory.name}") as report:
        archived = write_archive(directory, target, report)
    manifest = archived.manifest
    if json:
        print_json({**_facts(manifest), "path": str(target), "archive_bytes": archived.bytes})
        return
    line(
        f"archived {directory.name} to {file}: {counted(len(manifest.files), 'file')},"
        f" {disk(archived.bytes)}, verified"
    )
    if manifest.live:
        note(
            f"{directory.name} is running: the archive continues from its checkpoint of step"
            f" {manifest.step:,}"
            if manifest.step
            else f"{directory.name} is running and has no checkpoint yet: the archive restarts from"
            " step 0"
        )


def unarchive(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.tar.zst", help="A file of `archive`.", show_default=False),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="The run's name here (default: as archived).", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a run of an archive, after checking all of it.

    Nothing is left of an archive that is damaged, unsafe, or of another version.
    """
    from rnnlm_tui.store.archive import read_archive

    path = user_path(str(file))
    with _progress(f"reading {path.name}") as report:
        run, manifest = read_archive(path, name, report)
    place = _corpus_here(manifest)
    if json:
        print_json(
            {**_facts(manifest), "run": run.name, "path": str(run.path), "corpus_here": place}
        )
        return
    line(
        f"{run.name}: {counted(len(manifest.files), 'file')}, {disk(manifest.bytes)}, all verified"
        + (f"; newest checkpoint: step {manifest.step:,}" if manifest.step else "; no checkpoint")
    )
    if not place:
        note(
            f"to train on, it needs its text at {manifest.corpus.source}, as on the machine that"
            " archived it; everything else works without"
        )


def _facts(manifest: ArchiveManifest) -> dict[str, object]:
    return {
        "run": manifest.run,
        "step": manifest.step,
        "live": manifest.live,
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "version": manifest.version,
        "corpus": manifest.corpus.model_dump(mode="json"),
    }


def _corpus_here(manifest: ArchiveManifest) -> bool:
    """Whether the text that the run needs to train on is on this machine."""
    from rnnlm_tui.schema.corpora import BUILT_IN_SOURCES

    source = manifest.corpus.source
    return source in BUILT_IN_SOURCES or Path(source).exists()


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how much is done, on a terminal."""
    shown = ProgressLine()
    try:
        yield lambda done, total: shown(
            f"{what}: {disk(done)} of {disk(total)} ({percent(done / max(1, total))})"
        )
    finally:
        shown.clear()
