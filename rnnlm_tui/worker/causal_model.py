"""Score texts with a causal language model of transformers, from a local folder in the Hugging Face
layout."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from rnnlm_tui.corpus.text_files import LineReader
from rnnlm_tui.corpus.tokenizers import load_fast_tokenizer
from rnnlm_tui.engine.checkpoint import MODEL_TYPE, PICKLES, WEIGHTS_NAME, read_json
from rnnlm_tui.errors import CheckpointError, CorpusError, InputError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import bits_per_byte
from rnnlm_tui.schema.sampling import (
    FolderReading,
    InspectedToken,
    ScoreDone,
    ScorePiece,
    ScoreProgress,
    ScoreRequest,
)
from rnnlm_tui.worker.models import LoadedModel, load_export
from rnnlm_tui.worker.scoring import PIECE_TOKENS, Progress, source_file

LONGEST_WINDOW = 1_024
"""Default window of a model with a longer context: its cost grows with the square."""
LAYOUT_HINT = "a model folder has config.json, model.safetensors and tokenizer.json"
CAUSAL_HINT = "score with one that predicts each next token, such as GPT-2 or Llama"
_PROBES = ("a b", "ab", "A.b", "é")
"""Texts that a tokenizer which keeps texts gives back."""


class LineScore(NamedTuple):
    """The score of a text that was read on its own."""

    nats: float
    """Summed over its scored tokens."""
    tokens: int
    """Scored tokens; 0 if the text has nothing to score."""
    bytes: int
    """UTF-8 bytes of the scored tokens; 0 too if the tokenizer doesn't keep texts."""


class _Text(NamedTuple):
    """A text as tokens."""

    ids: list[int]
    first: int
    """The first token that is scored."""
    unscored_bytes: int
    """UTF-8 bytes before it."""
    offsets: list[tuple[int, int]]
    """Where each of the tokens after the start stands in the text."""


