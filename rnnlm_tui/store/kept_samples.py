"""Kept samples: every sample of app and command line, in one file of JSON lines."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rnnlm_tui.schema.config import FILTERS, SAMPLING_OFF, SamplingConfig
from rnnlm_tui.schema.formatting import LATEST, counted, escaped_list
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.sampling import SampleDone, SampleRequest
from rnnlm_tui.store.paths import samples_file
from rnnlm_tui.system.json_files import JsonLines, Line, json_line

MAX_KEPT_SAMPLES = 10_000
_MAX_BYTES = 64 << 20

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
        return {name: item for name, item in value.items() if name in fields_of(SamplingConfig)}

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
                f"{name.replace('_', '-')} {getattr(settings, name):g}"
                for name in FILTERS
                if getattr(settings, name) != SAMPLING_OFF[name]
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


def all_samples() -> JsonLines[KeptSample]:
    """The file of all kept samples."""
    return JsonLines(samples_file(), KeptSample, "kept samples", MAX_KEPT_SAMPLES, _MAX_BYTES)


def search(query: str = "", run: str | None = None) -> list[KeptSample]:
    """Find samples, newest first, as `matching` does. Damaged lines are skipped.

    Raises:
        StorageError: the file can't be read.
    """
    return matching(reversed(all_samples().read()), query, run)


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
    wanted, removed = set(ids), list[KeptSample]()

    def without(lines: list[Line[KeptSample]]) -> list[Line[KeptSample]]:
        removed.extend(line.value for line in reversed(lines) if line.value.id in wanted)
        return [line for line in lines if line.value.id not in wanted]

    if samples_file().exists():
        all_samples().change(without)
    return removed


def restore(deleted: Iterable[KeptSample]) -> None:
    """Put deleted samples back in the place of their time; those still there are left alone.

    Raises:
        StorageError: the file can't be read or written.
    """

    def merged(lines: list[Line[KeptSample]]) -> list[Line[KeptSample]]:
        there = {line.value.id for line in lines}
        new = [Line(one, json_line(one)) for one in deleted if one.id not in there]
        return sorted([*lines, *new], key=lambda line: line.value.time) if new else lines

    all_samples().change(merged)


def export(samples: Sequence[KeptSample], format: SampleExport) -> str:
    """Format samples in the given order as text, as JSON lines as in the file, or as Markdown."""
    if format == "jsonl":
        return b"".join(map(json_line, samples)).decode("ascii")
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
