"""Compare an exported model with the checkpoint: logits of random tokens, and greedy text."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.engine.book import plain_logits, read_state_dict
from rnnlm_tui.engine.generation import Generation, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import WorkerError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.exports import (
    BOOK_NAME,
    CHECKED_TOKENS,
    GREEDY_TOKENS,
    LOGIT_TOLERANCE,
    ExportFormat,
    ExportRequest,
)
from rnnlm_tui.store.manifest import Manifest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.processes import dependent_environment
from rnnlm_tui.worker.models import load_verified, read_data_mode

CHECKER = Path(__file__).with_name("check_transformers.py")


@dataclass(frozen=True, slots=True)
class ExportedCheckpoint:
    """A checkpoint to export, loaded on the CPU."""

    run: RunDirectory
    path: Path
    manifest: Manifest
    model: RecurrentLanguageModel
    codec: TextCodec
    after_end: bool
    """Prompts follow an end token."""
    ids: tuple[int, ...]
    """Random tokens, for which both models are compared."""
    excluded: tuple[int, ...]
    """Tokens that sampling never takes, as the run's settings say."""

    @property
    def prompt(self) -> list[int]:
        """The tokens that greedy text continues."""
        return list(self.ids[:8])


@dataclass(frozen=True, slots=True)
class Computed:
    """What a model computes: our own, or an exported one."""

    logits_TV: Tensor
    greedy: list[int]


def load_source(request: ExportRequest) -> ExportedCheckpoint:
    """Verify and load the checkpoint.

    Raises:
        CheckpointError: it is damaged, missing or of the wrong kind.
    """
    path, run = Path(request.checkpoint), RunDirectory(Path(request.run))
    manifest, model, codec = load_verified(path)
    after_end = read_data_mode(path)[0] == "stream"
    excluded = codec.excluded_ids(run.read_config().sampling.unknown)
    drawn = torch.Generator().manual_seed(1)  # any tokens do for a comparison
    ids = torch.randint(model.vocab_size, (CHECKED_TOKENS,), generator=drawn)
    return ExportedCheckpoint(
        run, path, manifest, model, codec, after_end, tuple(ids.tolist()), excluded
    )


def compute(source: ExportedCheckpoint) -> Computed:
    """The logits of our own model at each of the source's tokens, and its greedy text."""
    model, state, logits = source.model, source.model.initial_state(1), []
    with torch.no_grad():
        for token in source.ids:  # as in sampling: the form that exported models have
            logits_1V, state = model.step(torch.tensor([token]), state)
            logits.append(logits_1V)
    settings = SamplingConfig(greedy=True, max_new_tokens=GREEDY_TOKENS)
    start = read_text(model, source.prompt)
    greedy = Generation(model, start, settings, excluded=source.excluded)
    return Computed(torch.cat(logits), [one.token for (one,) in greedy])


def allowed_difference(logits: Tensor) -> float:
    """Largest difference that rounding explains."""
    return LOGIT_TOLERANCE * max(1.0, float(logits.abs().max()))


def check_equal(source: ExportedCheckpoint, ours: Computed, theirs: Computed) -> tuple[int, float]:
    """Compare; returns the number of logits and their largest difference.

    Raises:
        WorkerError: a logit or the greedy text differs.
    """
    if theirs.logits_TV.shape != ours.logits_TV.shape:
        raise WorkerError(
            f"the exported model has logits of shape {tuple(theirs.logits_TV.shape)}, ours"
            f" {tuple(ours.logits_TV.shape)}"
        )
    difference = float((theirs.logits_TV - ours.logits_TV).abs().max())
    allowed = allowed_difference(ours.logits_TV)
    if not difference <= allowed:  # NaN fails too
        raise WorkerError(
            f"the exported model differs: a logit by {difference:.1e}, allowed is {allowed:.1e}",
            hint="please report this with the run's config",
        )
    if theirs.greedy != ours.greedy:
        place = next(
            (i for i, (a, b) in enumerate(zip(ours.greedy, theirs.greedy, strict=False)) if a != b),
            min(len(ours.greedy), len(theirs.greedy)),
        )
        read = torch.tensor([[*source.prompt, *ours.greedy[:place]]])
        with torch.no_grad():
            logits, _ = source.model(read, source.model.initial_state(1))
        best = logits[0, -1].topk(min(2, source.model.vocab_size)).values
        if len(theirs.greedy) != len(ours.greedy) or float(best[0] - best[-1]) > 2 * allowed:
            raise WorkerError(
                f"the exported model's greedy text differs from token {place + 1} on",
                hint="please report this with the run's config",
            )
    return ours.logits_TV.numel(), difference


