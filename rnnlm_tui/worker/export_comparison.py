"""Compare an exported model with the checkpoint: logits of validation text, and greedy text."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from rnnlm_tui.corpus.autotokenizer import AutoTokenizerFiles
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import load_prepared
from rnnlm_tui.engine.book import plain_logits, read_state_dict
from rnnlm_tui.engine.checkpoint import load_model
from rnnlm_tui.engine.generation import generate, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.token_sampling import SamplingRules
from rnnlm_tui.errors import CheckpointError, RnnlmError, WorkerError
from rnnlm_tui.schema.corpora import FOLDER_DIGITS
from rnnlm_tui.schema.exports import (
    BOOK_NAME,
    CHECKED_TOKENS,
    GREEDY_TOKENS,
    LOGIT_TOLERANCE,
    ExportRequest,
)
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.store.manifest import Manifest, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory, corpora_dir
from rnnlm_tui.system.processes import dependent_environment
from rnnlm_tui.worker.models import read_data_mode
from rnnlm_tui.worker.resuming import trained_on

CHECKER = Path(__file__).with_name("check_transformers.py")
OWN_TEXTS = ("The", " a  b ", "Hello, world!", "1,234 naïve cafés\n", "<eos> <unk>")
"""Encoded by the exported tokenizer too, beside validation text."""


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
    """Validation text if its corpus is still there, else text that the model wrote."""
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
    manifest = verify_checkpoint(path)
    model, codec = load_model(path), TextCodec(path)
    if codec.vocab_size != model.vocab_size:
        raise CheckpointError(
            f"{path} has a tokenizer with {codec.vocab_size:,} types for a model with"
            f" {model.vocab_size:,}"
        )
    after_end = read_data_mode(path)[0] == "stream"
    excluded = codec.excluded_ids(run.read_config().sampling.unknown)
    ids = _validation_ids(manifest, codec) or _written_ids(model, codec, after_end)
    return ExportedCheckpoint(run, path, manifest, model, codec, after_end, ids, excluded)


def _validation_ids(manifest: Manifest, codec: TextCodec) -> tuple[int, ...]:
    """The first tokens of the validation set; none if the corpus is gone."""
    corpus = trained_on(manifest)
    if corpus is None:
        return ()
    try:
        prepared = load_prepared(corpora_dir() / corpus[:FOLDER_DIGITS])
        tokens = prepared.tokens("validation")[:CHECKED_TOKENS]
    except (RnnlmError, OSError, ValueError):
        return ()
    ids = tuple(int(token) for token in tokens)
    return ids if prepared.manifest.hash == corpus and max(ids) < codec.vocab_size else ()


def _written_ids(
    model: RecurrentLanguageModel, codec: TextCodec, after_end: bool
) -> tuple[int, ...]:
    """Text from the model itself: any tokens do for a comparison."""
    start = codec.prompt_ids("The", after_end=after_end) or [0]
    rules = SamplingRules(seed=1)
    written = [
        one.token
        for (one,) in generate(
            model, read_text(model, start), rules, max_new_tokens=CHECKED_TOKENS - len(start)
        )
    ]
    return (*start, *written)


def compute(source: ExportedCheckpoint) -> Computed:
    """The logits of our own model at each of the source's tokens, and its greedy text."""
    model, state, logits = source.model, source.model.initial_state(1), []
    with torch.no_grad():
        for token in source.ids:  # as in sampling: the form that exported models have
            logits_1V, state = model.step(torch.tensor([token]), state)
            logits.append(logits_1V)
    rules = SamplingRules(greedy=True, excluded=source.excluded)
    start = read_text(model, source.prompt)
    greedy = [one.token for (one,) in generate(model, start, rules, max_new_tokens=GREEDY_TOKENS)]
    return Computed(torch.cat(logits), greedy)


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


