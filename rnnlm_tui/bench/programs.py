"""What a child process of `bench` does: prepare a corpus, train, sample.

Nothing is ever downloaded: a corpus that is missing here is replaced by a built-in one with as much
padding, and so is the news unless a run has prepared it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import load_file, save_file

from rnnlm_tui.bench.plain import PlainModel, PlainTraining, naive_continuation
from rnnlm_tui.bench.report import (
    COMPARED_TOKENS,
    SAMPLED_TOKENS,
    Kind,
    Numbers,
    Ready,
    TextFigures,
    Turn,
)
from rnnlm_tui.corpus.build import ProgressCallback
from rnnlm_tui.corpus.corpus import PreparedCorpus, load_prepared, prepare_corpus
from rnnlm_tui.corpus.news import NEWS
from rnnlm_tui.engine.batches import Batches
from rnnlm_tui.engine.device import describe, wait
from rnnlm_tui.engine.distributed import Order, Ranks
from rnnlm_tui.engine.generation import Generation, lay_out_weights, read_text
from rnnlm_tui.engine.matmul import Matmul, set_gpu_precision
from rnnlm_tui.engine.memory import peak_bytes
from rnnlm_tui.engine.token_sampling import PLAIN
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig
from rnnlm_tui.schema.estimates import parameter_count, positions_per_step
from rnnlm_tui.schema.formatting import memory, user_path
from rnnlm_tui.schema.reference import SENTENCES
from rnnlm_tui.store.corpora import find_corpus
from rnnlm_tui.store.paths import corpora_dir
from rnnlm_tui.system.machine import memory_available
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer, set_up_torch

REPLACEMENT_VOCABULARY = 1_536
"""BPE types with which the addresses' sentences, cut at 30 tokens, fill 76 % of the positions, as
in the book's corpus (measured).
"""
INCLUDED = ("presidents", "elman")
"""Sources available on every machine."""
COUNTED_BATCHES = 200
"""Batches from which the share of padding is measured."""
PROMPT_TOKENS = 4
"""From the start of the training text."""


def find_or_prepare(config: RunConfig, folder: Path, progress: ProgressCallback) -> TextFigures:
    """Find a prepared corpus on this machine or build one in the folder; the corpora folder is only
    read.

    Args:
        progress: called with phase and bytes while a corpus is built.

    Raises:
        RnnlmError: the text is missing or too short.
    """
    own = True
    manifest = find_corpus(config.corpus, config.tokenizer)
    if manifest is not None:
        prepared = load_prepared(corpora_dir() / manifest.hash[:16])
    else:
        own = _is_available(config)
        text = config if own else built_in_replacement(config)
        prepared = prepare_corpus(text.corpus, text.tokenizer, text.training, folder, progress)
    vocab_size = (
        prepared.manifest.vocab_size
        if own
        else max(prepared.manifest.vocab_size, config.tokenizer.vocab_size)
    )
    batches = build_batches(config, with_vocab_size(prepared, vocab_size))
    tokens, positions = _count(batches)
    counted = min(batches.steps_per_epoch, COUNTED_BATCHES)
    steps: int | None = batches.steps_per_epoch
    if not own:  # of a missing text only the news has a known length
        is_news = config.corpus.source == NEWS and config.training.data_mode == "sentences"
        steps = math.ceil(SENTENCES / config.training.batch_size) if is_news else None
    return TextFigures(
        title=prepared.manifest.title,
        own=own,
        tokenizer=prepared.manifest.tokenizer.kind,
        folder=str(prepared.path),
        corpus_vocab_size=prepared.manifest.vocab_size,
        vocab_size=vocab_size,
        tokens_per_step=tokens / counted,
        used=tokens / positions,
        steps_per_epoch=steps,
    )


def with_vocab_size(corpus: PreparedCorpus, vocab_size: int) -> PreparedCorpus:
    """The corpus with a larger vocabulary, most of which never occurs."""
    return replace(corpus, manifest=corpus.manifest.model_copy(update={"vocab_size": vocab_size}))


def built_in_replacement(config: RunConfig) -> RunConfig:
    """The config with a built-in text and a tokenizer of the same kind that fits the text."""
    theirs = config.tokenizer
    if theirs.kind in ("pretrained", "bpe"):
        tokenizer = TokenizerConfig(
            kind="bpe", vocab_size=REPLACEMENT_VOCABULARY, end_of_sentence=theirs.end_of_sentence
        )
    else:
        tokenizer = theirs
    corpus = CorpusConfig(
        source="presidents",
        mask_digits=config.corpus.mask_digits,
        lowercase=config.corpus.lowercase,
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
    if source == NEWS:  # to prepare it takes many minutes
        return False
    return source in INCLUDED or user_path(source).exists()


def _count(batches: Batches) -> tuple[int, int]:
    """Targets and positions of the first batches."""
    tokens = positions = 0
    for index in range(min(batches.steps_per_epoch, COUNTED_BATCHES)):
        batch = batches.batch(0, index)
        tokens, positions = tokens + batch.tokens, positions + batch.targets_BT.numel()
    return tokens, positions


class TrainingProgram:
    """Each turn continues training where the last one ended.

    Args:
        store: a file through which processes that share each batch find one another.
        rank: of this process among so many.
    """

    def __init__(
        self,
        kind: Kind,
        config: RunConfig,
        text: TextFigures,
        *,
        store: Path | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        # The plain ways get torch's defaults except for the threads: with the engine's, the ratio
        # isn't one of cores.
        self._device = set_up_torch(config, rank, processes)
        self._ranks: Ranks | None = None
        if processes > 1:
            found = torch.distributed.FileStore(str(store), processes)
            self._ranks = Ranks(rank, processes, found, self._device)
        corpus = with_vocab_size(load_prepared(Path(text.folder)), text.vocab_size)
        if kind != "engine":
            set_gpu_precision(self._device, rounded=False)
            check_memory(config, text.vocab_size, self._device)
        model = build_model(config, corpus)
        batches = build_batches(config, corpus)
        self._training: Trainer | PlainTraining
        if kind == "engine":
            self._model: torch.nn.Module = model.to(self._device)
            self._training = build_trainer(config, model, batches, ranks=self._ranks)
        else:
            plain = PlainModel(model, library=kind == "library").to(self._device)
            self._model, optimizer = plain, config.optimizer
            self._training = PlainTraining(
                plain,
                batches,
                algorithm=optimizer.algorithm,
                learning_rate=optimizer.learning_rate,
                max_grad_norm=optimizer.max_grad_norm,
                fused=kind == "library",
            )
        del model
        torch.manual_seed(config.training.seed)

    def ready(self) -> Ready:
        """How it computes."""
        training = self._training
        numbers: Numbers = "float32"
        if isinstance(training, Trainer):
            numbers = numbers_of(training.matmul, self._device)
        return Ready(describe(self._device), torch.__version__, torch.get_num_threads(), numbers)

    def turn(self, seconds: float, least: int = 1, *, adds_up: bool = True) -> Turn:
        """Whole steps until the time is up; waits for the device at the end. Of several processes,
        the first decides.

        Args:
            adds_up: the gradients of all processes; False: each uses its own, to see what adding
                them up takes.
        """
        ranks, training = self._ranks, self._training
        if ranks is None or not isinstance(training, Trainer):
            return self._steps(seconds, least)
        module = training.update.module or training.model
        with nullcontext() if adds_up else ranks.only_own(module):
            if ranks.leads:
                turn = self._steps(seconds, least)
                ranks.send_order(Order.END)
                return turn
            while (order := ranks.next_order())[0] == Order.STEP:
                training.follow_step(*order[1], seed=ranks.rank)
        wait(self._device)
        return Turn(0, 0, 0.0, peak_bytes(self._device), 0.0)

    def _steps(self, seconds: float, least: int) -> Turn:
        steps = counted = 0
        first: torch.Tensor | None = None
        wait(self._device)
        began = time.perf_counter()
        while steps < least or time.perf_counter() - began < seconds:
            result = self._training.train_step()
            trained, loss = result if isinstance(result, tuple) else (result.tokens, result.loss)
            first = loss if first is None else first
            steps, counted = steps + 1, counted + trained
        wait(self._device)
        spent = time.perf_counter() - began
        assert first is not None
        return Turn(steps, counted, spent, peak_bytes(self._device), float(first))

    def save(self, path: Path) -> None:
        """Write the weights by the engine's names; for the engine only."""
        weights = self._model.state_dict().items()
        save_file({name: one.detach().cpu().contiguous().clone() for name, one in weights}, path)


