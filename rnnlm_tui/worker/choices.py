"""What a token is chosen from: probabilities before and after penalty, temperature and filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from rnnlm_tui.corpus.codec import IncrementalDecoder, TextCodec
from rnnlm_tui.engine.inspection import logits_at, trace
from rnnlm_tui.engine.token_sampling import Filtered, SamplingRules, filtered
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import (
    Alternative,
    Alternatives,
    AlternativesRequest,
    SampleRequest,
    TokenChoice,
)
from rnnlm_tui.worker.texts import RequestText, TextReader


def sampling_rules(codec: TextCodec, settings: SamplingConfig) -> SamplingRules:
    """The rules of a config's settings with this vocabulary."""
    return SamplingRules(
        **settings.model_dump(exclude={"stop", "unknown", "max_new_tokens"}),
        excluded=codec.excluded_ids(settings.unknown),
    )


def alternatives(
    reader: TextReader, text: RequestText, request: AlternativesRequest
) -> Alternatives:
    """The tokens that are possible at a position, and the one that is there.

    Raises:
        InputError: the text has no such position, or nothing predicts it.
    """
    position, ids = request.position, text.all_ids
    logits = logits_at(text.loaded.model, reader.trace(text), position)
    seen = text.seen[: len(text.seen) - len(ids) + position]
    offer = _Offer(
        filtered(logits, sampling_rules(text.loaded.codec, request.settings), seen),
        text.decoder_at(position),
    )
    return Alternatives(
        id=request.id,
        position=position,
        rows=offer.likeliest(request.count),
        taken=offer.row(ids[position]) if position < len(ids) else None,
        entropy=_bits(offer.filtered.before_V),
        filtered_entropy=_bits(offer.filtered.after_V),
        vocab_size=text.loaded.model.vocab_size,
    )


def token_choices(
    reader: TextReader, text: RequestText, request: SampleRequest, new_ids: Sequence[int]
) -> Iterator[TokenChoice]:
    """What each token of a sample was chosen from."""
    model, rules = text.loaded.model, sampling_rules(text.loaded.codec, request.settings)
    read = trace(model, new_ids, reader.state(text))
    decoder, seen = text.decoder_at(len(text.all_ids)), list(text.seen)
    for place, token in enumerate(new_ids):
        offer = _Offer(filtered(logits_at(model, read, place), rules, seen), decoder)
        yield TokenChoice(
            taken=offer.row(token), alternatives=offer.likeliest(request.alternatives)
        )
        decoder.push(token)
        seen.append(token)


class _Offer:
    """The distribution at one place of a text."""

    def __init__(self, found: Filtered, decoder: IncrementalDecoder) -> None:
        self.filtered = found
        self._decoder = decoder
        self._order = found.before_V.argsort(descending=True, stable=True)

    def likeliest(self, count: int) -> tuple[Alternative, ...]:
        """The most likely tokens before filters; of equal ones the lower id first."""
        return tuple(map(self.row, self._order[:count].tolist()))

    def row(self, token: int) -> Alternative:
        """A token with its probabilities."""
        return Alternative(
            token=token,
            text=self._decoder.peek(token),
            rank=int((self._order == token).nonzero()) + 1,
            probability=float(self.filtered.before_V[token]),
            filtered=float(self.filtered.after_V[token]),
            removed_by=self.filtered.removed_by(token),
        )


def _bits(probabilities: Tensor) -> float:
    """Entropy in bits."""
    likely = probabilities[probabilities > 0]
    return max(0.0, float(-(likely * likely.log2()).sum()))
