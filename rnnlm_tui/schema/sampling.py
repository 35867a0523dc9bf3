"""Messages between an app and its sampler process: what is asked of a model, and its answers.

Every request names a checkpoint. A request about a text names it in one way: the prompt as typed,
then the ids of the tokens that were generated after it. Positions count the tokens that the model
reads, from 0: the tokens of the prompt (with the end token in front, if the model starts from
one), then `ids`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import SEEDS, perplexity
from rnnlm_tui.schema.protocol import Message

MAX_PROMPT_CHARACTERS = 20_000
MAX_SAMPLES = 64
"""Samples of one request."""
MAX_ALTERNATIVES = 50
MAX_CHOICES = 250_000
"""Alternatives of all tokens of one sample."""
MAX_LAGS = 200
"""Tokens that a gradient is followed back."""


class CancelRequest(Message):
    """Cancel a request, queued or running."""

    id: str


class FolderReading(Message):
    """How the model in a folder of the Hugging Face layout is opened, and how it reads a text."""

    window: int | None = Field(default=None, ge=2)
    """Tokens that are read at once; None: the model's context, if it isn't long."""
    stride: int | None = Field(default=None, ge=1)
    """Tokens from the start of one window to that of the next; None: half a window."""
    allow_code: bool = False
    """Run the code that the folder brings along."""


class SamplerRequest(Message):
    """A request that the sampler answers, in order; `CancelRequest` takes effect at once."""

    id: str
    checkpoint: str
    """Absolute path of a checkpoint or snapshot directory."""
    folder: FolderReading | None = None
    """The checkpoint is any folder of the Hugging Face layout, to score texts with."""


class LoadRequest(SamplerRequest):
    """Load a checkpoint in advance, so that the first sample starts immediately."""


class TextRequest(SamplerRequest):
    """A request about a text."""

    prompt: str = Field(default="", max_length=MAX_PROMPT_CHARACTERS)
    ids: tuple[int, ...] = ()
    """Generated tokens that follow the prompt."""
    state: str = ""
    """Path of a kept state from which the model starts; empty: the initial state."""
    settings: SamplingConfig = SamplingConfig()


class SampleRequest(TextRequest):
    """Continue a text. The token at each position depends on the seed and the position alone, so
    a text that is continued or branched from equals one that was sampled in one go."""

    count: int = Field(default=1, ge=1, le=MAX_SAMPLES)
    """Samples, computed in one batch; sample i has the seed `settings.seed + i`."""
    alternatives: int = Field(default=0, ge=0, le=MAX_ALTERNATIVES)
    """Report this many alternatives for each generated token, in `SampleDone.choices`."""


def length_problem(characters: int) -> str:
    """Why a prompt of this length can't be sampled; empty if it can."""
    if characters <= MAX_PROMPT_CHARACTERS:
        return ""
    limit = f"{MAX_PROMPT_CHARACTERS:,}"
    return f"the prompt has {counted(characters, 'character')}, the limit is {limit}"


def in_batches(request: SampleRequest, samples: int) -> Iterator[tuple[int, SampleRequest]]:
    """Requests for several samples with consecutive seeds, each with the number of samples before
    it."""
    done = 0
    while done < samples:
        seed = (request.settings.seed + done) % SEEDS
        settings = request.settings.model_copy(update={"seed": seed})
        count = min(MAX_SAMPLES, samples - done, SEEDS - seed)
        changes = {"id": f"{request.id}.{done}", "settings": settings, "count": count}
        yield done, request.model_copy(update=changes)
        done += count


class InspectRequest(TextRequest):
    """Score every token of a text."""


class AlternativesRequest(TextRequest):
    """The tokens that could be at a position."""

    position: int = Field(ge=0)
    """The number of tokens before it may be all of them: what comes next."""
    count: int = Field(default=10, ge=1, le=MAX_ALTERNATIVES)


class StatesRequest(TextRequest):
    """The activations of a layer's units over a text."""

    layer: int = Field(default=-1)
    """From 0; -1 is the last."""
    order: Literal["memory", "search", "index"] = "memory"
    """Longest memory first, or the best match of `query` first, or by index."""
    query: str = ""
    """What the units should follow: see `engine.units.FEATURES`, or one character."""


class ReachRequest(TextRequest):
    """How far back the gradient of one token's loss reaches."""

    position: int = Field(ge=1)
    """The token whose loss is differentiated."""
    lags: int = Field(default=60, ge=1, le=MAX_LAGS)


