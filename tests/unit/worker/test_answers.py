"""Answers of a sampler: caches, memory, and requests that can't be done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.engine import generation, inspection
from rnnlm_tui.engine.checkpoint import write_model
from rnnlm_tui.engine.inspection import Trace
from rnnlm_tui.errors import CheckpointError, DeviceError, InputError, RunStateError, StorageError
from rnnlm_tui.schema.config import (
    CorpusConfig,
    RunConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.sampling import (
    Alternatives,
    AlternativesRequest,
    InspectRequest,
    LoadRequest,
    SampleDone,
    SamplerAnswer,
    SampleRequest,
    SamplerReady,
    SamplerRequest,
)
from rnnlm_tui.store.checkpoints import write_snapshot
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.worker import models, texts
from rnnlm_tui.worker.answers import Answers
from tests.unit.engine.builders import built_model


@pytest.fixture
def answers() -> Iterator[Answers]:
    threads = torch.get_num_threads()
    yield Answers()
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(RunConfig(), "plain-otter")


def snapshot(run: RunDirectory, step: int = 1) -> Path:
    """A snapshot of a tiny model on the words of a grammar."""
    corpus = prepare_corpus(
        CorpusConfig(source="elman", sentences=200),
        TokenizerConfig(kind="word", vocab_size=100),
        TrainingConfig(batch_size=2, bptt=5),
        run.path.parents[1] / "corpora",
        lambda _: None,
    )
    model = built_model(
        vocab_size=corpus.manifest.vocab_size,
        embedding_dim=8,
        hidden_size=8,
        num_layers=1,
        pad_id=corpus.manifest.pad_id,
        seed=step,
    )
    return write_snapshot(
        run,
        step,
        lambda folder: write_model(
            folder, model, corpus.path, generation={"rnnlm_data_mode": "stream"}
        ),
    )


def asked(checkpoint: Path, **changes: object) -> SampleRequest:
    return SampleRequest.model_validate(
        {
            "id": "a",
            "checkpoint": str(checkpoint),
            "prompt": "the boys",
            "settings": SamplingConfig(max_new_tokens=8),
            **changes,
        }
    )


def all_of(answers: Answers, request: SamplerRequest) -> list[SamplerAnswer]:
    return list(answers.of(request, lambda: False))


def test_going_along_a_text_reads_it_once(
    answers: Answers, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    trace = inspection.trace

    def counting(*arguments: object) -> Trace:
        reads.append(1)
        return trace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(texts, "trace", counting)
    of = {"id": "a", "checkpoint": str(snapshot(run)), "prompt": "the boys see the dog"}
    all_of(answers, InspectRequest.model_validate(of))
    for position in (1, 2, 3, 4, 5, 6):
        [found] = all_of(answers, AlternativesRequest.model_validate({**of, "position": position}))
        assert isinstance(found, Alternatives)
    assert len(reads) == 1
    all_of(answers, InspectRequest.model_validate({**of, "ids": (5,)}))
    assert len(reads) == 2


def test_a_continuation_reads_only_the_new_tokens(
    answers: Answers, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    read_text = generation.read_text

    def counting(model: object, ids: tuple[int, ...], start: object) -> object:
        lengths.append(len(ids))
        return read_text(model, ids, start)  # type: ignore[arg-type]

    monkeypatch.setattr(texts, "read_text", counting)
    checkpoint = snapshot(run)
    done = all_of(answers, asked(checkpoint))[-1]
    assert isinstance(done, SampleDone)
    all_of(answers, asked(checkpoint, ids=done.ids))
    all_of(answers, asked(checkpoint, ids=done.ids[:3]))
    all_of(answers, asked(checkpoint, prompt="the dog"))
    assert lengths == [3, 8, 3, 3]


def test_a_snapshot_stays_usable_while_it_is_loaded(answers: Answers, run: RunDirectory) -> None:
    first = snapshot(run)
    before = all_of(answers, asked(first))[-1]
    shutil.rmtree(first)
    again = all_of(answers, asked(first))[-1]
    assert isinstance(before, SampleDone)
    assert isinstance(again, SampleDone)
    assert again.ids == before.ids
    for step in range(2, 2 + models.KEPT_MODELS):
        all_of(answers, LoadRequest(id="l", checkpoint=str(snapshot(run, step))))
    with pytest.raises(CheckpointError, match="snapshot not found") as caught:
        all_of(answers, asked(first))
    assert "RUN@now" in caught.value.hint


def test_a_deleted_or_replaced_checkpoint_is_noticed(answers: Answers, run: RunDirectory) -> None:
    checkpoint = run.path / "checkpoints" / "copy"
    shutil.copytree(snapshot(run), checkpoint)
    first = all_of(answers, asked(checkpoint))[-1]
    shutil.rmtree(checkpoint)
    with pytest.raises(StorageError, match="not found"):
        all_of(answers, asked(checkpoint))
    shutil.copytree(snapshot(run, 2), checkpoint, copy_function=shutil.copy)
    second = all_of(answers, asked(checkpoint))[-1]
    assert isinstance(first, SampleDone)
    assert isinstance(second, SampleDone)
    assert first.ids != second.ids


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ],
)
def test_out_of_memory_frees_everything_and_is_explained(
    answers: Answers, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    checkpoint = snapshot(run)
    all_of(answers, asked(checkpoint))

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("rnnlm_tui.worker.answers.continue_text", fails)
        with pytest.raises(DeviceError, match="out of memory for 3 texts with a") as caught:
            all_of(answers, asked(checkpoint, count=3))
    assert "are free" in caught.value.message
    assert not answers._models._loaded
    assert not answers._reader._states
    assert isinstance(all_of(answers, asked(checkpoint))[-1], SampleDone)


def test_alternatives_that_no_line_could_hold_are_refused(
    answers: Answers, run: RunDirectory
) -> None:
    settings = SamplingConfig(max_new_tokens=100_000)
    with pytest.raises(InputError, match="3 alternatives for 100,000 tokens are too many"):
        all_of(answers, asked(snapshot(run), alternatives=3, settings=settings))


def test_another_error_is_not_taken_for_a_lack_of_memory(
    answers: Answers, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("rnnlm_tui.worker.answers.continue_text", fails)
    with pytest.raises(RuntimeError, match="shapes"):
        all_of(answers, asked(snapshot(run)))


def test_a_request_that_was_cancelled_before_it_began_needs_no_checkpoint(answers: Answers) -> None:
    done = list(answers.of(asked(Path("/none"), count=2), lambda: True))
    assert [(one.sample, one.reason, one.text) for one in done if isinstance(one, SampleDone)] == [
        (0, "cancelled", ""),
        (1, "cancelled", ""),
    ]
    with pytest.raises(RunStateError, match="cancelled"):
        list(answers.of(LoadRequest(id="l", checkpoint="/none"), lambda: True))


def test_a_cancelled_inspection_ends_before_the_whole_text_is_scored(
    answers: Answers, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "WINDOW", 2)
    asked_about = {"id": "i", "checkpoint": str(snapshot(run)), "prompt": "the boys see the dog"}
    checks = iter([False, False, True])
    with pytest.raises(RunStateError, match="cancelled"):
        list(answers.of(InspectRequest.model_validate(asked_about), lambda: next(checks)))
    assert len(all_of(answers, InspectRequest.model_validate(asked_about))) == 1


def test_a_load_is_answered_with_the_device(answers: Answers, run: RunDirectory) -> None:
    [ready] = all_of(answers, LoadRequest(id="l", checkpoint=str(snapshot(run))))
    assert ready == SamplerReady(id="l", device="cpu")