class SamplingProgram:
    """Continues the same prompt again and again.

    Args:
        weights: safetensors file; None: newly initialized.
        greedy: take the most likely token; False: plain sampling.
    """

    def __init__(
        self, kind: Kind, config: RunConfig, text: TextFigures, weights: Path | None, greedy: bool
    ) -> None:
        self._device = set_up_torch(config)
        torch.set_float32_matmul_precision("highest")
        corpus = with_vocab_size(load_prepared(Path(text.folder)), text.vocab_size)
        model = build_model(config, corpus)
        if weights is not None:
            model.load_state_dict(load_file(weights))
        self._prompt = [int(token) for token in corpus.tokens("train")[:PROMPT_TOKENS]]
        self._greedy = greedy
        self._naive: PlainModel | None = None
        if kind == "naive":
            self._naive = PlainModel(model, library=False).to(self._device).eval()
        else:
            self._model = model.to(self._device).eval()
            lay_out_weights(self._model)  # as the sampler does when it loads a checkpoint

    def ready(self) -> Ready:
        """How it computes."""
        return Ready(describe(self._device), torch.__version__, torch.get_num_threads(), "float32")

    def turn(self, seconds: float, least: int = 1, tokens: int = SAMPLED_TOKENS) -> Turn:
        """Whole continuations until the time is up."""
        done, first, ids = 0, 0.0, list[int]()
        began = time.perf_counter()
        while done < least or time.perf_counter() - began < seconds:
            ids, to_first = self._continue(tokens)
            first, done = first or to_first, done + 1
        spent = time.perf_counter() - began
        compared = tuple(ids[:COMPARED_TOKENS])
        return Turn(done, done * tokens, spent, peak_bytes(self._device), first, compared)

    def _continue(self, tokens: int) -> tuple[list[int], float]:
        """One continuation of this many tokens, and the seconds to its first token."""
        began = time.perf_counter()
        generated = self._generated(tokens)
        ids = [next(generated)]
        seconds = time.perf_counter() - began
        return [*ids, *generated], seconds

    def _generated(self, tokens: int) -> Iterator[int]:
        if self._naive is not None:
            return naive_continuation(
                self._naive, self._prompt, max_new_tokens=tokens, greedy=self._greedy
            )
        settings = PLAIN.model_copy(update={"greedy": self._greedy, "max_new_tokens": tokens})
        start = read_text(self._model, self._prompt)
        return (one.token for (one,) in Generation(self._model, start, settings))