class CausalModel:
    """A model with its tokenizer, ready to score texts.

    A long text is read in overlapping windows, as in Hugging Face's guide to perplexity: every
    token is scored once, with at least `window - stride` tokens before it.

    Raises:
        CheckpointError: the folder has no causal model, or its files are missing or don't match.
        TokenizerError: the tokenizer is missing or can't be loaded.
        InputError: the window is longer than the model's context, or the stride than the window.
    """

    def __init__(self, folder: Path, device: torch.device | str, reading: FolderReading) -> None:
        check_folder(folder, allow_code=reading.allow_code)
        os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers' first import
        self._tokenizer, fast = _load_tokenizer(folder, allow_code=reading.allow_code)
        self._model = _load_model(folder, allow_code=reading.allow_code).to(device)
        self._device = device
        types, rows = len(fast), self._model.get_input_embeddings().weight.shape[0]
        if types > rows:
            raise CheckpointError(
                f"{folder} has a tokenizer with {counted(types, 'type')} for a model with {rows:,}"
            )
        self.window, self.stride = window_and_stride(self._model.config, reading)
        """Tokens that are read at once, and from the start of one window to that of the next."""
        if self._sees_ahead(rows):
            raise CheckpointError(
                f"the model in {folder} predicts a token from those after it, too: not a causal"
                " language model",
                hint=CAUSAL_HINT,
            )
        probe = self._tokenizer.encode("a")
        added = next(at for at, special in enumerate(probe.special_tokens_mask) if not special)
        self._start = probe.ids[:added]
        self.start = " ".join(probe.tokens[:added])
        """The special tokens that the tokenizer puts before a text; empty: none."""
        self._unk_id: int | None = fast.unk_token_id
        self._keeps_texts = all(self._keeps(text) for text in _PROBES)
        forward = inspect.signature(self._model.forward).parameters
        self._keeps_logits = "logits_to_keep" in forward

    def score_lines(
        self, lines: Iterable[str], check: Callable[[], None] = lambda: None
    ) -> Iterator[LineScore]:
        """Score lines, each on its own.

        Args:
            check: called between parts of the work; what it raises ends it.
        """
        for line in lines:
            text = self._encode(line)
            losses = [part for _, part in self._losses(text, check)]
            scored = len(line.encode()) - text.unscored_bytes if losses else 0
            yield LineScore(
                nats=float(np.concatenate(losses).sum()) if losses else 0.0,
                tokens=sum(map(len, losses)),
                bytes=scored if self._keeps_texts else 0,
            )

    def score_file(
        self,
        request: ScoreRequest,
        check: Callable[[], None],
        report: Callable[[ScoreProgress], None],
    ) -> Iterator[ScorePiece | ScoreDone]:
        """Score a file as one text, which is kept in memory; see `scoring.score_file`.

        Raises:
            CorpusError: the file can't be read, isn't UTF-8 text, or has less than two tokens.
        """
        began, progress = time.perf_counter(), Progress(request.id, report)
        reader = LineReader(source_file(request), lambda _: None)
        whole = "".join(reader.text()).removeprefix("\ufeff")
        text = self._encode(whole)
        count = len(text.ids)
        if count <= text.first:
            raise CorpusError(
                f"{request.path} has {counted(count, 'token')}: too few to score,"
                f" at least {text.first + 1} needed"
            )
        losses = np.full(count, np.nan)
        for done, part in self._losses(text, check):
            losses[done : done + len(part)] = part
            progress("scoring", done + len(part) - text.first, count - text.first)
        if request.tokens:
            yield from self._pieces(request, whole, text, losses)
        scored, size = losses[text.first :], len(whole.encode())
        unknown = text.ids[text.first :].count(self._unk_id) if self._unk_id is not None else 0
        kept = size - text.unscored_bytes if self._keeps_texts else 0
        loss = float(scored.mean())
        yield ScoreDone(
            id=request.id,
            loss=loss,
            tokens=len(scored),
            bytes=size,
            scored_bytes=kept,
            bits_per_byte=bits_per_byte(loss, len(scored), unknown, kept),
            unknown=unknown,
            seconds=time.perf_counter() - began,
            window=self.window,
            stride=self.stride,
            start=self.start,
        )

    def _encode(self, text: str) -> _Text:
        """The tokens of a text; nothing predicts the first one of all."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = [*self._start, *found.ids], found.offsets
        if self._start or not offsets:
            return _Text(ids, len(self._start) or 1, 0, offsets)
        end = offsets[0][1]
        size = len(text[:end].encode())
        if len(offsets) > 1 and offsets[1][0] < end:  # the token is a part of a character
            name = found.tokens[0]
            size = 1 if name.startswith("<0x") else len(name)
        return _Text(ids, 1, size, offsets)

    @torch.inference_mode()
    def _losses(
        self, text: _Text, check: Callable[[], None]
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The place of each window's first scored token, and the losses of its scored ones, in
        nats."""
        ids = torch.tensor(text.ids)
        for begin, done, end in windows(len(ids), text.first, self.window, self.stride):
            check()
            kept = {"logits_to_keep": end - done} if self._keeps_logits else {}
            inputs = ids[None, begin : end - 1].to(self._device)
            logits = self._model(input_ids=inputs, **kept).logits[0, done - end :].float()
            targets = ids[done:end].to(self._device)
            losses = cross_entropy(logits, targets, reduction="none")
            yield done, losses.double().cpu().numpy()

    def _pieces(
        self, request: ScoreRequest, whole: str, text: _Text, losses: NDArray[np.float64]
    ) -> Iterator[ScorePiece]:
        """The messages about the tokens; a character of several tokens is in the first."""
        bits = [None if np.isnan(nats) else float(nats) for nats in losses / np.log(2)]
        places, shown = [(0, 0)] * len(self._start) + text.offsets, 0
        for first in range(0, len(bits), PIECE_TOKENS):
            tokens = []
            for at in range(first, min(first + PIECE_TOKENS, len(bits))):
                _, end = places[at]
                piece, shown = whole[shown:end], max(shown, end)
                tokens.append(InspectedToken(token=text.ids[at], text=piece, bits=bits[at]))
            yield ScorePiece(id=request.id, tokens=tuple(tokens))

    @torch.inference_mode()
    def _sees_ahead(self, types: int) -> bool:
        """Whether the last token changes the predictions of those before: a BERT with the head of a
        language model has the class of a causal one."""
        count = min(8, self.window)
        ids = torch.stack([torch.arange(count) % types] * 2).to(self._device)
        ids[1, -1] = (ids[1, -1] + 1) % types
        logits = self._model(input_ids=ids).logits[:, :-1]
        return not torch.allclose(logits[0], logits[1], atol=1e-3)

    def _keeps(self, text: str) -> bool:
        """Whether the tokens of a text say what it is, unless one is unknown."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._unk_id in ids or self._tokenizer.decode(ids, skip_special_tokens=False) == text


def open_folder(
    folder: Path, device: torch.device | str, reading: FolderReading
) -> LoadedModel | CausalModel:
    """Open the model in a folder: a checkpoint or export of ours with our own classes, any other
    with transformers.

    Raises:
        RnnlmError: as `CausalModel`.
    """
    if read_config(folder).get("model_type") != MODEL_TYPE:
        return CausalModel(folder, device, reading)
    if reading.window or reading.stride:
        raise InputError(
            f"the model in {folder} carries its state: it reads without windows",
            hint="leave out --window and --stride",
        )
    return load_export(folder, device)


def windows(count: int, first: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """The windows over `count` tokens: the first token read, the first that is scored and the end.

    The last token of a window is only predicted. Every token from `first` on is scored once.
    """
    done = first
    for begin in range(0, count, stride):
        end = min(begin + window, count)
        if end > done:
            yield min(begin, done - 1), done, end
            done = end


def window_and_stride(config: Any, reading: FolderReading) -> tuple[int, int]:
    """The window and stride that are asked for, or the defaults of a model with this config.

    Raises:
        InputError: the window is longer than the model's context, or the stride than the window.
    """
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    window = reading.window or min(context or LONGEST_WINDOW, LONGEST_WINDOW)
    if context is not None and window > context:
        raise InputError(
            f"window {window:,} is longer than the model's context of {counted(context, 'token')}",
            hint=f"use --window {context} or less",
        )
    stride = reading.stride or max(1, window // 2)
    if stride > window:
        raise InputError(
            f"stride {stride:,} is longer than the window of {counted(window, 'token')}: those"
            " between two windows would not be scored",
            hint=f"use --stride {window} or less",
        )
    return window, stride


def check_folder(folder: Path, *, allow_code: bool = False) -> dict[str, Any]:
    """The config of the causal model in a folder, from its files' names and config.json alone.

    Raises:
        CheckpointError: it has no causal model with weights in safetensors, or one that needs code
            which isn't allowed.
    """
    config = read_config(folder)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES as KNOWN
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    named, kind = config.get("architectures"), str(config.get("model_type"))
    names = [str(name) for name in named] if isinstance(named, list) else []
    class_name, code = CAUSAL.get(kind), config.get("auto_map")
    own_code = code.get("AutoModelForCausalLM") if isinstance(code, dict) else None
    is_known = class_name is not None and (not names or class_name in names)
    if not is_known and own_code is None:
        what = ", ".join(names) or f'of type "{kind}"'
        raise CheckpointError(
            f"the model in {folder} is {what}: not a causal language model"
            if kind in KNOWN
            else f'the model in {folder} is of type "{kind}", which transformers doesn\'t know',
            hint=CAUSAL_HINT,
        )
    if not is_known and not allow_code:
        raise CheckpointError(
            f"the model in {folder} needs its own code: transformers has none for its type"
            f' "{kind}"',
            hint=f"--allow-code runs {code_file(folder, str(own_code))}: read it first",
        )
    found = sorted(path.name for path in folder.iterdir())
    if not {WEIGHTS_NAME, f"{WEIGHTS_NAME}.index.json"} & set(found):
        pickles = [name for name in found if Path(name).suffix in PICKLES]
        why = f"; {pickles[0]} is a pickle, which may run code and is never opened"
        raise CheckpointError(
            f"{folder} has no {WEIGHTS_NAME}{why if pickles else ''}",
            hint="save it with save_pretrained, which writes safetensors"
            if pickles
            else LAYOUT_HINT,
        )
    return config


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        CheckpointError: the folder or the file is missing or can't be read.
    """
    if not folder.exists():
        raise CheckpointError(f"model folder not found: {folder}", hint=LAYOUT_HINT)
    return read_json(folder, "config.json")


