"""Plausible answers of a sampler to every request, the same each time, without a model.

Its tokens are words with the space before them. A token's id is a hash of its text, and ids that
were never made here read as words of `WORDS`.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from zlib import crc32

from rnnlm_tui.schema.sampling import (
    Alternative,
    Alternatives,
    AlternativesRequest,
    GradientReach,
    InspectedToken,
    Inspection,
    InspectRequest,
    KeepStateRequest,
    LoadRequest,
    ReachRequest,
    SampleDone,
    SamplePiece,
    SamplerAnswer,
    SampleRequest,
    SamplerReady,
    SamplerRequest,
    ScoreDone,
    ScorePiece,
    ScoreProgress,
    ScoreRequest,
    StateKept,
    StateMap,
    StatesRequest,
    TensorChange,
    TokenChoice,
    WeightChange,
    WeightChangeRequest,
)

VOCAB_SIZE, NUM_LAYERS, HIDDEN_SIZE = 2_048, 2, 24
WORDS = (
    *("the", "of", "and", "to", "in", "a", "that", "is", "our", "we", "for", "it", "this", "have"),
    *("with", "be", "will", "not", "people", "on", "are", "by", "as", "American", "world", "must"),
    *("all", "government", "peace", "years", "year", "has", "nation", "new", "which", "Congress"),
)
_PIECES: dict[int, str] = {}


def token_id(piece: str) -> int:
    """The id of a token, which `piece_of` then knows."""
    token = crc32(piece.encode()) % VOCAB_SIZE
    while _PIECES.setdefault(token, piece) != piece:
        token = (token + 1) % VOCAB_SIZE
    return token


def piece_of(token: int) -> str:
    """The text of a token."""
    return _PIECES.get(token, f" {WORDS[token % len(WORDS)]}")


def prompt_pieces(prompt: str) -> list[str]:
    """A prompt's tokens; joined they are the prompt."""
    return re.findall(r"\s*\S+|\s+$", prompt)


def all_pieces(request: InspectRequest | AlternativesRequest | StatesRequest) -> list[str]:
    """The tokens of a request's text, prompt and generated ones."""
    return [*prompt_pieces(request.prompt), *map(piece_of, request.ids)]


def surprise(pieces: Sequence[str], position: int) -> float:
    """Bits of the token at a position, which depend on it and the token before."""
    if position == 0:
        return 9.0
    return 0.1 + crc32("".join(pieces[position - 1 : position + 1]).encode()) % 1_000 / 100


def rank(bits: float) -> int:
    """The rank of a token with this surprise."""
    return 1 if bits < 2 else min(VOCAB_SIZE, int(1.6**bits))


def inspected(pieces: Sequence[str]) -> tuple[InspectedToken, ...]:
    """A text token by token; nothing predicts the first."""
    tokens = []
    for position, piece in enumerate(pieces):
        bits = surprise(pieces, position)
        known = {"bits": bits, "rank": rank(bits), "entropy": 2 + bits / 3} if position else {}
        size = len(piece.encode())
        tokens.append(InspectedToken(token=token_id(piece), text=piece, bytes=size, **known))
    return tuple(tokens)


def inspection(request: InspectRequest) -> Inspection:
    """Every token of the text, with its surprise."""
    tokens = inspected(all_pieces(request))
    bits = [token.bits for token in tokens if token.bits is not None]
    size = sum(token.bytes for token in tokens if token.bits is not None)
    return Inspection(
        id=request.id,
        tokens=tokens,
        prompt_tokens=len(prompt_pieces(request.prompt)),
        bits_per_token=sum(bits) / len(bits) if bits else math.nan,
        bits_per_byte=sum(bits) / size if size else math.nan,
        vocab_size=VOCAB_SIZE,
        num_layers=NUM_LAYERS,
        hidden_size=HIDDEN_SIZE,
        cell_type="elman",
    )


def alternatives(request: AlternativesRequest) -> Alternatives:
    """Words with falling probabilities; top-k and the temperature apply, and the taken token has
    the rank that its surprise gives it."""
    pieces = all_pieces(request)
    rows = choice(pieces[: request.position], request, request.count)
    taken = None
    if request.position < len(pieces):
        bits = surprise(pieces, request.position)
        place = rank(bits)
        taken = Alternative(
            token=token_id(pieces[request.position]),
            text=pieces[request.position],
            rank=place,
            probability=2**-bits,
            filtered=rows[place - 1].filtered if place <= len(rows) else 2**-bits,
            removed_by=rows[place - 1].removed_by if place <= len(rows) else "",
        )
        if place <= len(rows):
            rows[place - 1] = taken
    return Alternatives(
        id=request.id,
        position=request.position,
        rows=tuple(rows),
        taken=taken,
        entropy=4.2,
        filtered_entropy=3.1,
        vocab_size=VOCAB_SIZE,
    )


def choice(
    before: Sequence[str], request: AlternativesRequest | SampleRequest, count: int
) -> list[Alternative]:
    """The most likely tokens after these."""
    settings = request.settings
    first = crc32("".join(before[-2:]).encode()) % len(WORDS)
    weights = [0.5**place for place in range(1, count + 1)]
    cold = [
        weight ** (1 / max(settings.temperature, 0.05)) if not 0 < settings.top_k < place else 0.0
        for place, weight in enumerate(weights, start=1)
    ]
    rows = []
    for place, (weight, kept) in enumerate(zip(weights, cold, strict=True), start=1):
        piece = f" {WORDS[(first + place) % len(WORDS)]}"
        rows.append(
            Alternative(
                token=token_id(piece),
                text=piece,
                rank=place,
                probability=weight,
                filtered=kept / sum(cold),
                removed_by="" if kept else "top-k",
            )
        )
    return rows


