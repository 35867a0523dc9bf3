"""The verb `score`: how well a checkpoint's model predicts texts."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rnnlm_tui import client
from rnnlm_tui.cli.options import (
    JsonOption,
    SampledArgument,
    SamplerDeviceOption,
    arg,
    check_exclusive,
    flag,
    opt,
    sampler_for,
    split_address,
    weights_facts,
    weights_label,
)
from rnnlm_tui.cli.output import (
    ProgressLine,
    json_text,
    note,
    print_error,
    print_json,
    shown,
    table,
)
from rnnlm_tui.cli.prompts import STANDARD_INPUT, standard_input
from rnnlm_tui.errors import InputError, RnnlmError, UnknownRunError, WorkerError
from rnnlm_tui.schema.formatting import (
    TEXT_NOT_KEPT,
    bits_per_byte_text,
    count,
    counted,
    figure,
    scored_share_text,
    share,
    unknown_share_text,
    user_path,
)
from rnnlm_tui.schema.metrics import perplexity as perplexity_of
from rnnlm_tui.schema.metrics import scored_share
from rnnlm_tui.system.files import storage_errors

if TYPE_CHECKING:
    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.protocol import Message
    from rnnlm_tui.schema.sampling import CacheSettings, FolderReading, InspectedToken, ScoreDone

    MessageT = TypeVar("MessageT", bound=Message)
    WriteTokens = Callable[[str, Sequence[InspectedToken]], None]

DASH = "-"
"""Names standard input."""
CACHE_THETA, CACHE_LAMBDA = 0.3, 0.1
"""Of a continuous cache."""
COPIED_BYTES = 1 << 20
"""Standard input is copied in parts of this size."""
TOKEN_DIGITS = 4
"""Decimals of a token's bits."""
_OPTIONS = {"size": "cache", "theta": "cache-theta", "weight": "cache-lambda"}
"""Options by the fields of `CacheSettings`."""
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029)
} | {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}
"""Characters that would break a line or act on a terminal, and how they are written."""