def code_file(folder: Path, name: str) -> str:
    """The file with the code of a class, as `auto_map` names it."""
    other, _, own = name.rpartition("--")
    file = f"{own.partition('.')[0]}.py"
    return f"{file} of {other}" if other else str(folder / file)


def _load_model(folder: Path, *, allow_code: bool) -> Any:
    """The model, in float32 and evaluation mode.

    Raises:
        CheckpointError: transformers can't load it, or its weights don't match its config.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=allow_code,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # found below
        )
    except Exception as error:  # the library raises many kinds of errors
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"transformers can't load the model in {folder}: {reason}") from error
    different = [
        *(f"{name} is missing in the file" for name in found["missing_keys"]),
        *(f"{name} is only in the file" for name in found["unexpected_keys"]),
        *(f"{name} has another shape" for name, *_ in found["mismatched_keys"]),
    ]
    if different:
        raise CheckpointError(
            f"the weights in {folder} belong to another model than its config.json describes:"
            f" {min(different)}"
        )
    model.config.use_cache = False
    return model.eval()


def _load_tokenizer(folder: Path, *, allow_code: bool) -> tuple[Tokenizer, Any]:
    """The folder's tokenizer, which takes special tokens in a text as ordinary text, and
    transformers' wrapper of it.

    Raises:
        TokenizerError: it is missing, or has no fast version.
    """
    fast = load_fast_tokenizer(str(folder), allow_code=allow_code)
    tokenizer = Tokenizer.from_str(fast.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer, fast
