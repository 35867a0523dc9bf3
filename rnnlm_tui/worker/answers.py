"""Answers: what a sampler process answers to each request, with torch."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from rnnlm_tui.engine.device import is_out_of_memory, set_threads
from rnnlm_tui.engine.weight_change import changed_tensors
from rnnlm_tui.errors import DeviceError, RnnlmError, RunStateError
from rnnlm_tui.schema.formatting import counted, memory
from rnnlm_tui.schema.sampling import (
    AlternativesRequest,
    InspectRequest,
    KeepStateRequest,
    LoadRequest,
    ReachRequest,
    SampleDone,
    SamplerAnswer,
    SampleRequest,
    SamplerReady,
    SamplerRequest,
    ScoreProgress,
    ScoreRequest,
    StateKept,
    StatesRequest,
    TextRequest,
    WeightChange,
    WeightChangeRequest,
)
from rnnlm_tui.system.machine import memory_available
from rnnlm_tui.worker.causal_model import CausalModel, open_folder
from rnnlm_tui.worker.generation import continue_text
from rnnlm_tui.worker.inspection import alternatives, inspect, map_states, reach
from rnnlm_tui.worker.models import LoadedModel, ModelCache
from rnnlm_tui.worker.scoring import score_file
from rnnlm_tui.worker.states import keep_state
from rnnlm_tui.worker.texts import TextReader


class Answers:
    """Loads checkpoints on demand and answers requests about them, on one CPU thread: a training
    needs the rest.

    Args:
        device: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`.
    """

    def __init__(self, device: str = "cpu") -> None:
        set_threads(1)
        self._models, self._reader = ModelCache(device), TextReader()

    def of(
        self,
        request: SamplerRequest,
        is_cancelled: Callable[[], bool],
        report: Callable[[ScoreProgress], None] = lambda _: None,
    ) -> Iterator[SamplerAnswer]:
        """Yield the answers to a request as they are ready.

        Args:
            report: called with the progress of a score, between its answers.

        Raises:
            RnnlmError: the request can't be done. Out of memory: its models and texts are freed.
        """
        try:
            yield from self._of(request, is_cancelled, report)
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = self._out_of_memory(request)
        # Out of the except block, which keeps the tensors of all frames.
        self._reader.clear()
        self._models.clear()
        gc.collect()
        raise failure

    def _of(
        self,
        request: SamplerRequest,
        is_cancelled: Callable[[], bool],
        report: Callable[[ScoreProgress], None],
    ) -> Iterator[SamplerAnswer]:
        began = time.perf_counter()

        def check() -> None:
            if is_cancelled():
                raise RunStateError("cancelled")

        if isinstance(request, SampleRequest) and is_cancelled():
            for sample in range(request.count):
                yield SampleDone(id=request.id, sample=sample, reason="cancelled")
            return
        check()
        if isinstance(request, WeightChangeRequest):
            found = changed_tensors(Path(request.checkpoint), Path(request.before), check)
            yield WeightChange(id=request.id, tensors=tuple(found))
            return
        loaded: LoadedModel | CausalModel
        if request.folder is None:
            loaded = self._models.get(request.checkpoint)
        else:
            loaded = open_folder(Path(request.checkpoint), self._models.device, request.folder)
        if isinstance(request, LoadRequest):
            yield SamplerReady(id=request.id, device=str(self._models.device))
            return
        if isinstance(request, ScoreRequest):
            yield from score_file(loaded, request, check, report)
            return
        assert isinstance(request, TextRequest)
        assert isinstance(loaded, LoadedModel)
        reader, text = self._reader, self._reader.text(loaded, request, check)
        match request:
            case SampleRequest():
                yield from continue_text(reader, text, request, is_cancelled, began)
            case InspectRequest():
                yield inspect(reader, text, request)
            case AlternativesRequest():
                yield alternatives(reader, text, request)
            case StatesRequest():
                yield map_states(reader, text, request)
            case ReachRequest():
                yield reach(text, request)
            case KeepStateRequest():
                state = reader.state(text.upto(request.position))
                info = keep_state(
                    loaded, state, Path(request.path), run=request.run, note=request.note
                )
                yield StateKept(
                    id=request.id,
                    name=info.name,
                    path=request.path,
                    tokens=info.tokens,
                    unknown=text.unknown,
                )

    def _out_of_memory(self, request: SamplerRequest) -> RnnlmError:
        """Which memory ran out, with sizes."""
        try:
            device = self._models.device
        except DeviceError:  # out of memory while it was looked for
            device = torch.device("cpu")
        if device.type == "cuda":
            left, total = torch.cuda.mem_get_info(device)
            room = f"{memory(left)} of {memory(total)} are free on {device}"
            hint = "load it on the CPU: --device cpu"
        else:
            room = f"{memory(memory_available())} are free"
            hint = "use fewer samples, a shorter text or a smaller model, or end other programs"
        weights = Path(request.checkpoint) / "model.safetensors"
        size = f" of {memory(weights.stat().st_size)}" if weights.is_file() else ""
        texts = (
            f" for {counted(request.count, 'text')}" if isinstance(request, SampleRequest) else ""
        )
        return DeviceError(f"out of memory{texts} with a model{size}, {room}", hint=hint)