def check_transformers(
    source: ExportedCheckpoint, tokenizer: AutoTokenizerFiles, folder: Path
) -> tuple[Computed, list[str]]:
    """Load the folder in a process without rnnlm_tui: what it computes, and what its tokenizer does
    differently, in sentences.

    Raises:
        WorkerError: it can't be loaded.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        request = question(source, folder, Path(place, "logits.safetensors"))
        (answer,) = examine_in_child([request], Path(place))
        return judge(source, tokenizer, request, answer)


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
        "texts": _texts(source),
        "out": str(out),
    }


def judge(
    source: ExportedCheckpoint,
    tokenizer: AutoTokenizerFiles,
    request: dict[str, Any],
    answer: dict[str, Any],
) -> tuple[Computed, list[str]]:
    """What the exported model computes, and what its tokenizer does differently, in sentences.

    Raises:
        WorkerError: it differs in what must be equal.
    """
    texts: list[str] = request["texts"]
    theirs = Computed(load_file(request["out"])["logits"].clone(), list(answer["greedy"]))
    if not answer["padded"] <= allowed_difference(theirs.logits_TV):
        raise WorkerError(
            f"the exported model gives other logits for a padded prompt, by {answer['padded']:.1e}",
            hint="please report this with the run's config",
        )
    different = [
        text
        for text, ids in zip(texts, answer["texts"], strict=True)
        if ids != source.codec.prompt_ids(text, after_end=source.after_end)
    ]
    if not different:
        return theirs, []
    if source.codec.kind != "pretrained" and not tokenizer.notes:
        raise WorkerError(
            f"the exported tokenizer encodes {different[0][:60]!r} differently",
            hint="please report this with the run's config",
        )
    return theirs, [
        f"AutoTokenizer encodes {different[0][:60]!r} differently ({len(different)} of"
        f" {counted(len(texts), 'text')} compared)"
    ]


def examine_in_child(requests: Sequence[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
    """Let `check_transformers.py` examine exported folders in a separate process.

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
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _texts(source: ExportedCheckpoint) -> list[str]:
    """Texts to encode: the sentences of the compared tokens, and a few with everything that may be
    treated specially."""
    sentences: list[list[int]] = [[]]
    for index in source.ids:
        if index == source.codec.eos_id:
            sentences.append([])
        else:
            sentences[-1].append(index)
    return [*(source.codec.decode(ids) for ids in sentences if ids), *OWN_TEXTS]


def check_onnx(source: ExportedCheckpoint, folder: Path) -> Computed:
    """Run the graph in onnxruntime, with one text and with three at once.

    Raises:
        WorkerError: it can't be loaded, or a text in a batch differs from the text alone.
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
    names = [(one["input"], one["output"], one["shape"][1:]) for one in facts["states"]]

    def run(
        rows_BT: list[list[int]], state: dict[str, NDArray[np.float32]] | None = None
    ) -> tuple[Tensor, dict[str, NDArray[np.float32]]]:
        """logits_BTV and the state after the last token."""
        state = state or {
            name: np.zeros([len(rows_BT), *shape], np.float32) for name, _, shape in names
        }
        logits = []
        for column in zip(*rows_BT, strict=True):
            now, *after = session.run(
                [facts["logits"]["output"], *(name for _, name, _ in names)],
                {facts["ids"]["input"]: np.array(column, np.int64), **state},
            )
            state = {name: part for (name, _, _), part in zip(names, after, strict=True)}
            logits.append(torch.from_numpy(now))
        return torch.stack(logits, dim=1), state

    ids = list(source.ids)
    logits_1TV, _ = run([ids])
    half = len(ids) // 2
    batch_BTV, _ = run([ids[:half], ids[half : 2 * half], ids[:half]])
    apart = float((batch_BTV[0] - logits_1TV[0, :half]).abs().max())
    if not apart <= allowed_difference(logits_1TV):
        raise WorkerError(f"the exported graph gives other logits in a batch, by {apart:.1e}")
    scores_BTV, state = run([source.prompt])
    greedy = [_most_likely(source, scores_BTV[0, -1])]
    while len(greedy) < GREEDY_TOKENS:
        scores_BTV, state = run([greedy[-1:]], state)
        greedy.append(_most_likely(source, scores_BTV[0, -1]))
    return Computed(logits_1TV[0], greedy)


def check_book(source: ExportedCheckpoint, folder: Path) -> Computed:
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
