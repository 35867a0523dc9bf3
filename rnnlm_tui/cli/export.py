"""The verbs `export` and `import`: checkpoints in other programs' formats, and a foreign model as a
run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rnnlm_tui import client
from rnnlm_tui.cli.options import (
    JsonOption,
    arg,
    checkpoint_path,
    complete_address,
    opt,
    split_address,
)
from rnnlm_tui.cli.output import ProgressLine, line, note, print_json
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted, disk, user_path

if TYPE_CHECKING:
    from rnnlm_tui.schema.protocol import TaskProgress


def export(
    address: Annotated[
        str,
        arg(
            "RUN[@CHECKPOINT]",
            "A run and its checkpoint: @best (default), @last or @STEP.",
            complete_address,
        ),
    ],
    folder: Annotated[Path, arg("DIR", "The folder to write; must not exist.")],
    format: Annotated[
        Literal["hf", "onnx", "book"], opt("--format hf|onnx|book", "What to write.")
    ] = "hf",
    force: Annotated[
        bool, opt("--force", "Replace an earlier export, but no other folder.")
    ] = False,
    json: JsonOption = False,
) -> None:
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
    if json:
        facts = {name: getattr(exported, name) for name in ("run", "format", "bytes", "files")}
        print_json({**facts, "path": exported.folder, **done.model_dump()})
        return
    line(
        f"exported {run.name}@{exported.step} to {folder}:"
        f" {counted(len(exported.files), 'file')}, {disk(exported.bytes)}"
    )
    line(
        f"loaded again and compared: {counted(done.logits_compared, 'logit')}, largest difference"
        f" {done.largest_difference:.1e}; {counted(done.greedy_tokens, 'token')} of greedy text"
        " are equal"
    )
    for words in done.notes:
        note(f"note: {words}")


def import_model(
    file: Annotated[Path, arg("FILE.pth", "A state dict of the book's model.")],
    name: Annotated[str | None, arg("[NAME]", "The run's name (default: a random one).")] = None,
    tokenizer: Annotated[
        str | None,
        opt(
            "--tokenizer DIR|NAME",
            "Its tokenizer: a folder or a Hugging Face name (default: the file's folder).",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a run of the book's state dict (.pth).

    The run has one checkpoint, which can be sampled, scored and forked. Only tensors are read: a
    file with code, wrong names or wrong shapes is refused.
    """
    path = user_path(str(file))
    with _progress(f"importing {path.name}") as report:
        run, done = client.export.import_book(path, name, tokenizer=tokenizer, report=report)
    if json:
        print_json({"run": run.name, "path": run.path, "step": 0, **done.model_dump()})
        return
    line(
        f"imported {path.name} as {run.name}: elman, {done.num_layers} x {done.width},"
        f" {counted(done.vocab_size, 'type')}, {counted(done.parameters, 'parameter')}"
    )
    note(f"`rnnlm-tui sample {run.name}` samples it, `rnnlm-tui train --from {run.name}` forks it")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[TaskProgress], None]]:
    """Show the phase, on a terminal."""
    with ProgressLine() as shown:
        shown(f"{what}: starting")
        yield lambda progress: shown(f"{what}: {progress.phase}")