class KeepStateRequest(TextRequest):
    """Save the state after a token to a file."""

    position: int | None = Field(default=None, ge=0)
    """The last token that is read; None: the last one of the text."""
    name: str
    path: str
    """File to write; an existing one is refused."""
    run: str = ""
    """Name of the run, for the list of states."""
    note: str = ""


class ScoreRequest(SamplerRequest):
    """Score a text file, read in parts."""

    path: str
    """Absolute path of a UTF-8 file."""
    tokens: bool = False
    """Report every token, in `ScorePiece`."""
    cache: int = Field(default=0, ge=0)
    """Score with a continuous cache of so many tokens, too: tokens then have their surprise with
    it. 0: none."""
    cache_theta: float = Field(default=0.3, ge=0)
    """How much more a similar state counts than another."""
    cache_lambda: float = Field(default=0.1, ge=0, le=1)
    """The share of the cache in the probability."""


class WeightChangeRequest(SamplerRequest):
    """How much the weights changed since an earlier checkpoint of the run."""

    before: str
    """Absolute path of the earlier checkpoint."""


REQUESTS: tuple[type[CancelRequest | SamplerRequest], ...] = (
    CancelRequest, LoadRequest, ScoreRequest, WeightChangeRequest, *TextRequest.__subclasses__(),
)  # fmt: skip


class SamplerAnswer(Message):
    """An answer, or a part of one."""

    id: str
    """Of the request."""


class SamplerReady(SamplerAnswer):
    """Sent at the start, and as the answer to a load request."""

    id: str = ""
    device: str = "cpu"


class SampleFailed(SamplerAnswer):
    """The answer to a request that can't be done."""

    message: str
    hint: str = ""
    exit_code: int = 1


class SamplePiece(SamplerAnswer):
    """The text of one sample since its last piece, in whole characters."""

    sample: int = 0
    """Which sample of the request, from 0."""
    text: str
    tokens: int
    """Tokens that this sample has so far."""
    bits_per_token: float | None = None
    """Mean of -log2 p of these tokens at temperature 1; None if it isn't computed yet."""


class Alternative(Message):
    """A token at a position."""

    token: int
    text: str
    """As it reads at this place; empty if it is only a part of a character."""
    rank: int
    """1: the most likely."""
    probability: float
    """At temperature 1, before any penalty or filter."""
    filtered: float
    """After penalty, temperature and filters: the probability with which it is sampled."""
    removed_by: str = ""
    """The filter that removed it, such as `top-p`; `excluded`, `greedy`; empty: it can be
    sampled."""


class TokenChoice(Message):
    """A generated token and what it was chosen from."""

    taken: Alternative
    alternatives: tuple[Alternative, ...]
    """The most likely tokens, the most likely first."""


class SampleDone(SamplerAnswer):
    """The end of one sample of a request; a request with `count` n ends with n of them."""

    sample: int = 0
    reason: Literal["length", "stop", "cancelled"]
    stop: str = ""
    """The stop string that ended the text, if `reason` is stop; it isn't part of `text`."""
    text: str = ""
    """The new text, without the prompt and the text of the request's `ids`."""
    unread: int = 0
    """Blanks at the end of the prompt that the model didn't read."""
    repeated: str = ""
    """What of them the text began with, which was left out."""
    ids: tuple[int, ...] = ()
    """The new tokens, those of a stop string included."""
    tokens: int = 0
    """How many these are."""
    prompt_tokens: int = 0
    """Tokens read before the first new one."""
    seconds: float = 0.0
    first_token_seconds: float = 0.0
    bits_per_token: float = 0.0
    """Mean of -log2 p of the new tokens at temperature 1."""
    unknown: tuple[str, ...] = ()
    """Words or characters of the prompt outside the vocabulary, read as <unk>."""
    choices: tuple[TokenChoice, ...] = ()
    """One per new token, if the request asked for alternatives."""


class InspectedToken(Message):
    """A token of an inspected text."""

    token: int
    text: str
    """The text that it adds: the pieces of all tokens, joined, are the text. Empty for a token in
    the middle of a character, and for the end token that a text starts from."""
    bits: float | None = None
    """Surprise, -log2 p at temperature 1; None where nothing predicts the token."""
    rank: int | None = None
    """1: it was the most likely token."""
    entropy: float | None = None
    """Entropy of the prediction, in bits."""
    bytes: int = 0
    """In an inspection: UTF-8 bytes of the text that it stands for, which may be a part of a
    character; 0 for the end token that a text starts from."""


