"""A causal language model of transformers in a local folder of the Hugging Face layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers.decoders import DecodeStream
from torch.nn.functional import cross_entropy

from rnnlm_tui.corpus.tokenizers import load_fast_tokenizer
from rnnlm_tui.engine.checkpoint import MODEL_TYPE, WEIGHTS_NAME, read_json, refuse_pickles
from rnnlm_tui.errors import CheckpointError, InputError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.sampling import FolderReading
from rnnlm_tui.worker.models import LoadedModel, load_export

LONGEST_WINDOW = 1_024
"""Default window of a model with a longer context: its cost grows with the square."""
_PROBE = "Ab, a.b é"
"""A text that a tokenizer which keeps texts gives back, unless it is unknown."""


class LineScore(NamedTuple):
    """The score of a text that was read on its own."""

    nats: float
    """Summed over its scored tokens."""
    tokens: int
    """Scored tokens; 0 if the text has nothing to score."""
    bytes: int
    """UTF-8 bytes of the scored tokens; 0 too if the tokenizer doesn't keep texts."""


class CausalModel:
    """A model with its tokenizer.

    A long text is read in overlapping windows, as in Hugging Face's guide to perplexity: every
    token is scored once, with at least `window - stride` tokens before it.

    Raises:
        CheckpointError: the folder has no causal model, or its files are missing or don't match.
        TokenizerError: the tokenizer is missing or can't be loaded.
        InputError: the window is longer than the model's context, or the stride than the window.
    """

    def __init__(self, folder: Path, device: torch.device | str, reading: FolderReading) -> None:
        _check_config(folder, allow_code=reading.allow_code)
        os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers' first import
        fast = load_fast_tokenizer(str(folder), allow_code=reading.allow_code)
        self.tokenizer = fast.backend_tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = True  # "<s>" in a text is ordinary text
        self.unk_id: int | None = fast.unk_token_id
        self._model = _load_model(folder, allow_code=reading.allow_code).to(device)
        self.window, self.stride = _window_and_stride(self._model.config, reading)
        """Tokens that are read at once, and from the start of one window to that of the next."""
        probe = self.tokenizer.encode("a")
        added = probe.special_tokens_mask.index(0) if 0 in probe.special_tokens_mask else 0
        self._start = probe.ids[:added]
        self.start = " ".join(probe.tokens[:added])
        """The special tokens that the tokenizer puts before a text; empty: none."""
        self.first = added or 1
        """The first token of a text that is scored."""
        ends = (fast.bos_token_id, fast.eos_token_id)
        self._line_start = self._start or [one for one in ends if one is not None][:1]
        ids = self.tokenizer.encode(_PROBE, add_special_tokens=False).ids
        decoded = self.tokenizer.decode(ids, skip_special_tokens=False)
        self._keeps_texts = self.unk_id in ids or decoded == _PROBE

    @torch.inference_mode()
    def read(
        self,
        text: str,
        check: Callable[[], None],
        progress: Callable[..., None],
        start: Sequence[int] | None = None,
    ) -> tuple[list[int], NDArray[np.float64], int]:
        """Read a text.

        Args:
            check: called between parts of the work; what it raises ends it.
            progress: called with `scoring`, the number of scored tokens, and of those to score.
            start: tokens in front of the text; None: those that the tokenizer puts there.

        Returns:
            Its tokens; the loss of each in nats, NaN where it isn't scored; and the UTF-8 bytes of
            the scored ones.
        """
        found = self.tokenizer.encode(text, add_special_tokens=False)
        start = self._start if start is None else start
        ids, first = [*start, *found.ids], len(start) or 1
        # a first token may be only a part of a character, or the space that is put before it
        edges = [end for _, end in found.offsets[:1]] + [start for start, _ in found.offsets[1:2]]
        unscored = 0 if start else len(text[: min(edges, default=0)].encode())
        losses, tokens = np.full(len(ids), np.nan), torch.tensor(ids, device=self._model.device)
        for begin, done, end in windows(len(ids), first, self.window, self.stride):
            check()
            answer = self._model(input_ids=tokens[None, begin : end - 1], use_cache=False)
            logits = answer.logits[0, done - end :]
            part = cross_entropy(logits.float(), tokens[done:end], reduction="none")
            losses[done:end] = part.cpu().numpy()
            progress("scoring", end - first, len(ids) - first)
        return ids, losses, len(text.encode()) - unscored if self._keeps_texts else 0

    def score_lines(
        self, lines: Iterable[str], check: Callable[[], None] = lambda: None
    ) -> Iterator[LineScore]:
        """Score lines, each on its own, with an end token in front if the tokenizer puts nothing
        there: so the first token is scored too, as in a stream."""
        for line in lines:
            _, losses, size = self.read(line, check, lambda *_: None, self._line_start)
            scored = losses[len(self._line_start) or 1 :]
            yield LineScore(float(scored.sum()), len(scored), size if len(scored) else 0)

    def push(self) -> Callable[[int], str]:
        """A function that returns the text which each of a text's tokens adds."""
        stream = DecodeStream(skip_special_tokens=False)
        return lambda token: (
            "" if token in self._start else stream.step(self.tokenizer, token) or ""
        )