def score(
    run: SampledArgument,
    files: list[str] | None = arg(
        "FILE...", "UTF-8 texts of any length; - reads standard input.", default=None
    ),
    model: str | None = opt(
        "--model DIR",
        "Score with the causal model in this folder instead of a run's: score --model DIR FILE...",
        default=None,
    ),
    window: int | None = opt(
        "--window N",
        "With --model: tokens read at once (default: the model's context, up to 1,024).",
        default=None,
    ),
    stride: int | None = opt(
        "--stride N",
        "With --model: tokens from one window to the next (default: half a window).",
        default=None,
    ),
    allow_code: bool = flag("--allow-code", "With --model: run the code in its folder."),
    cache: int | None = opt(
        "--cache N", "Score with a continuous cache of the last N tokens, too.", default=None
    ),
    cache_theta: float = opt(
        "--cache-theta X", "How much more similar states count in the cache.", default=CACHE_THETA
    ),
    cache_lambda: float = opt(
        "--cache-lambda X", "Share of the cache in the probability.", default=CACHE_LAMBDA
    ),
    tokens: bool = flag(
        "--tokens", "Print a line for each token: its bits, a tab, and its text with escapes."
    ),
    device: SamplerDeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Score texts: perplexity, bits per byte, unknown tokens.

    Perplexities compare models with the same tokenizer, bits per byte all models that score the
    same share of a text.
    """
    import asyncio

    given = {"window": window, "stride": stride, "allow_code": allow_code or None}
    if model is None:
        scorer, files = _scorer_of_run(run, given), files or []
    else:
        scorer, files = _scorer_of_folder(model, run, given), [run, *(files or [])]
    if not files:
        raise InputError("missing argument 'FILE...'.", hint="see `rnnlm-tui score --help`")
    if files.count(DASH) > 1:
        raise InputError("standard input can be read once", hint="name - once")
    if cache is not None:
        scorer = replace(scorer, cache=_cache_settings(cache, cache_theta, cache_lambda))
    write = None
    if tokens:
        write = partial(_write_tokens, json=json, named=len(files) > 1)
    scores, failures = asyncio.run(_score_all(scorer, files, write, device))
    if len(files) == 1 and failures:
        raise failures[0]
    total = FileScore.total(scores)
    if tokens:
        for one in scores:
            note(f"{one.name}: {one.text}")
    elif json:
        rows = [scorer.facts | one.json(scorer) for one in (*scores, total)]
        print_json(rows[0] if len(files) == 1 else {"files": rows[:-1], "total": rows[-1]})
    elif scores:
        cached = (">with cache",) if scorer.cache is not None else ()
        table(
            ("file", ">perplexity", *cached, ">bits/byte", ">scored", ">tokens", ">unknown"),
            [one.cells() for one in (*scores, *([total] if len(scores) > 1 else []))],
        )
        for one in scores:
            if one.without_bits:
                note(f"{one.name}: no bits per byte, because {one.without_bits}")
    if scores and not json:
        words = f"{counted(total.done.tokens, 'token')}, {total.speed}from {scorer.name}"
        note(", ".join((words, *scorer.how(total.done))))
    if failures:
        raise SystemExit(failures[0].exit_code)


@dataclass(frozen=True, slots=True)
class Scorer:
    """What scores the texts: the weights of a run, or the model in a folder."""

    path: str
    name: str
    facts: dict[str, object]
    """Its keys of `--json`."""
    folder: FolderReading | None = None
    """None: the weights of a run."""
    cache: CacheSettings | None = None

    def how(self, done: ScoreDone) -> Iterator[str]:
        """How a text was read, as far as it isn't as by every run."""
        if done.window is not None:
            yield f"window {done.window:,}, stride {done.stride:,}"
            yield (
                f"{done.start} before the text"
                if done.start
                else "no token before the text, so its first isn't scored"
            )
        elif self.folder is not None:
            yield "read as its run reads"
        if self.cache is not None:
            words = f"theta {self.cache.theta:g}, lambda {self.cache.weight:g}"
            yield f"cache of {counted(self.cache.size, 'token')} ({words})"


def _scorer_of_run(run: str, given: Mapping[str, object]) -> Scorer:
    """
    Raises:
        InputError: an option that needs --model.
    """
    if names := [name for name, value in given.items() if value is not None]:
        option = names[0].replace("_", "-")
        raise InputError(f"--{option} needs --model", hint="score --model DIR FILE...")
    directory, which = split_address(run)
    path = str(client.control.weights_path(directory, which))
    return Scorer(path, weights_label(directory.name, path), weights_facts(directory.name, path))


def _scorer_of_folder(model: str, first: str, given: Mapping[str, object]) -> Scorer:
    """
    Args:
        first: the first argument, which must be a file.

    Raises:
        InputError: it is a run, or an option is out of range.
    """
    from rnnlm_tui.schema.sampling import FolderReading

    if first != DASH and not Path(first).exists():
        with suppress(UnknownRunError):
            split_address(first)
            check_exclusive(RUN=True, model=True)
    path = user_path(model).absolute()
    name = path.resolve().name
    facts = {"run": None, "checkpoint": None, "now": False, "path": str(path), "model": name}
    chosen = {name: value for name, value in given.items() if value is not None}
    return Scorer(str(path), name, facts, _in_range(FolderReading, chosen))


def _cache_settings(size: int, theta: float, weight: float) -> CacheSettings:
    from rnnlm_tui.schema.sampling import CacheSettings

    return _in_range(CacheSettings, {"size": size, "theta": theta, "weight": weight})


def _in_range(kind: type[MessageT], values: Mapping[str, object]) -> MessageT:
    """The values of some options together.

    Raises:
        InputError: one is out of range.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        allowed = problem["msg"].replace("Input should", "must")
        option = _OPTIONS.get(name, name)
        raise InputError(f"--{option} is {problem['input']}, {allowed}") from None


@dataclass(frozen=True, slots=True)
class FileScore:
    """The score of a text, or of several in total."""

    name: str
    done: ScoreDone

    @classmethod
    def total(cls, scores: Sequence[FileScore]) -> FileScore:
        """All tokens of several texts as those of one."""
        from rnnlm_tui.schema.sampling import ScoreDone

        parts = [one.done for one in scores]
        tokens = sum(part.tokens for part in parts)
        nats = math.fsum(part.loss * part.tokens for part in parts if part.tokens)
        size = sum(part.scored_bytes for part in parts)
        known = size and all(part.bits_per_byte is not None for part in parts)
        cached = [part.cache_loss * part.tokens for part in parts if part.cache_loss is not None]
        done = ScoreDone(
            id="total",
            loss=nats / tokens if tokens else math.nan,
            tokens=tokens,
            bytes=sum(part.bytes for part in parts),
            scored_bytes=size,
            bits_per_byte=nats / math.log(2) / size if known else None,
            unknown=sum(part.unknown for part in parts),
            seconds=sum(part.seconds for part in parts),
            window=parts[0].window if parts else None,
            stride=parts[0].stride if parts else None,
            start=parts[0].start if parts else "",
            cache_loss=math.fsum(cached) / tokens if cached else None,
        )
        return cls("total", done)

    @property
    def scored_share(self) -> float | None:
        """Share of the text's bytes that are predicted."""
        return scored_share(self.done.scored_bytes, self.done.bytes)

    @property
    def unknown_share(self) -> float:
        """Share of the tokens that are unknown."""
        return self.done.unknown / self.done.tokens if self.done.tokens else 0.0

    @property
    def without_bits(self) -> str:
        """Why there are no bits per byte; empty if there are, or no token was scored."""
        if self.done.tokens and not self.done.scored_bytes:
            return TEXT_NOT_KEPT
        if self.done.bits_per_byte is not None or not self.done.unknown:
            return ""
        unknown = unknown_share_text(self.unknown_share)
        return f"{unknown}: the bytes of an unknown token can't be counted"

    @property
    def speed(self) -> str:
        """`12,000 tok/s, `, empty if it wasn't measured."""
        return (
            f"{self.done.tokens / self.done.seconds:,.0f} tok/s, " if self.done.seconds > 0 else ""
        )

    @property
    def text(self) -> str:
        """`perplexity 41.2, 3,000 tokens, 1.543 bits per byte`."""
        bits = bits_per_byte_text(
            self.done.bits_per_byte,
            self.unknown_share,
            self.scored_share,
            digits=3,
            unit="bits per byte",
        )
        perplexity = f"perplexity {figure(self.done.perplexity)}"
        if self.done.cache_loss is not None:
            perplexity += f" ({figure(perplexity_of(self.done.cache_loss))} with the cache)"
        return ", ".join(filter(None, (perplexity, counted(self.done.tokens, "token"), bits)))

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        unknown = f" ({share(self.unknown_share)})" if self.done.unknown else ""
        cached = self.done.cache_loss
        return (
            self.name,
            figure(self.done.perplexity),
            *([] if cached is None else [figure(perplexity_of(cached))]),
            figure(self.done.bits_per_byte, 3),
            scored_share_text(self.scored_share),
            count(self.done.tokens),
            count(self.done.unknown) + unknown,
        )

    def json(self, scorer: Scorer) -> dict[str, object]:
        """The figures at full precision; those of windows and of a cache only with these."""
        done, reading = self.done, {"window", "stride", "start"}
        figures = done.model_dump(exclude={"id", "cache_loss", *reading})
        if scorer.folder is not None:
            figures |= done.model_dump(include=reading)
        if scorer.cache is not None and done.cache_loss is not None:
            settings, loss = scorer.cache, done.cache_loss
            bits = done.bits_per_byte
            figures["cache"] = {
                "size": settings.size,
                "theta": settings.theta,
                "lambda": settings.weight,
                "loss": loss,
                "perplexity": perplexity_of(loss),
                "bits_per_byte": bits if bits is None else bits * loss / done.loss,
            }
        return {"file": self.name, "perplexity": done.perplexity, **figures}


def _write_tokens(name: str, tokens: Sequence[InspectedToken], *, json: bool, named: bool) -> None:
    """Print a line for each token at once, as tab-separated values or as JSON.

    Args:
        named: add the name of the file to each line of values.
    """
    lines = []
    for token in tokens:
        if json:
            facts = {"file": name, "id": token.token, "text": token.text, "bits": token.bits}
            lines.append(json_text(facts))
        else:
            bits = "" if token.bits is None else f"{token.bits:.{TOKEN_DIGITS}f}"
            cells = (bits, token.text.translate(_ESCAPES), *([name] if named else []))
            lines.append(shown("\t".join(cells)))
    print(*lines, sep="\n", flush=True)


async def _score_all(
    scorer: Scorer, files: Sequence[str], write: WriteTokens | None, device: str
) -> tuple[list[FileScore], list[RnnlmError]]:
    """Score the files one after another. Of several, one that fails is reported at once."""
    scores, failures = list[FileScore](), list[RnnlmError]()
    async with sampler_for(scorer.path, device) as sampler:
        await sampler.load(
            scorer.path, scorer.folder
        )  # an unusable checkpoint is not a problem of each file
        for file in files:
            name = STANDARD_INPUT if file == DASH else file
            try:
                with readable(file) as path:
                    scores.append(await _score(sampler, scorer, name, path, write))
            except RnnlmError as error:
                failures.append(error)
                if len(files) > 1:
                    print_error(error)
    return scores, failures


async def _score(
    client: SamplerClient, scorer: Scorer, name: str, path: Path, write: WriteTokens | None
) -> FileScore:
    from rnnlm_tui.schema.sampling import ScoreDone, ScorePiece, ScoreRequest

    request = ScoreRequest(
        id="score",
        checkpoint=scorer.path,
        path=str(path),
        tokens=write is not None,
        folder=scorer.folder,
        cache=scorer.cache,
    )
    try:
        with ProgressLine() as progress:
            async for part in client.score(request):
                if isinstance(part, ScoreDone):
                    return FileScore(name, part)
                if isinstance(part, ScorePiece) and write is not None:
                    progress.clear()
                    write(name, part.tokens)
                elif not isinstance(part, ScorePiece):
                    of = f" of {part.total:,}" if part.total else ""
                    progress(f"{part.phase} {name}: {part.done:,}{of} tokens")
    except RnnlmError as error:  # about the file as it was named
        raise type(error)(error.message.replace(str(path), name), hint=error.hint) from error
    raise WorkerError("the sampler exited before the text was scored")


@contextmanager
def readable(name: str) -> Iterator[Path]:
    """Yield a file that the sampler can read: standard input and pipes are copied to a temporary
    one.

    Raises:
        InputError: it is missing, a folder, empty, binary or can't be read.
        StorageError: there is no space for the copy.
    """
    shown_name, folder = STANDARD_INPUT if name == DASH else name, Path(tempfile.gettempdir())
    path, source = Path(name).absolute(), None
    with ExitStack() as stack:
        try:
            if name == DASH:
                source = standard_input().buffer
            elif path.is_dir():
                raise InputError(f"{name} is a folder", hint="name the files in it")
            else:
                opened = stack.enter_context(path.open("rb"))  # shows whether it may be read
                # a pipe can be the /dev/fd/63 of a shell's <(command)
                source = None if path.is_file() else opened
            if source is not None:
                with storage_errors("write to", folder):
                    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="rnnlm-tui-"))
                path = Path(copy.name)
            while source is not None and (part := source.read(COPIED_BYTES)):
                if (nul := part.find(b"\0")) >= 0:  # such as /dev/zero, which never ends
                    raise InputError(
                        f"{shown_name} is binary: NUL at byte {copy.tell() + nul:,}",
                        hint="use UTF-8 text",
                    )
                with storage_errors("write to", folder):
                    copy.write(part)
                    copy.flush()
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"cannot read {shown_name}: {error.strerror or error}") from None
        if not size:
            raise InputError(f"{shown_name} is empty: there is nothing to score")
        yield path
