"""The sampling tasks of a `bench`: the engine's generator, and the naive way that reruns the whole text."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from rnnlm_tui.contract.bench import COMPARED_TOKENS, BenchTask, TaskReady, TurnDone, TurnRequest
from rnnlm_tui.corpus.token_store import load_prepared
from rnnlm_tui.engine.baselines import NaiveModel, naive_continuation
from rnnlm_tui.engine.generate import generate, lay_out_head
from rnnlm_tui.engine.memory import peak_bytes
from rnnlm_tui.errors import InputError
from rnnlm_tui.worker.bench_corpus import with_vocab_size
from rnnlm_tui.worker.building import build_model, set_up_torch

PROMPT_TOKENS = 4
"""From the start of the training text."""


class SamplingTask:
    """Continues the same prompt again and again."""

    def __init__(self, task: BenchTask) -> None:
        config = task.config
        self._device = set_up_torch(config)
        torch.set_float32_matmul_precision("highest")
        corpus = with_vocab_size(load_prepared(Path(task.folder)), task.vocab_size)
        model = build_model(config, corpus)
        if task.weights:
            model.load_state_dict(load_file(task.weights))
        self._settings = config.sampling
        self._prompt = [int(token) for token in corpus.tokens("train")[:PROMPT_TOKENS]]
        self._naive = NaiveModel(model).to(self._device).eval() if task.role == "naive sampling" else None
        self._model = model.to(self._device).eval()
        if self._naive is None:
            lay_out_head(self._model)  # as the sampler does when it loads a checkpoint

    def ready(self) -> TaskReady:
        """The first answer: how the task computes."""
        return TaskReady(threads=torch.get_num_threads())

    def turn(self, request: TurnRequest) -> TurnDone:
        """Whole continuations until the time is up."""
        continuations, first_seconds = 0, 0.0
        ids: list[int] = []
        began = time.perf_counter()
        while continuations < request.least or time.perf_counter() - began < request.seconds:
            ids, seconds = self._continue(request.tokens)
            first_seconds = first_seconds or seconds
            continuations += 1
        spent = time.perf_counter() - began
        return TurnDone(
            steps=continuations,
            tokens=continuations * request.tokens,
            seconds=spent,
            peak_bytes=peak_bytes(self._device),
            first=first_seconds,
            ids=tuple(ids[:COMPARED_TOKENS]),
        )

    def save(self, path: str) -> BaseModel:
        """Refused.

        Raises:
            InputError: always.
        """
        raise InputError(f"a sampling task saves no weights in {path}")

    def _continue(self, tokens: int) -> tuple[list[int], float]:
        """One continuation of this many tokens, and the seconds to its first token."""
        settings = self._settings
        began = time.perf_counter()
        if self._naive is not None:
            options = {"temperature": settings.temperature, "greedy": settings.is_greedy}
            first = naive_continuation(self._naive, self._prompt, max_new_tokens=1, **options)  # type: ignore[arg-type]
            seconds = time.perf_counter() - began
            rest = naive_continuation(self._naive, [*self._prompt, *first], max_new_tokens=tokens - 1, **options)  # type: ignore[arg-type]
            return first + rest, seconds
        generated = generate(self._model, self._prompt, **{**settings.model_dump(exclude={"stop", "unknown"}), "max_new_tokens": tokens})
        ids = [next(generated).token]
        seconds = time.perf_counter() - began
        ids.extend(one.token for one in generated)
        return ids, seconds