def _by_transformers(source: ExportedCheckpoint, folder: Path) -> Computed:
    """Load the folder in a process without rnnlm_tui.

    Raises:
        WorkerError: it can't be loaded.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        out = Path(place, "logits.safetensors")
        asked = question(source, folder, out)
        (greedy,) = examine_in_child([asked], Path(place))
        return Computed(load_file(out)["logits"].clone(), greedy)


def question(source: ExportedCheckpoint, folder: Path, out: Path) -> dict[str, Any]:
    """The request to `check_transformers.py` about an exported folder.

    Args:
        out: the file that it writes.
    """
    return {
        "folder": str(folder),
        "ids": source.ids,
        "prompt": source.prompt,
        "tokens": GREEDY_TOKENS,
        "out": str(out),
    }


def examine_in_child(requests: Sequence[dict[str, Any]], place: Path) -> list[list[int]]:
    """Let `check_transformers.py` examine exported folders in a separate process; returns their
    greedy texts.

    Args:
        place: an empty folder, for the modules that transformers copies.

    Raises:
        WorkerError: a folder can't be loaded.
    """
    environment = {
        **dependent_environment({}),
        "HF_HOME": str(place / "huggingface"),
        "HF_MODULES_CACHE": str(place / "modules"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-I", str(CHECKER)],
        input=json.dumps(list(requests)).encode(),
        capture_output=True,
        cwd=place,
        env=environment,
        check=False,
    )
    sys.stderr.buffer.write(done.stderr)
    if done.returncode != 0:
        words = [
            line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()
        ]
        raise WorkerError(
            "transformers can't load the exported folder"
            + (f": {words[-1][:300]}" if words else f" (exit code {done.returncode})")
        )
    found: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _by_onnxruntime(source: ExportedCheckpoint, folder: Path) -> Computed:
    """Run the graph in onnxruntime.

    Raises:
        WorkerError: it can't be loaded.
    """
    read = onnx_reader(folder)
    logits_TV, _ = read(list(source.ids), None)
    scores_TV, state = read(source.prompt, None)
    greedy = [_most_likely(source, scores_TV[-1])]
    while len(greedy) < GREEDY_TOKENS:
        scores_TV, state = read(greedy[-1:], state)
        greedy.append(_most_likely(source, scores_TV[-1]))
    return Computed(logits_TV, greedy)


OnnxState = dict[str, NDArray[np.float32]]


def onnx_reader(
    folder: Path,
) -> Callable[[Sequence[int], OnnxState | None], tuple[Tensor, OnnxState]]:
    """A function that reads tokens of one text by an exported graph, from a state on (None: the
    initial one), and returns logits_TV and the state after the last token.

    Raises:
        WorkerError: onnxruntime can't load the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the library raises its own kinds, which aren't public
        raise WorkerError(f"onnxruntime can't load the graph: {str(error)[:300]}") from error
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    outputs = [facts["logits"]["output"], *(one["output"] for one in facts["states"])]
    inputs = [one["input"] for one in facts["states"]]
    empty = {one["input"]: np.zeros([1, *one["shape"][1:]], np.float32) for one in facts["states"]}

    def read(ids: Sequence[int], state: OnnxState | None) -> tuple[Tensor, OnnxState]:
        state, logits = empty if state is None else state, []
        for token in ids:
            now, *after = session.run(
                outputs, {facts["ids"]["input"]: np.array([token], np.int64), **state}
            )
            state = dict(zip(inputs, after, strict=True))
            logits.append(torch.from_numpy(now[0]))
        return torch.stack(logits), state

    return read


def _by_book(source: ExportedCheckpoint, folder: Path) -> Computed:
    """What the book's formula computes with the written state dict, read back."""
    tensors = read_state_dict(folder / BOOK_NAME)
    read = list(source.prompt)
    greedy: list[int] = []
    for _ in range(GREEDY_TOKENS):
        greedy.append(_most_likely(source, plain_logits(tensors, read)[-1]))
        read.append(greedy[-1])
    return Computed(plain_logits(tensors, list(source.ids)), greedy)


def _most_likely(source: ExportedCheckpoint, scores_V: Tensor) -> int:
    scores_V = scores_V.clone()
    scores_V[list(source.excluded)] = -torch.inf
    return int(scores_V.argmax())


COMPUTED: Mapping[ExportFormat, Callable[[ExportedCheckpoint, Path], Computed]] = MappingProxyType(
    {"hf": _by_transformers, "onnx": _by_onnxruntime, "book": _by_book}
)
"""What an exported folder computes, by format."""
