"""Kept samples: every sample of app and command line, in one file of JSON lines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import LATEST, counted, escaped_list
from rnnlm_tui.schema.sampling import SampleDone, SampleRequest
from rnnlm_tui.store.paths import samples_file
from rnnlm_tui.system.files import (
    free_aside_path,
    make_private_directory,
    open_private,
    storage_errors,
    write_bytes_atomically,
    write_whole,
)
from rnnlm_tui.system.locks import folder_lock

MAX_KEPT_SAMPLES = 10_000
"""Older samples are not found any more, and are dropped when the file is rewritten."""
_MAX_BYTES = 64 << 20
"""A longer file is cut to its newest samples when the next one is added."""
_BYTES_AFTER_CUT = 48 << 20

SampleExport = Literal["text", "jsonl", "markdown"]
SAMPLE_EXPORTS: tuple[SampleExport, ...] = get_args(SampleExport)
EXPORT_ENDINGS: dict[SampleExport, str] = {"text": ".txt", "jsonl": ".jsonl", "markdown": ".md"}
"""File name endings of the formats."""


class KeptSample(BaseModel):
    """A sample with what is needed to draw it again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(default_factory=lambda: os.urandom(5).hex(), min_length=1)
    time: float = Field(default_factory=time.time, ge=0, le=LATEST)
    """Unix seconds."""
    run: str
    step: int
    path: str
    """Absolute path of the checkpoint or snapshot directory."""
    prompt: str
    text: str
    """Everything after the prompt, without a final stop string."""
    ids: tuple[int, ...]
    """The tokens of `text`, those of a stop string included."""
    seed: int | None
    """None for a greedy sample."""
    settings: SamplingConfig
    tokens: int
    bits_per_token: float | None
    reason: str
    """`length`, `stop` or `cancelled`."""
    state: str = ""
    """Path of the kept state that the model started from; empty: the initial state."""

    @field_validator("settings", mode="before")
    @classmethod
    def _leave_out_settings_of_newer_versions(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {name: item for name, item in value.items() if name in SamplingConfig.model_fields}

    @classmethod
    def of(
        cls, request: SampleRequest, done: SampleDone, *, run: str, step: int, before: str = ""
    ) -> KeptSample:
        """Make the record of a finished or cancelled sample.

        Args:
            before: the text of the request's `ids`, if it continued a text.
        """
        settings, ids = request.settings, (*request.ids, *done.ids)
        seed = None if settings.is_greedy else (settings.seed + done.sample) % 2**63
        bits = done.bits_per_token
        return cls(
            run=run,
            step=step,
            path=request.checkpoint,
            prompt=request.prompt,
            text=before + done.text,
            ids=ids,
            seed=seed,
            settings=settings if seed is None else settings.model_copy(update={"seed": seed}),
            tokens=len(request.ids) + done.tokens,
            bits_per_token=bits if bits == bits else None,  # not NaN: no token was sampled
            reason=done.reason,
            state=request.state,
        )

    @property
    def title(self) -> str:
        """`plain-otter, step 3,700`."""
        return f"{self.run}, step {self.step:,}"

    @property
    def facts(self) -> tuple[str, ...]:
        """Settings that differ from "off", and figures: `temperature 0.8`, `seed 7`, …"""
        settings = self.settings
        parts = []
        if self.seed is None:
            parts.append("greedy")
        else:
            parts += [f"seed {self.seed}", f"temperature {settings.temperature:g}"]
            parts += [
                f"{name} {value:g}"
                for name, value, off in (
                    ("top-k", settings.top_k, 0),
                    ("top-p", settings.top_p, 1),
                    ("min-p", settings.min_p, 0),
                    ("typical-p", settings.typical_p, 1),
                )
                if value != off
            ]
        if settings.repetition_penalty != 1:
            window = settings.penalty_window
            over = f" over {counted(window, 'token')}" if window else ""
            parts.append(f"repetition penalty {settings.repetition_penalty:g}{over}")
        if settings.stop:
            parts.append(f"stop {escaped_list(settings.stop)}")
        if self.state:
            parts.append(f"state {Path(self.state).stem}")
        parts.append(counted(self.tokens, "token"))
        if self.bits_per_token is not None:
            parts.append(f"{self.bits_per_token:.1f} bits per token")
        if self.reason == "cancelled":
            parts.append("cancelled")
        return tuple(parts)

    @property
    def when(self) -> str:
        """Local time: `2026-11-25 13:56`."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time))


def append(sample: KeptSample) -> None:
    """Add a sample.

    Raises:
        StorageError: the file can't be written.
    """
    path, line = samples_file(), _line(sample)
    make_private_directory(path.parent)
    with folder_lock(path.parent):
        with storage_errors("write", path):
            descriptor = open_private(path, os.O_RDWR | os.O_APPEND)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a crash left half a line
                    line = b"\n" + line
                try:
                    write_whole(descriptor, line)
                except OSError:
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)
        if size + len(line) > _MAX_BYTES:
            entries, damaged = _read()
            _rewrite(_newest(entries, _BYTES_AFTER_CUT), damaged)


def search(query: str = "", run: str | None = None) -> list[KeptSample]:
    """Find samples, newest first, as `matching` does. Damaged lines are skipped.

    Raises:
        StorageError: the file can't be read.
    """
    return matching((sample for sample, _ in reversed(_read()[0])), query, run)


def matching(
    samples: Iterable[KeptSample], query: str = "", run: str | None = None
) -> list[KeptSample]:
    """Choose samples, in their order.

    Args:
        query: words that must all be in the prompt, the text or the run's name, in any case.
        run: only samples of the run with this name.
    """
    words = query.casefold().split()
    found = []
    for sample in samples:
        if run is None or sample.run == run:
            text = f"{sample.run}\n{sample.prompt}{sample.text}".casefold() if words else ""
            if all(word in text for word in words):
                found.append(sample)
    return found


def delete(ids: Iterable[str]) -> list[KeptSample]:
    """Remove samples and return those that were found, newest first.

    Raises:
        StorageError: the file can't be read or written.
    """
    wanted = set(ids)
    if not wanted or not samples_file().exists():
        return []
    with folder_lock(samples_file().parent):
        entries, damaged = _read()
        removed = [sample for sample, _ in entries if sample.id in wanted]
        if removed:
            _rewrite([entry for entry in entries if entry[0].id not in wanted], damaged)
    return removed[::-1]


def restore(samples: Iterable[KeptSample]) -> None:
    """Put deleted samples back in the place of their time; those still there are left alone.

    Raises:
        StorageError: the file can't be read or written.
    """
    make_private_directory(samples_file().parent)
    with folder_lock(samples_file().parent):
        entries, damaged = _read()
        there = {sample.id for sample, _ in entries}
        new = [(sample, _line(sample)) for sample in samples if sample.id not in there]
        if new:
            merged = sorted([*entries, *new], key=lambda entry: entry[0].time)
            _rewrite(_newest(merged, _MAX_BYTES), damaged)


def move_damaged_samples_aside() -> str:
    """Move damaged lines to another file and return a message about them; empty if all are
    valid."""
    if not samples_file().exists():
        return ""
    try:
        with folder_lock(samples_file().parent):
            entries, damaged = _read()
            aside = _rewrite(entries, damaged) if damaged else None
    except StorageError as error:
        return error.message
    if aside is None:
        return ""
    number = counted(len(damaged), "line")
    return f"{number} of the kept samples can't be read: kept as {aside.name}"


def export(samples: Sequence[KeptSample], format: SampleExport) -> str:
    """Format samples in the given order as text, as JSON lines as in the file, or as Markdown."""
    if format == "jsonl":
        return b"".join(map(_line, samples)).decode("ascii")
    if format == "markdown":
        return "\n".join(
            f"## {sample.title}, {sample.when}\n\n{', '.join(sample.facts)}\n\n"
            + (_fenced("Prompt", sample.prompt) + "\n" if sample.prompt else "")
            + _fenced("Text", sample.text)
            for sample in samples
        )
    return "\n".join(
        f"--- {sample.title}, {sample.when}\n--- {', '.join(sample.facts)}\n"
        f"{sample.prompt}{sample.text}\n"
        for sample in samples
    )


def _fenced(name: str, text: str) -> str:
    """A code block; its fence is longer than any row of backticks in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{name}:\n\n{fence}text\n{text}\n{fence}\n"


def _line(sample: KeptSample) -> bytes:
    """A sample as a line of the file, in ASCII."""
    return json.dumps(sample.model_dump(mode="json"), allow_nan=False).encode("ascii") + b"\n"


_Entry = tuple[KeptSample, bytes]
"""A sample and its line, which may hold fields of a newer version."""


def _read() -> tuple[list[_Entry], list[bytes]]:
    """The kept samples within the limits, oldest first, and the damaged lines.

    Raises:
        StorageError: the file can't be read.
    """
    path = samples_file()
    with storage_errors("read", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):  # the first write reports the latter
            return [], []
        with os.fdopen(descriptor, "rb") as file:
            # of a file that is far over the limit, only the end is read
            skipped = max(0, os.fstat(descriptor).st_size - 2 * _MAX_BYTES)
            file.seek(skipped)
            lines = file.read().split(b"\n")
    entries, damaged = [], []
    for line in filter(None, lines[1 if skipped else 0 :]):
        try:
            entries.append((KeptSample.model_validate_json(line), line + b"\n"))
        except ValidationError:
            damaged.append(line)
    return _newest(entries, _MAX_BYTES), damaged


def _newest(entries: list[_Entry], most_bytes: int) -> list[_Entry]:
    """The last entries within the limits of number and size, at least one."""
    kept = entries[-MAX_KEPT_SAMPLES:]
    size = sum(len(line) for _, line in kept)
    first = 0
    while size > most_bytes and first < len(kept) - 1:
        size -= len(kept[first][1])
        first += 1
    return kept[first:]


def _rewrite(entries: Iterable[_Entry], damaged: Sequence[bytes]) -> Path | None:
    """Replace the file, and return the path of the new one that has the damaged lines, if any.

    The caller holds the lock.
    """
    path = samples_file()
    aside = free_aside_path(path) if damaged else None
    if aside is not None:
        write_bytes_atomically(aside, b"\n".join([*damaged, b""]))
    write_bytes_atomically(path, b"".join(line for _, line in entries))
    return aside