@lru_cache(maxsize=1)
def open_folder(
    folder: Path, device: torch.device | str, reading: FolderReading
) -> LoadedModel | CausalModel:
    """Open the model in a folder: a checkpoint or export of ours with our own classes, any other
    with transformers. The last one stays open.

    Raises:
        RnnlmError: as `CausalModel`.
    """
    if read_json(folder, "config.json").get("model_type") != MODEL_TYPE:
        return CausalModel(folder, device, reading)
    if reading.window or reading.stride:
        raise InputError(
            f"the model in {folder} is of rnnlm-tui: it reads as its run reads, without windows"
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


def _window_and_stride(config: Any, reading: FolderReading) -> tuple[int, int]:
    """The window and stride that are asked for, or the defaults of a model with this config.

    Raises:
        InputError: the window is longer than the model's context, or the stride than the window.
    """
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    window = reading.window or min(context or LONGEST_WINDOW, LONGEST_WINDOW)
    stride = reading.stride or max(1, window // 2)
    if context is not None and window > context:
        raise InputError(
            f"window {window:,} is longer than the model's context of {counted(context, 'token')}"
        )
    if stride > window:
        raise InputError(
            f"stride {stride:,} is longer than the window of {counted(window, 'token')}"
        )
    return window, stride


def _check_config(folder: Path, *, allow_code: bool) -> None:
    """
    Raises:
        CheckpointError: the folder has no causal model with weights in safetensors, or one that
            needs code which isn't allowed.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    config: dict[str, Any] = read_json(folder, "config.json")
    kind, names = str(config.get("model_type")), config.get("architectures") or []
    code = (config.get("auto_map") or {}).get("AutoModelForCausalLM")
    if kind not in CAUSAL or (names and CAUSAL[kind] not in names):
        if not code:
            raise CheckpointError(
                f"the model in {folder} is {', '.join(names) or kind}: not a known causal model",
                hint="use one that predicts each next token, such as GPT-2 or Llama",
            )
        if not allow_code:
            raise CheckpointError(
                f'the model in {folder} needs its own code: transformers has none for "{kind}"',
                hint=f"--allow-code runs {code} in this folder: read it first",
            )
    if not (folder / f"{WEIGHTS_NAME}.index.json").exists():
        refuse_pickles(folder, WEIGHTS_NAME)


def _load_model(folder: Path, *, allow_code: bool) -> Any:
    """The model, in float32 and evaluation mode.

    Raises:
        CheckpointError: transformers can't load it, or its weights don't match its config.
    """
    from transformers import AutoModelForCausalLM

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
    mismatched = [name for name, *_ in found["mismatched_keys"]]
    different = [*found["missing_keys"], *found["unexpected_keys"], *mismatched]
    if different:
        raise CheckpointError(
            f"the weights in {folder} belong to another model than its config.json describes:"
            f" {min(different)} is only in one of them, or has another shape"
        )
    return model.eval()