PROGRAMS = {"training": TrainingProgram, "sampling": SamplingProgram}
"""What `bench.children` makes by name."""


def check_memory(config: RunConfig, vocab_size: int, device: torch.device) -> None:
    """Refuse if training with all logits at once doesn't fit in memory: the system would kill this
    process, or others.

    Raises:
        InputError: with need and have.
    """
    need = naive_memory_bytes(
        positions_per_step(config),
        vocab_size,
        parameter_count(config.model, vocab_size).total,
    )
    on_gpu = device.type == "cuda"
    free = int(torch.cuda.mem_get_info(device)[0]) if on_gpu else memory_available()
    if need > free:
        raise InputError(
            f"all logits at once need {memory(need)} of memory, {memory(free)} are free",
            hint="a preset with a smaller batch or vocabulary needs less",
        )


def naive_memory_bytes(positions: int, vocab_size: int, parameters: int) -> int:
    """Peak memory of training with all logits.

    In float32: logits, their logarithms and gradient (3.5 times the logits, measured), weights with
    gradient and moments, and torch itself.
    """
    return int(4 * (3.5 * positions * vocab_size + 4 * parameters)) + 400_000_000


def numbers_of(matmul: Matmul, device: torch.device) -> Numbers:
    """The number format of the head's products on a device, by the names of the report."""
    if matmul.numbers == "bf16":
        return "medium" if device.type == "cpu" else "bf16"
    return "tf32" if matmul.numbers == "TF32" else "float32"
