"""Sampler and Continuation: load checkpoints and continue prompts until a stop string."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rnnlm_tui.corpus.codec import StopStrings, TextCodec
from rnnlm_tui.engine.checkpoint import load_model
from rnnlm_tui.engine.device import set_threads
from rnnlm_tui.engine.generation import generate, lay_out_head, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.token_sampling import SamplingRules
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.store.manifest import MANIFEST_NAME, verify_checkpoint
from rnnlm_tui.worker.checkpointing import DATA_MODE_KEY

MAX_UNKNOWN = 8
"""Unknown words of a prompt that are listed."""
KEPT_MODELS = 2
"""Checkpoints that stay loaded, so that two can be compared without waiting."""
PIECE_SECONDS = 0.1
"""Text is sent this often, the first token at once."""


class Continuation:
    """Iterate to sample. Each token yields the text that it completes, often none; take the
    `rest()` at the end.

    Args:
        after_end: the prompt follows an end token, as sentences do in a stream.

    Raises:
        RnnlmError: this vocabulary can't encode the prompt, or a stop string is empty.
    """

    def __init__(
        self,
        model: RecurrentLanguageModel,
        codec: TextCodec,
        prompt: str,
        settings: SamplingConfig,
        *,
        after_end: bool,
    ) -> None:
        self.prompt_ids = codec.prompt_ids(prompt, after_end=after_end)
        self.tokens = 0
        """Sampled so far, those of a stop string included."""
        self.logprob = 0.0
        """Sum of their ln p under the model at temperature 1."""
        self._decoder = codec.incremental(self.prompt_ids)
        self._stopping = StopStrings(settings.stop)
        rules = SamplingRules(
            **settings.model_dump(exclude={"stop", "unknown", "max_new_tokens"}),
            excluded=codec.excluded_ids(settings.unknown),
        )
        start = read_text(model, self.prompt_ids)
        self._generated = generate(model, start, rules, max_new_tokens=settings.max_new_tokens)

    @property
    def stop(self) -> str:
        """The stop string that ended the text; empty: none."""
        return self._stopping.found

    def __iter__(self) -> Iterator[str]:
        for (one,) in self._generated:
            self.tokens += 1
            self.logprob += one.logprob
            yield self._stopping.push(self._decoder.push(one.token))
            if self.stop:
                return

    def rest(self) -> str:
        """The text held back so far; call it after the last token."""
        return self._stopping.push(self._decoder.flush()) + self._stopping.flush()


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: RecurrentLanguageModel
    codec: TextCodec
    after_end: bool
    """Prompts follow an end token: the model was trained on a stream."""


class Sampler:
    """Loads checkpoints on demand and continues prompts, on one CPU thread: a training needs the
    rest."""

    device = "cpu"

    def __init__(self) -> None:
        set_threads(1)
        self._loaded: OrderedDict[tuple[str, int], _Loaded] = OrderedDict()

    def load(self, checkpoint: str) -> None:
        """Load a checkpoint.

        Raises:
            CheckpointError: it is damaged, missing or of the wrong kind.
        """
        self._get(checkpoint)

    def continue_prompt(
        self, request: SampleRequest, is_cancelled: Callable[[], bool]
    ) -> Iterator[SamplePiece | SampleDone]:
        """Yield pieces of the continuation as they are sampled, then the whole.

        Raises:
            RnnlmError: the checkpoint can't be used, or its vocabulary can't encode the prompt.
        """
        began = time.perf_counter()
        loaded, settings = self._get(request.checkpoint), request.settings
        continuation = Continuation(
            loaded.model, loaded.codec, request.prompt, settings, after_end=loaded.after_end
        )
        whole: list[str] = []
        waiting: list[str] = []
        first, sent = 0.0, -math.inf
        reason: Literal["length", "cancelled"] = "length"
        for new in continuation:
            waiting.append(new)
            now = time.perf_counter()
            first = first or now - began
            if now - sent >= PIECE_SECONDS and (text := "".join(waiting)):
                yield SamplePiece(id=request.id, text=text, tokens=continuation.tokens)
                whole.append(text)
                waiting.clear()
                sent = now
            if is_cancelled():
                reason = "cancelled"
                break
        waiting.append(continuation.rest())
        if text := "".join(waiting):
            whole.append(text)
            yield SamplePiece(id=request.id, text=text, tokens=continuation.tokens)
        tokens = continuation.tokens
        yield SampleDone(
            id=request.id,
            reason="stop" if continuation.stop else reason,
            stop=continuation.stop,
            text="".join(whole),
            tokens=tokens,
            prompt_tokens=len(continuation.prompt_ids),
            seconds=time.perf_counter() - began,
            first_token_seconds=first,
            bits_per_token=-continuation.logprob / tokens / math.log(2) if tokens else 0.0,
            unknown=tuple(loaded.codec.unknown_characters(request.prompt)[:MAX_UNKNOWN]),
        )

    def _get(self, checkpoint: str) -> _Loaded:
        path = Path(checkpoint)
        key = (checkpoint, _written_at(path))
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        verify_checkpoint(path)
        loaded = _Loaded(load_model(path), TextCodec(path), after_end=_data_mode(path) == "stream")
        if loaded.codec.vocab_size != loaded.model.vocab_size:
            raise CheckpointError(
                f"{path} has a tokenizer with {counted(loaded.codec.vocab_size, 'type')} for a"
                f" model with {loaded.model.vocab_size:,}"
            )
        lay_out_head(loaded.model)
        self._loaded[key] = loaded
        while len(self._loaded) > KEPT_MODELS:
            self._loaded.popitem(last=False)
        return loaded


def _written_at(path: Path) -> int:
    """Distinguishes two checkpoints that had the same path in turn; 0 if it is missing."""
    try:
        return (path / MANIFEST_NAME).stat().st_mtime_ns
    except OSError:
        return 0


def _data_mode(path: Path) -> str:
    try:
        values = json.loads((path / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path / 'generation_config.json'} can't be read: {error}"
        ) from error
    return str(values.get(DATA_MODE_KEY, "stream")) if isinstance(values, dict) else "stream"
