"""Continuation: continues a prompt token by token, decoded, until a stop string."""

from __future__ import annotations

from collections.abc import Iterator

from rnnlm_tui.contract.config import SamplingConfig
from rnnlm_tui.corpus.stopping import StopStrings
from rnnlm_tui.corpus.text import TextCodec
from rnnlm_tui.engine.generate import generate
from rnnlm_tui.engine.model import RecurrentLanguageModel


class Continuation:
    """Iterate to sample. Each token yields the text that it completes, often none; take the `rest()` at the end.

    Args:
        after_end: the prompt follows an end token, as sentences do in a stream.

    Raises:
        RnnlmError: this vocabulary can't encode the prompt, or a stop string is empty.
    """

    def __init__(self, model: RecurrentLanguageModel, codec: TextCodec, prompt: str, settings: SamplingConfig, *, after_end: bool) -> None:
        self.prompt_ids = codec.prompt_ids(prompt, after_end=after_end)
        self.tokens = 0
        """Sampled so far, those of a stop string included."""
        self.logprob = 0.0
        """Sum of their ln p under the model at temperature 1."""
        self._decoder = codec.incremental(self.prompt_ids)
        self._stopping = StopStrings(settings.stop)
        excluded = codec.excluded_ids(settings.unknown)
        self._generated = generate(model, self.prompt_ids, **settings.model_dump(exclude={"stop", "unknown"}), excluded=excluded)

    @property
    def stop(self) -> str:
        """The stop string that ended the text; empty: none."""
        return self._stopping.found

    def __iter__(self) -> Iterator[str]:
        for one in self._generated:
            self.tokens += 1
            self.logprob += one.logprob
            yield self._stopping.push(self._decoder.push(one.token))
            if self.stop:
                return

    def rest(self) -> str:
        """The text held back so far; call it after the last token."""
        return self._stopping.push(self._decoder.flush()) + self._stopping.flush()
