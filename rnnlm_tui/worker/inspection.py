"""What a model computes at the tokens of a text: surprise, alternatives, units and gradients."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from rnnlm_tui.corpus.codec import IncrementalDecoder
from rnnlm_tui.engine.inspection import (
    activity,
    gates_and_saturation,
    layer_index,
    logits_at,
    trace,
)
from rnnlm_tui.engine.reach import gradient_by_lag
from rnnlm_tui.engine.token_sampling import Filtered, filtered
from rnnlm_tui.engine.units import highest_first, memory_lengths, search
from rnnlm_tui.schema.cells import ATTENDING_CELLS
from rnnlm_tui.schema.metrics import bits_per_byte
from rnnlm_tui.schema.sampling import (
    Alternative,
    Alternatives,
    AlternativesRequest,
    GradientReach,
    InspectedToken,
    Inspection,
    InspectRequest,
    ReachRequest,
    SampleRequest,
    StateMap,
    StatesRequest,
    TokenChoice,
)
from rnnlm_tui.worker.texts import RequestText, TextReader

MAX_MAP_VALUES = 24 * 2**20
"""Activations of one answer: fewer units are reported for a text so long that all have more."""


def inspect(reader: TextReader, text: RequestText, request: InspectRequest) -> Inspection:
    """Every token with its surprise, and the whole text's.

    Raises:
        InputError: the model predicts NaN.
    """
    read, pieces, codec = reader.trace(text), text.pieces(), text.loaded.codec
    figures = zip(read.bits_T.tolist(), read.rank_T.tolist(), read.entropy_T.tolist(), strict=True)
    tokens = tuple(
        InspectedToken(
            token=token,
            text=piece,
            bytes=size,
            bits=bits if rank else None,
            rank=rank or None,
            entropy=entropy if rank else None,
        )
        for token, piece, size, (bits, rank, entropy) in zip(
            text.all_ids, pieces, text.sizes(), figures, strict=True
        )
    )
    predicted = [token for token in tokens if token.bits is not None]
    size = sum(token.bytes for token in predicted)
    unknown = sum(token.token == codec.unk_id for token in predicted)
    loss = read.bits_per_token * math.log(2)
    per_byte = bits_per_byte(loss, len(predicted), unknown, size)
    model = text.loaded.model
    return Inspection(
        id=request.id,
        tokens=tokens,
        prompt_tokens=len(text.prompt_ids),
        bits_per_token=read.bits_per_token,
        bits_per_byte=math.nan if per_byte is None else per_byte,
        vocab_size=model.vocab_size,
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        cell_type=model.cell_type,
        unknown=text.unknown,
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
    excluded = text.loaded.codec.excluded_ids(request.settings.unknown)
    offer = _Offer(filtered(logits, request.settings, excluded, seen), text.decoder_at(position))
    return Alternatives(
        id=request.id,
        position=position,
        rows=offer.likeliest(request.count),
        taken=offer.row(ids[position]) if position < len(ids) else None,
        entropy=_entropy_bits(offer.filtered.before_V),
        filtered_entropy=_entropy_bits(offer.filtered.after_V),
        vocab_size=text.loaded.model.vocab_size,
    )


def token_choices(
    reader: TextReader, text: RequestText, request: SampleRequest, new_ids: Sequence[int]
) -> Iterator[TokenChoice]:
    """What each token of a sample was chosen from."""
    model, settings = text.loaded.model, request.settings
    excluded = text.loaded.codec.excluded_ids(settings.unknown)
    read = trace(model, new_ids, reader.state(text), text.check)
    decoder, seen = text.decoder_at(len(text.all_ids)), list(text.seen)
    for place, token in enumerate(new_ids):
        text.check()
        found = filtered(logits_at(model, read, place), settings, excluded, seen)
        offer = _Offer(found, decoder)
        yield TokenChoice(
            taken=offer.row(token), alternatives=offer.likeliest(request.alternatives)
        )
        decoder.push(token)
        seen.append(token)


def map_states(reader: TextReader, text: RequestText, request: StatesRequest) -> StateMap:
    """The activations of a layer's units, sorted by their memory or by what they follow.

    Raises:
        InputError: no such layer, or nothing that can be searched for.
    """
    model, read = text.loaded.model, reader.trace(text)
    layer = layer_index(model, request.layer)
    outputs_of_units = read.outputs_LTH[layer]
    memory, match = memory_lengths(outputs_of_units), None
    units = list(range(model.hidden_size))
    if request.order == "search":
        match = search(outputs_of_units, text.pieces(), request.query)
        units = highest_first(match)
    elif request.order == "memory":
        units = highest_first(memory)
    tokens = len(text.all_ids)
    units = units[: max(1, MAX_MAP_VALUES // max(1, tokens))]
    figures = activity(outputs_of_units)
    gates, saturated = gates_and_saturation(model, read, layer)
    scale = float(outputs_of_units.abs().max()) if tokens else 0.0
    return StateMap(
        id=request.id,
        layer=layer,
        num_layers=model.num_layers,
        units=tuple(units),
        tokens=tokens,
        values=_signed_bytes(outputs_of_units[:, units], scale),
        scale=scale,
        memory=tuple(memory[units].tolist()),
        match=() if match is None else tuple(match[units].tolist()),
        saturated=() if saturated is None else tuple(saturated.tolist()),
        norm=tuple(figures.norm_T.tolist()),
        change=tuple(figures.change_T.tolist()),
        gates={name: tuple(values.tolist()) for name, values in gates.items()},
        is_state=model.cell_type not in ATTENDING_CELLS,
    )


def reach(text: RequestText, request: ReachRequest) -> GradientReach:
    """The gradient of one token's loss by lag.

    Raises:
        InputError: the text has no such token.
    """
    norms = gradient_by_lag(
        text.loaded.model, text.all_ids, request.position, lags=request.lags, start=text.start
    )
    return GradientReach(id=request.id, position=request.position, norms=tuple(norms.tolist()))


class _Offer:
    """The distribution at one place of a text."""

    def __init__(self, found: Filtered, decoder: IncrementalDecoder) -> None:
        self.filtered = found
        self._decoder = decoder
        self._order = found.before_V.argsort(descending=True, stable=True)
        self._ranks = self._order.argsort()

    def likeliest(self, count: int) -> tuple[Alternative, ...]:
        """The most likely tokens before filters; of equal ones the lower id first."""
        return tuple(map(self.row, self._order[:count].tolist()))

    def row(self, token: int) -> Alternative:
        """A token with its probabilities."""
        return Alternative(
            token=token,
            text=self._decoder.peek(token),
            rank=int(self._ranks[token]) + 1,
            probability=float(self.filtered.before_V[token]),
            filtered=float(self.filtered.after_V[token]),
            removed_by=self.filtered.removed_by(token),
        )


def _entropy_bits(probabilities: Tensor) -> float:
    """Entropy in bits."""
    likely = probabilities[probabilities > 0]
    return max(0.0, float(-(likely * likely.log2()).sum()))


def _signed_bytes(values: Tensor, scale: float) -> str:
    """Base64 of the columns of a table, one after the other, in steps of `scale` / 127."""
    steps = (values.t() * (127 / scale if scale else 0.0)).round().char().contiguous()
    return base64.b64encode(steps.numpy().tobytes()).decode("ascii")