def state_map(request: StatesRequest) -> StateMap:
    """Slow and fast waves, the slowest first unless ordered by index."""
    tokens = len(all_pieces(request))
    units = list(range(HIDDEN_SIZE))
    if request.order != "index":
        units.reverse()
    values = bytes(
        round(127 * math.sin((at + 1) * (HIDDEN_SIZE - unit) / 40)) % 256
        for unit in units
        for at in range(tokens)
    )
    return StateMap(
        id=request.id,
        layer=request.layer % NUM_LAYERS,
        num_layers=NUM_LAYERS,
        units=tuple(units),
        tokens=tokens,
        values=base64.b64encode(values).decode(),
        scale=0.9,
        memory=tuple(40 / (HIDDEN_SIZE - unit) for unit in units),
        match=tuple(1 / (place + 1) for place in range(len(units))) if request.query else (),
        saturated=tuple(0.1 + at % 5 / 20 for at in range(tokens)),
        norm=tuple(2 + at % 7 / 10 for at in range(tokens)),
        change=tuple(1 + at % 3 / 10 for at in range(tokens)),
    )


def reach(request: ReachRequest) -> GradientReach:
    """Gradients that fall by a fifth with each lag."""
    lags = min(request.lags, request.position)
    return GradientReach(
        id=request.id,
        position=request.position,
        norms=tuple(0.5 * 0.8**lag for lag in range(lags)),
    )


def sample_texts(request: SampleRequest, words: Sequence[str]) -> list[list[str]]:
    """The tokens of each sample: the words, and for further samples the words turned around."""
    return [
        [*words[turn:], *words[:turn]]
        for turn in (sample % max(1, len(words)) for sample in range(request.count))
    ]


def sample_answers(
    request: SampleRequest,
    texts: Sequence[Sequence[str]],
    reason: Literal["length", "cancelled"] = "length",
) -> tuple[list[SamplePiece], list[SampleDone]]:
    """The pieces of these samples, token by token in turn, and their ends."""
    pieces = [
        SamplePiece(id=request.id, sample=sample, text=text[place], tokens=place + 1)
        for place in range(max(map(len, texts), default=0))
        for sample, text in enumerate(texts)
        if place < len(text)
    ]
    return pieces, [sample_done(request, sample, text, reason) for sample, text in enumerate(texts)]


def sample_done(
    request: SampleRequest,
    sample: int,
    words: Sequence[str],
    reason: Literal["length", "cancelled"] = "length",
) -> SampleDone:
    """The end of a sample, with alternatives if the request asks for them."""
    before = [*prompt_pieces(request.prompt), *map(piece_of, request.ids)]
    choices = []
    for place, word in enumerate(words) if request.alternatives else ():
        rows = choice([*before, *words[:place]], request, request.alternatives)
        taken = Alternative(
            token=token_id(word),
            text=word,
            rank=1,
            probability=rows[0].probability,
            filtered=rows[0].filtered,
        )
        choices.append(TokenChoice(taken=taken, alternatives=(taken, *rows[1:])))
    return SampleDone(
        id=request.id,
        sample=sample,
        reason=reason,
        text="".join(words),
        ids=tuple(map(token_id, words)),
        tokens=len(words),
        prompt_tokens=5,
        seconds=0.02,
        first_token_seconds=0.004,
        bits_per_token=4.1,
        choices=tuple(choices),
    )


def score_answers(request: ScoreRequest) -> Iterator[ScoreProgress | ScorePiece | ScoreDone]:
    """Progress, the words of the file, if the request wants them, then their loss."""
    data = Path(request.path).read_bytes()
    tokens = inspected(prompt_pieces(data.decode()))
    done = len(tokens) // 2
    yield ScoreProgress(id=request.id, phase="scoring", done=done, total=len(tokens) - 1)
    if request.tokens:
        for first in range(0, len(tokens), 100):
            yield ScorePiece(id=request.id, tokens=tokens[first : first + 100])
    bits = [token.bits for token in tokens if token.bits is not None]
    loss = sum(bits) / len(bits) * math.log(2) if bits else math.nan
    size = sum(token.bytes for token in tokens if token.bits is not None)
    yield ScoreDone(
        id=request.id,
        loss=loss,
        tokens=len(bits),
        bytes=len(data),
        scored_bytes=size,
        bits_per_byte=sum(bits) / size if size else None,
        unknown=0,
        seconds=0.5,
    )


CHANGES = (
    ("embedding.weight", 0.84),
    ("layers.0.input_weight", 0.62),
    ("layers.1.input_weight", 0.91),
    ("output.bias", 0.38),
)
"""The tensors of the model, and how much each changed relative to its norm."""


def weight_change(request: WeightChangeRequest) -> WeightChange:
    """Large changes, as early in a training."""
    return WeightChange(
        id=request.id,
        tensors=tuple(
            TensorChange(name=name, change=3.0 * ratio, norm=3.0) for name, ratio in CHANGES
        ),
    )


def answer(request: SamplerRequest) -> SamplerAnswer:
    """The answer to a request that has one."""
    match request:
        case LoadRequest():
            return SamplerReady(id=request.id)
        case InspectRequest():
            return inspection(request)
        case AlternativesRequest():
            return alternatives(request)
        case StatesRequest():
            return state_map(request)
        case ReachRequest():
            return reach(request)
        case KeepStateRequest():
            read = len(request.prompt.split()) + len(request.ids)
            tokens = read if request.position is None else request.position + 1
            return StateKept(id=request.id, name=request.name, path=request.path, tokens=tokens)
        case WeightChangeRequest():
            return weight_change(request)
    raise AssertionError(f"a {type(request).__name__} has several answers")
