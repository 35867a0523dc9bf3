"""The verb `score`: how well a checkpoint's model predicts texts."""

from __future__ import annotations

import math
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from rnnlm_tui.cli.options import (
    JsonOption,
    SampledArgument,
    SamplerDeviceOption,
    arg,
    opt,
    sampler_for,
    split_address,
    weights_name,
    weights_step,
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
from rnnlm_tui.errors import InputError, RnnlmError, WorkerError
from rnnlm_tui.schema.formatting import (
    NOTHING,
    TEXT_NOT_KEPT,
    count,
    counted,
    figure,
    scored_part_text,
    scored_share_text,
    share,
    unknown_share_text,
)
from rnnlm_tui.schema.metrics import scored_share
from rnnlm_tui.system.files import storage_errors

if TYPE_CHECKING:
    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.schema.sampling import InspectedToken, ScoreDone

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
    files: Annotated[
        list[str], arg("FILE...", "UTF-8 texts of any length; - reads standard input.")
    ],
    tokens: Annotated[
        bool,
        opt("--tokens", "Print a line for each token: its bits, a tab, and its text with escapes."),
    ] = False,
    device: SamplerDeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Score texts: perplexity, bits per byte, unknown tokens.

    Perplexities compare models with the same tokenizer, bits per byte all models that score the
    same share of a text.
    """
    import asyncio

    from rnnlm_tui.client.control import weights_path

    if files.count(DASH) > 1:
        raise InputError("standard input can be read once", hint="name - once")
    directory, which = split_address(run)
    checkpoint = str(weights_path(directory, which))
    step = weights_step(checkpoint)
    label = f"@now, step {step:,}" if which == "now" else f"@{weights_name(checkpoint)}"
    label = f"{directory.name}{label}"
    lines = _TokenLines(json=json, named=len(files) > 1, on=tokens)
    scores, failures = asyncio.run(_score_all(checkpoint, files, lines, device))
    if len(files) == 1 and failures:
        raise failures[0]
    total = FileScore.total(scores)
    facts = {"run": directory.name, "checkpoint": step, "now": which == "now", "path": checkpoint}
    if tokens:
        for one in scores:
            note(f"{one.name}: {one.text}")
    elif json:
        rows = [facts | one.json() for one in scores]
        print_json(rows[0] if len(files) == 1 else {"files": rows, "total": facts | total.json()})
    elif scores:
        table(
            ("file", "perplexity", "bits/byte", "scored", "tokens", "unknown"),
            [one.cells() for one in (*scores, *([total] if len(scores) > 1 else []))],
            right=(1, 2, 3, 4, 5),
        )
    for one in scores if not json and not tokens else ():
        if one.done.tokens and not one.done.scored_bytes:
            note(f"{one.name}: no bits per byte, because {TEXT_NOT_KEPT}")
        elif one.done.bits_per_byte is None and one.done.unknown:
            note(
                f"{one.name}: no bits per byte, because {unknown_share_text(one.unknown_share)}:"
                " the bytes of an unknown token can't be counted"
            )
    if scores and not json:
        note(f"{counted(total.done.tokens, 'token')}, {total.speed}from {label}")
    if failures:
        raise typer.Exit(failures[0].exit_code)


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
        done = ScoreDone(
            id="total",
            loss=nats / tokens if tokens else math.nan,
            tokens=tokens,
            bytes=sum(part.bytes for part in parts),
            scored_bytes=size,
            bits_per_byte=nats / math.log(2) / size if known else None,
            unknown=sum(part.unknown for part in parts),
            seconds=sum(part.seconds for part in parts),
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
    def speed(self) -> str:
        """`12,000 tok/s, `, empty if it wasn't measured."""
        return (
            f"{self.done.tokens / self.done.seconds:,.0f} tok/s, " if self.done.seconds > 0 else ""
        )

    @property
    def text(self) -> str:
        """`perplexity 41.2, 1.543 bits per byte, 3,000 tokens`."""
        parts = [f"perplexity {figure(self.done.perplexity)}"]
        if self.done.bits_per_byte is not None:
            scored = scored_part_text(self.scored_share)
            words = f"{figure(self.done.bits_per_byte, 3)} bits per byte"
            parts.append(f"{words} of {scored}" if scored else words)
        parts += [counted(self.done.tokens, "token"), unknown_share_text(self.unknown_share)]
        return ", ".join(filter(None, parts))

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        unknown = (
            f"{count(self.done.unknown)} ({share(self.unknown_share)})"
            if self.done.unknown
            else "0"
        )
        return (
            self.name,
            figure(self.done.perplexity),
            NOTHING if self.done.bits_per_byte is None else figure(self.done.bits_per_byte, 3),
            scored_share_text(self.scored_share),
            count(self.done.tokens),
            unknown,
        )

    def json(self) -> dict[str, object]:
        """The figures at full precision."""
        figures = self.done.model_dump(exclude={"kind", "id"})
        return {"file": self.name, "perplexity": self.done.perplexity, **figures}


class _TokenLines:
    """Prints a line for each token, as tab-separated values or as JSON.

    Args:
        named: add the name of the file to each line.
        on: whether to print tokens at all.
    """

    def __init__(self, *, json: bool, named: bool, on: bool) -> None:
        self.on = on
        self.json = json
        self._named = named

    def write(self, name: str, tokens: Sequence[InspectedToken]) -> None:
        """Print some tokens, at once."""
        row = self._object if self.json else self._values
        sys.stdout.write("".join(f"{row(name, token)}\n" for token in tokens))
        sys.stdout.flush()

    def _values(self, name: str, token: InspectedToken) -> str:
        bits = "" if token.bits is None else f"{token.bits:.{TOKEN_DIGITS}f}"
        cells = [bits, token.text.translate(_ESCAPES), *([name] if self._named else [])]
        return shown("\t".join(cells))

    def _object(self, name: str, token: InspectedToken) -> str:
        return json_text(
            {
                "file": name,
                "id": token.token,
                "text": token.text,
                "bits": token.bits,
            }
        )


async def _score_all(
    checkpoint: str, files: Sequence[str], lines: _TokenLines, device: str
) -> tuple[list[FileScore], list[RnnlmError]]:
    """Score the files one after another. Of several, one that fails is reported at once."""
    client = sampler_for(checkpoint, device)
    scores, failures = list[FileScore](), list[RnnlmError]()
    try:
        await client.load(checkpoint)  # an unusable checkpoint is not a problem of each file
        for file in files:
            name = STANDARD_INPUT if file == DASH else file
            try:
                with readable(file) as path:
                    scores.append(await _score(client, checkpoint, name, path, lines))
            except RnnlmError as error:
                failures.append(error)
                if len(files) > 1:
                    print_error(error)
    finally:
        await client.close()
    return scores, failures


async def _score(
    client: SamplerClient, checkpoint: str, name: str, path: Path, lines: _TokenLines
) -> FileScore:
    from rnnlm_tui.schema.sampling import ScoreDone, ScorePiece, ScoreRequest

    progress = ProgressLine()
    request = ScoreRequest(id="score", checkpoint=checkpoint, path=str(path), tokens=lines.on)
    try:
        async for part in client.score(request):
            if isinstance(part, ScoreDone):
                return FileScore(name, part)
            if isinstance(part, ScorePiece):
                progress.clear()
                lines.write(name, part.tokens)
            elif not lines.json:
                of = f" of {part.total:,}" if part.total else ""
                progress(f"{part.phase} {name}: {part.done:,}{of} tokens")
    except RnnlmError as error:  # about the file as it was named
        raise type(error)(error.message.replace(str(path), name), hint=error.hint) from error
    finally:
        progress.clear()
    raise WorkerError("the sampler exited before the text was scored")


@contextmanager
def readable(name: str) -> Iterator[Path]:
    """Yield a file that the sampler can read: standard input and pipes are copied to a temporary
    one.

    Raises:
        InputError: it is missing, a folder, empty, binary or can't be read.
        StorageError: there is no space for the copy.
    """
    if name == DASH:
        with _copied(STANDARD_INPUT, standard_input().buffer) as path:
            yield path
        return
    path = Path(name).absolute()
    with _reading(name):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{name} is a folder", hint="name the files in it")
        source = path.open("rb")  # also shows whether it may be read
    with source:
        if not stat.S_ISREG(found.st_mode):  # such as the /dev/fd/63 of a shell's <(command)
            with _copied(name, source) as copy:
                yield copy
            return
    _check_not_empty(name, found.st_size)
    yield path


@contextmanager
def _copied(name: str, source: BinaryIO) -> Iterator[Path]:
    folder = Path(tempfile.gettempdir())
    with ExitStack() as stack:
        with storage_errors("write to", folder):
            copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="rnnlm-tui-"))
        size = 0
        while True:
            with _reading(name):
                part = source.read(COPIED_BYTES)
            if not part:
                break
            if (nul := part.find(b"\0")) >= 0:  # such as /dev/zero, which never ends
                raise InputError(
                    f"{name} is binary: NUL at byte {size + nul:,}", hint="use UTF-8 text"
                )
            size += len(part)
            with storage_errors("write to", folder):
                copy.write(part)
                copy.flush()
        _check_not_empty(name, size)
        yield Path(copy.name)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None


def _check_not_empty(name: str, size: int) -> None:
    if not size:
        raise InputError(f"{name} is empty: there is nothing to score")
