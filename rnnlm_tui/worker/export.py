"""Write a checkpoint in another format, or read a foreign state dict, and compare the result with
our model, as a task of `worker.task`.

It leaves files only in the folder that the request names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel

from rnnlm_tui import __version__
from rnnlm_tui.schema.exports import (
    BOOK_NAME,
    MARKER_NAME,
    ExportDone,
    ExportedFile,
    ExportMarker,
    ExportRequest,
    ImportDone,
    ImportRequest,
)
from rnnlm_tui.schema.protocol import decode_line
from rnnlm_tui.system.files import fsync_directory, fsync_file, storage_errors
from rnnlm_tui.worker.task import ReportProgress

if TYPE_CHECKING:
    from rnnlm_tui.corpus.autotokenizer import AutoTokenizerFiles
    from rnnlm_tui.worker.export_comparison import ExportedCheckpoint


def export(request: ExportRequest, report: Callable[[str], None]) -> ExportDone:
    """Write the request's folder and compare it with the checkpoint.

    Raises:
        InputError: the format can't hold this model, or its packages are missing.
        CheckpointError: the checkpoint is damaged.
        StorageError: the disk is full.
        WorkerError: the exported model differs.
    """
    from rnnlm_tui.corpus.autotokenizer import autotokenizer_files
    from rnnlm_tui.engine.book import check_book_shape
    from rnnlm_tui.worker.export_comparison import COMPUTED, check_equal, compute, load_source
    from rnnlm_tui.worker.model_card import write_card

    if request.format == "onnx":
        from rnnlm_tui.engine.onnx_graph import require_onnx

        require_onnx()
    report("loading")
    source, folder = load_source(request), Path(request.target)
    if request.format == "book":
        check_book_shape(source.model)
    tokenizer = autotokenizer_files(source.path, source.codec, after_end=source.after_end)
    report("writing")
    with storage_errors("write the export to", folder):
        _WRITERS[request.format](source, tokenizer, folder)
    report("checking")
    ours, notes = compute(source), () if request.format == "book" else tokenizer.notes
    compared, difference = check_equal(source, ours, COMPUTED[request.format](source, folder))
    with storage_errors("write the export to", folder):
        write_card(folder, source, request.format, name=request.name, notes=notes)
        _write_marker(request, source.manifest.step, notes, folder)
    return ExportDone(
        step=source.manifest.step,
        logits_compared=compared,
        largest_difference=difference,
        greedy_tokens=len(ours.greedy),
        notes=notes,
    )


def _write_hf(source: ExportedCheckpoint, tokenizer: AutoTokenizerFiles, folder: Path) -> None:
    from rnnlm_tui.engine.checkpoint import GENERATION_NAME, read_json
    from rnnlm_tui.engine.huggingface import write_transformers_files

    tokenizer.write(folder)
    write_transformers_files(
        folder,
        source.path,
        start_id=tokenizer.start_id,
        excluded=source.excluded,
        pad_id=source.codec.pad_id,
        generation=read_json(source.path, GENERATION_NAME),
    )


def _write_onnx(source: ExportedCheckpoint, tokenizer: AutoTokenizerFiles, folder: Path) -> None:
    from tokenizers import Tokenizer

    from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
    from rnnlm_tui.engine.onnx_graph import BATCH, IDS, LOGITS, OPSET, write_onnx

    model, codec = source.model, source.codec
    states = write_onnx(source.path, folder / "model.onnx")
    tokenizer.write(folder)
    names = {
        index: name
        for name, index in Tokenizer.from_file(str(source.path / TOKENIZER_NAME))
        .get_vocab(with_added_tokens=True)
        .items()
    }
    facts = {
        "opset": OPSET,
        "cell_type": model.cell_type,
        "ids": {"input": IDS, "shape": [BATCH], "type": "int64"},
        "logits": {"output": LOGITS, "shape": [BATCH, model.vocab_size], "type": "float32"},
        "states": [
            {
                "input": one.input,
                "output": one.output,
                "shape": [BATCH, *one.shape],
                "type": "float32",
            }
            for one in states
        ],
        "initial_state": "zeros",
        "start_ids": [] if tokenizer.start_id is None else [tokenizer.start_id],
        "end_id": codec.eos_id,
        "pad_id": codec.pad_id,
        "unknown_id": codec.unk_id,
        "excluded_ids": list(source.excluded),
        "tokenizer": "tokenizer.json",
        "vocabulary": [names.get(index) for index in range(model.vocab_size)],
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def _write_book(source: ExportedCheckpoint, _: AutoTokenizerFiles, folder: Path) -> None:
    from rnnlm_tui.engine.book import write_state_dict
    from rnnlm_tui.engine.checkpoint import GENERATION_NAME, TOKENIZER_FILES

    write_state_dict(folder / BOOK_NAME, source.model)
    for name in (*TOKENIZER_FILES, GENERATION_NAME):  # as they are, for an import
        shutil.copyfile(source.path / name, folder / name)


_WRITERS = {"hf": _write_hf, "onnx": _write_onnx, "book": _write_book}


def _write_marker(request: ExportRequest, step: int, notes: tuple[str, ...], folder: Path) -> None:
    """Write the list of files and wait until everything is on the disk."""
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.name] = ExportedFile(size=path.stat().st_size, sha256=digest)
    marker = ExportMarker(
        format=request.format,
        run=Path(request.run).name,
        step=step,
        created=time.time(),
        rnnlm_version=__version__,
        notes=notes,
        files=files,
    )
    (folder / MARKER_NAME).write_text(marker.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        fsync_file(path)
    fsync_directory(folder)


def task(line: bytes, report: ReportProgress) -> ExportDone | ImportDone:
    """Export or import as the request asks."""
    request = cast(
        ExportRequest | ImportRequest,
        decode_line(line, cast(type[BaseModel], ExportRequest), ImportRequest),
    )
    import torch

    torch.set_num_threads(1)
    if isinstance(request, ExportRequest):
        return export(request, report)
    from rnnlm_tui.worker.book_import import import_state_dict

    return import_state_dict(request, report)
