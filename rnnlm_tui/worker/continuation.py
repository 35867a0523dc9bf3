"""A prompt being continued: tokens drawn one by one, their text decoded and ended by stop strings."""

from __future__ import annotations

from collections.abc import Iterator

from rnnlm_tui.contract.config import SamplingConfig
from rnnlm_tui.corpus.stopping import StopStrings
from rnnlm_tui.corpus.text import TextCodec
from rnnlm_tui.engine.generate import generate
from rnnlm_tui.engine.model import RecurrentLanguageModel


class Continuation:
    """Iterating draws: each token gives the text that it makes certain, often none; whoever has enough stops iterating and takes the `rest()`.

    Args:
        after_end: whether the prompt begins behind an end token, as sentences do in a stream.

    Raises:
        RnnlmError: the prompt can't be written with this vocabulary, or a stop string is empty.
    """

    def __init__(self, model: RecurrentLanguageModel, codec: TextCodec, prompt: str, settings: SamplingConfig, *, after_end: bool) -> None:
        self.prompt_ids = codec.prompt_ids(prompt, after_end=after_end)
        self.tokens = 0
        """Drawn so far, those of a stop string among them."""
        self.logprob = 0.0
        """ln p of all of them under the model at temperature 1."""
        self._decoder = codec.incremental(self.prompt_ids)
        self._stopping = StopStrings(settings.stop)
        excluded = codec.excluded_ids(settings.unknown)
        self._drawn = generate(model, self.prompt_ids, **settings.model_dump(exclude={"stop", "unknown"}), excluded=excluded)

    @property
    def stop(self) -> str:
        """The stop string that ended the text; empty: none did."""
        return self._stopping.found

    def __iter__(self) -> Iterator[str]:
        for one in self._drawn:
            self.tokens += 1
            self.logprob += one.logprob
            yield self._stopping.push(self._decoder.push(one.token))
            if self.stop:
                return

    def rest(self) -> str:
        """The text that was held back, when nothing more is drawn."""
        return self._stopping.push(self._decoder.flush()) + self._stopping.flush()