class Inspection(SamplerAnswer):
    """The answer to an inspect request."""

    tokens: tuple[InspectedToken, ...]
    prompt_tokens: int
    """How many of them are the prompt's."""
    bits_per_token: float
    """Mean surprise; perplexity is 2 to its power. NaN if no token is predicted."""
    bits_per_byte: float
    """Surprise of the predicted tokens over their UTF-8 bytes. NaN without bytes, or if more than
    0.1 % of the tokens are unknown: they hide the bytes of their words."""
    vocab_size: int
    num_layers: int
    hidden_size: int
    cell_type: str
    unknown: tuple[str, ...] = ()


class Alternatives(SamplerAnswer):
    """The answer to an alternatives request."""

    position: int
    rows: tuple[Alternative, ...]
    """The most likely tokens, the most likely first."""
    taken: Alternative | None = None
    """The token that the text has there; None at the end of the text."""
    entropy: float
    """Of the prediction before any filter, in bits."""
    filtered_entropy: float
    """After penalty, temperature and filters, in bits."""
    vocab_size: int


class StateMap(SamplerAnswer):
    """The answer to a states request: activations of one layer's units at each token."""

    layer: int
    num_layers: int
    units: tuple[int, ...]
    """Indices of the units, in the requested order."""
    tokens: int
    values: str
    """Base64 of signed bytes, unit by unit: activation = byte / 127 * scale."""
    scale: float
    """Largest absolute activation."""
    memory: tuple[float, ...]
    """For each unit in order: tokens until its autocorrelation falls below 1/e."""
    match: tuple[float, ...] = ()
    """For each unit in order: how well it follows the query, 0 to 1; only for a search."""
    saturated: tuple[float, ...] = ()
    """For each token: share of units whose tanh is above 0.9 in absolute value: that of the
    candidate, or of an Elman layer's state. Empty for cells without tanh."""
    norm: tuple[float, ...]
    """For each token: L2 norm of the layer's output."""
    change: tuple[float, ...]
    """For each token: L2 norm of the change since the token before."""
    gates: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """For each gate of a gated cell: its mean over the units at each token."""


class GradientReach(SamplerAnswer):
    """The answer to a reach request."""

    position: int
    norms: tuple[float, ...]
    """By lag: L2 norm of the gradient of the token's loss with respect to what the layers pass on
    at the token `lag` before the last one read. Lag 0 is the state that predicts the token."""


class StateKept(SamplerAnswer):
    """The answer to a keep request."""

    name: str
    path: str
    tokens: int
    """Tokens read before it."""
    unknown: tuple[str, ...] = ()
    """Words or characters of the prompt outside the vocabulary, the first few."""


class ScoreProgress(SamplerAnswer):
    """How far a file is scored; sent every now and then."""

    phase: Literal["reading", "scoring"]
    """A model of streams reads the whole file before it scores it."""
    done: int
    """Tokens."""
    total: int = 0
    """0: not known yet."""


class ScorePiece(SamplerAnswer):
    """Scored tokens of a file."""

    tokens: tuple[InspectedToken, ...]


class ScoreDone(SamplerAnswer):
    """The answer to a score request."""

    loss: float
    """Mean cross-entropy per predicted token in nats, computed as the trainer's evaluation does."""
    tokens: int
    """Predicted tokens."""
    bytes: int
    """UTF-8 bytes of the text."""
    scored_bytes: int
    """UTF-8 bytes of the predicted tokens, which are less than the text's: nothing predicts the
    first token, of a model of sentences that of each sentence and what is beyond its context. 0 if
    the tokenizer doesn't keep the text."""
    bits_per_byte: float | None
    """Of the predicted tokens. None if more than 0.1 % of them are unknown, which hide the bytes of
    their words, or if no bytes were scored."""
    unknown: int
    """Tokens that are the unknown token."""
    seconds: float
    window: int | None = None
    """Tokens that were read at once; None: the state was carried, or each sentence read alone."""
    stride: int | None = None
    start: str | None = None
    """The special tokens that a tokenizer of transformers puts before a text."""
    cache_loss: float | None = None
    """The loss with the continuous cache, if one was asked for."""

    @property
    def perplexity(self) -> float:
        """exp of the loss."""
        return perplexity(self.loss)


class TensorChange(Message):
    """How much one tensor changed."""

    name: str
    change: float
    """L2 norm of the difference."""
    norm: float
    """L2 norm of the later tensor."""


class WeightChange(SamplerAnswer):
    """The answer to a weight change request."""

    tensors: tuple[TensorChange, ...]
    """By name."""


ANSWERS: tuple[type[SamplerAnswer], ...] = tuple(SamplerAnswer.__subclasses__())
