"""The verb `score`: how well a checkpoint's model predicts texts."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
from rnnlm_tui.schema.metrics import perplexity, scored_share
from rnnlm_tui.system.files import storage_errors

if TYPE_CHECKING:
    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.sampling import InspectedToken, ScoreDone, ScoreRequest

    WriteTokens = Callable[[str, Sequence[InspectedToken]], None]

DASH = "-"
"""Names standard input."""
COPIED_BYTES = 1 << 20
"""Standard input is copied in parts of this size."""
TOKEN_DIGITS = 4
"""Decimals of a token's bits."""
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
        "--model DIR", "In place of RUN: score with the causal model in this folder.", None
    ),
    window: int | None = opt(
        "--window N", "With --model: tokens read at once (default: its context, up to 1,024).", None
    ),
    stride: int | None = opt(
        "--stride N", "With --model: tokens from window to window (default: half of one).", None
    ),
    allow_code: bool = flag("--allow-code", "With --model: run the code in its folder."),
    cache: int = opt("--cache N", "Add a continuous cache of the last N tokens; 0: none.", 0),
    cache_theta: float = opt(
        "--cache-theta X", "How much more similar states count in the cache.", 0.3
    ),
    cache_lambda: float = opt("--cache-lambda X", "Share of the cache in the probability.", 0.1),
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

    files, reading = files or [], {"window": window, "stride": stride, "allow_code": allow_code}
    if model is None:
        if any(reading.values()):
            raise InputError("--window, --stride and --allow-code need --model")
        directory, which = split_address(run)
        path = str(client.control.weights_path(directory, which))
        name, facts = weights_label(directory.name, path), weights_facts(directory.name, path)
    else:
        if run != DASH and not Path(run).exists():
            with suppress(UnknownRunError):
                check_exclusive(RUN=split_address(run), model=model)
        files = [run, *files]
        path, name = str(user_path(model).absolute()), user_path(model).resolve().name
        facts = dict.fromkeys(("run", "checkpoint", "now", "path", "model", "window", "stride"))
        facts |= {"now": False, "path": path, "model": name}
    if not files:
        raise InputError("missing argument 'FILE...'.", hint="see `rnnlm-tui score --help`")
    if files.count(DASH) > 1:
        raise InputError("standard input can be read once", hint="name - once")
    cached = {"cache": cache, "cache_theta": cache_theta, "cache_lambda": cache_lambda}
    folder = None if model is None else reading
    request = _request(checkpoint=path, tokens=tokens, folder=folder, **cached)
    write = partial(_write_tokens, json=json, named=len(files) > 1) if tokens else None
    scores, failures = asyncio.run(_score_all(request, files, write, device))
    if len(files) == 1 and failures:
        raise failures[0]
    total = FileScore.total(scores)
    if tokens:
        for one in scores:
            note(f"{one.name}: {one.text}")
    elif json:
        rows = [facts | one.json() for one in scores]
        print_json(rows[0] if len(files) == 1 else {"files": rows, "total": facts | total.json()})
    elif scores:
        with_cache = (">with cache",) if cache else ()
        table(
            ("file", ">perplexity", *with_cache, ">bits/byte", ">scored", ">tokens", ">unknown"),
            [one.cells() for one in (*scores, *([total] if len(scores) > 1 else []))],
        )
        for one in scores:
            if one.without_bits:
                note(f"{one.name}: no bits per byte, because {one.without_bits}")
    if scores and not json:
        how = "" if model is None else f", {scores[0].windows}"
        note(f"{counted(total.done.tokens, 'token')}, {total.speed}from {name}{how}")
    if failures:
        raise SystemExit(failures[0].exit_code)


def _request(**values: object) -> ScoreRequest:
    """The request to score a text, whose path isn't known yet.

    Raises:
        InputError: an option is out of range.
    """
    from pydantic import ValidationError

    from rnnlm_tui.schema.sampling import ScoreRequest

    try:
        return ScoreRequest.model_validate({"id": "score", "path": "", **values})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        option = str(problem["loc"][-1]).replace("_", "-")
        allowed = problem["msg"].replace("Input should", "must")
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
    def windows(self) -> str:
        """How the model in a folder read the text."""
        if self.done.window is None:
            return "read as its run reads"
        start = self.done.start or "none, so the first token isn't scored"
        return f"window {self.done.window:,}, stride {self.done.stride:,}, BOS {start}"

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
        words = f"perplexity {figure(self.done.perplexity)}"
        if self.done.cache_loss is not None:
            words += f" ({figure(perplexity(self.done.cache_loss))} with the cache)"
        return ", ".join(filter(None, (words, counted(self.done.tokens, "token"), bits)))

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        unknown = f" ({share(self.unknown_share)})" if self.done.unknown else ""
        cached = () if self.done.cache_loss is None else (figure(perplexity(self.done.cache_loss)),)
        return (
            self.name,
            figure(self.done.perplexity),
            *cached,
            figure(self.done.bits_per_byte, 3),
            scored_share_text(self.scored_share),
            count(self.done.tokens),
            count(self.done.unknown) + unknown,
        )

    def json(self) -> dict[str, object]:
        """The figures at full precision; those of windows and of a cache where there are some."""
        figures = self.done.model_dump(exclude={"id"}, exclude_none=True)
        if self.done.cache_loss is not None:
            figures["cache_perplexity"] = perplexity(self.done.cache_loss)
        always = {"file": self.name, "perplexity": self.done.perplexity, "bits_per_byte": None}
        return always | figures


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
    request: ScoreRequest, files: Sequence[str], write: WriteTokens | None, device: str
) -> tuple[list[FileScore], list[RnnlmError]]:
    """Score the files one after another. Of several, one that fails is reported at once."""
    scores, failures = list[FileScore](), list[RnnlmError]()
    async with sampler_for(request.checkpoint, device) as sampler:
        # an unusable checkpoint is not a problem of each file
        await sampler.load(request.checkpoint, request.folder)
        for file in files:
            name = STANDARD_INPUT if file == DASH else file
            try:
                with readable(file) as path:
                    scores.append(await _score(sampler, request, name, path, write))
            except RnnlmError as error:
                failures.append(error)
                if len(files) > 1:
                    print_error(error)
    return scores, failures


async def _score(
    client: SamplerClient, request: ScoreRequest, name: str, path: Path, write: WriteTokens | None
) -> FileScore:
    from rnnlm_tui.schema.sampling import ScoreDone, ScorePiece

    request = request.model_copy(update={"path": str(path)})
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
