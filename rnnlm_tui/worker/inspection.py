"""What a model computes at the tokens of a text: surprise, units and gradients."""

from __future__ import annotations

import base64
import math

from torch import Tensor

from rnnlm_tui.engine.inspection import activity, gates, layer_index
from rnnlm_tui.engine.reach import gradient_by_lag
from rnnlm_tui.engine.units import highest_first, memory_lengths, search
from rnnlm_tui.schema.metrics import bits_per_byte
from rnnlm_tui.schema.sampling import (
    GradientReach,
    InspectedToken,
    Inspection,
    InspectRequest,
    ReachRequest,
    StateMap,
    StatesRequest,
)
from rnnlm_tui.worker.generation import MAX_UNKNOWN
from rnnlm_tui.worker.texts import RequestText, TextReader

MAX_MAP_VALUES = 24 * 2**20
"""Activations of one answer: fewer units are reported for a text so long that all have more."""


def inspect(reader: TextReader, text: RequestText, request: InspectRequest) -> Inspection:
    """Every token with its surprise, and the whole text's.

    Raises:
        InputError: the model predicts NaN.
    """
    trace, pieces, codec = reader.trace(text), text.pieces(), text.loaded.codec
    found = [
        None if rank == 0 else (bits, rank, entropy)
        for bits, rank, entropy in zip(
            trace.bits_T.tolist(), trace.rank_T.tolist(), trace.entropy_T.tolist(), strict=True
        )
    ]
    tokens = tuple(
        InspectedToken(token=token, text=piece)
        if figures is None
        else InspectedToken(
            token=token, text=piece, bits=figures[0], rank=figures[1], entropy=figures[2]
        )
        for token, piece, figures in zip(text.all_ids, pieces, found, strict=True)
    )
    predicted = [token for token in tokens if token.bits is not None]
    size = sum(len(token.text.encode()) for token in predicted)
    unknown = sum(token.token == codec.unk_id for token in predicted)
    loss = trace.bits_per_token * math.log(2)
    per_byte = bits_per_byte(loss, len(predicted), unknown, size) if size else None
    model = text.loaded.model
    return Inspection(
        id=request.id,
        tokens=tokens,
        prompt_tokens=len(text.prompt_ids),
        bits_per_token=trace.bits_per_token,
        bits_per_byte=math.nan if per_byte is None else per_byte,
        vocab_size=model.vocab_size,
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        cell_type=model.cell_type,
        unknown=tuple(codec.unknown_characters(request.prompt)[:MAX_UNKNOWN]),
    )


def map_states(reader: TextReader, text: RequestText, request: StatesRequest) -> StateMap:
    """The activations of a layer's units, sorted by their memory or by what they follow.

    Raises:
        InputError: no such layer, or nothing that can be searched for.
    """
    model, trace = text.loaded.model, reader.trace(text)
    layer = layer_index(model, request.layer)
    outputs_of_units = trace.outputs_LTH[layer]
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
        saturated=tuple(figures.saturated_T.tolist()),
        norm=tuple(figures.norm_T.tolist()),
        change=tuple(figures.change_T.tolist()),
        gates={name: tuple(values.tolist()) for name, values in gates(model, trace, layer).items()},
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


def _signed_bytes(values: Tensor, scale: float) -> str:
    """Base64 of the columns of a table, one after the other, in steps of `scale` / 127."""
    steps = (values.t() * (127 / scale if scale else 0.0)).round().char().contiguous()
    return base64.b64encode(steps.numpy().tobytes()).decode("ascii")
