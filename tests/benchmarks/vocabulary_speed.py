"""Tokens per second by the size of the vocabulary: `python -m tests.benchmarks.vocabulary_speed
[--cell elman] [--hidden 512] [--rounds 5] [--vocabularies 934 1000 …]`.

For each vocabulary: scoring a file and inspecting a text as a sampler does, with the tokenizer and
the weights laid out; and evaluating and training as a worker does, in float32. All on one thread,
in turns, of processor time, which other programs disturb less than wall time.

A large vocabulary needs more work for each token. The second table shows the time of a token over
its operations in matrix products: 2 H V of the head and 2 for each weight of the layers, three
times as many in training. That figure should hardly depend on the vocabulary; its last line is the
largest over the smallest, beside the bar. Other work, such as the tokenizer's, counts as time but
not as operations, so small models spread more.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from rnnlm_tui.corpus.tokenizers import EOS, PAD, BuiltTokenizer
from rnnlm_tui.engine.batches import StreamBatches, stream_evaluation
from rnnlm_tui.engine.checkpoint import load_model, write_model
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import Schedule
from rnnlm_tui.schema.sampling import (
    Inspection,
    InspectRequest,
    SamplerAnswer,
    SamplerRequest,
    ScoreDone,
    ScoreRequest,
)
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.worker.answers import Answers
from tests.benchmarks.command_line import options, say, temporary_home
from tests.unit.engine.builders import built_model

VOCABULARIES = (934, 1_000, 1_008, 1_024, 2_048, 32_011)
TOKENS, INSPECTED = 10_000, 2_000
"""Tokens of each measurement."""
STREAMS, WINDOW, STEPS = 32, 35, 2
"""Shape and number of the training steps of a measurement."""
MOST_SPREAD = 1.5
"""The bar."""

Work = Callable[[], int]
"""Something that takes time, and returns its number of tokens."""
_LETTERS = str.maketrans("0123456789", "abcdefghij")


def word(place: int) -> str:
    """A word of the tokenizer: letters alone, since it splits words at digits."""
    return f"w{str(place).translate(_LETTERS)}"


def tokenizer_files(folder: Path, vocab_size: int) -> None:
    """A tokenizer of this many types, whose words carry the space before them."""
    names = [PAD, EOS, *(f"\u0120{word(place)}" for place in range(vocab_size - 2))]
    tokenizer = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (PAD, EOS)])
    BuiltTokenizer(tokenizer, "bpe", PAD, EOS, None).save(folder, "\n")


def stored_model(vocab_size: int, cell: str, hidden: int) -> Path:
    """The checkpoint of an untrained model, in a run of its own."""
    model = built_model(
        vocab_size=vocab_size,
        embedding_dim=hidden,
        hidden_size=hidden,
        num_layers=2,
        cell_type=cell,
        tie_weights=True,
        pad_id=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        tokenizer_files(Path(folder), vocab_size)
        run = create_run(RunConfig(), f"otter-{vocab_size}")
        return write_checkpoint(
            run, 1, lambda into: write_model(into, model, Path(folder)), None, {}
        )


def works(
    vocab_size: int, cell: str, hidden: int, folder: Path
) -> tuple[RecurrentLanguageModel, dict[str, Work]]:
    """A model, and what is measured with it."""
    checkpoint = stored_model(vocab_size, cell, hidden)
    answers, model = Answers(), load_model(checkpoint)
    ids = np.random.default_rng(0).integers(2, vocab_size, TOKENS)
    words = [word(token - 2) for token in ids.tolist()]
    file = folder / f"{vocab_size}.txt"
    file.write_text(" ".join(words), encoding="utf-8")
    score = ScoreRequest(id="score", checkpoint=str(checkpoint), path=str(file))
    starts = count()

    def answer(request: SamplerRequest) -> SamplerAnswer:
        (found,) = answers.of(request, lambda: False)
        return found

    def scored() -> int:
        done = answer(score)
        assert isinstance(done, ScoreDone)
        return done.tokens

    def inspected() -> int:
        start = next(starts)  # another text each time, so that it is read
        prompt = " ".join(words[start : start + INSPECTED])
        done = answer(InspectRequest(id="inspect", checkpoint=str(checkpoint), prompt=prompt))
        assert isinstance(done, Inspection)
        return len(done.tokens)

    tokens = ids.astype(np.uint16)
    trainer = Trainer(
        load_model(checkpoint),
        StreamBatches(tokens, batch_size=STREAMS, bptt=WINDOW),
        max_steps=10**9,
        schedule=Schedule(1e-6),
    )
    return model, {
        "score": scored,
        "evaluation": lambda: evaluate(model, stream_evaluation(tokens)).tokens,
        "inspection": inspected,
        "training": lambda: sum(trainer.train_step().tokens for _ in range(STEPS)),
    }


def million_operations(model: RecurrentLanguageModel, kind: str) -> float:
    """Of the matrix products for one token."""
    weights = model.vocab_size * model.hidden_size
    weights += sum(weight.numel() for weight in model.layers.parameters())
    return 2e-6 * weights * (3 if kind == "training" else 1)


def microseconds(work: Work) -> float:
    """Processor time for each token."""
    began = time.process_time()
    tokens = work()
    return 1e6 * (time.process_time() - began) / tokens


def main() -> None:
    """Measure and print."""
    given = options(__doc__, cell="elman", hidden=512, rounds=5, vocabularies=list(VOCABULARIES))
    with temporary_home() as home:
        torch.set_num_threads(1)
        measured = {
            size: works(size, given.cell, given.hidden, home) for size in given.vocabularies
        }
        kinds = list(next(iter(measured.values()))[1])
        times: dict[tuple[int, str], list[float]] = {}
        for turn in range(1 + given.rounds):
            for size, (_, found) in measured.items():
                for kind, work in found.items():
                    spent = microseconds(work)
                    if turn:  # the first loads models and chooses kernels
                        times.setdefault((size, kind), []).append(spent)
    middle = {key: statistics.median(values) for key, values in times.items()}
    per_work = {
        (size, kind): middle[size, kind] / million_operations(measured[size][0], kind)
        for size, kind in middle
    }
    head = "".join(f"{kind:>12}" for kind in kinds)
    say(f"{given.cell} 2 x {given.hidden}, one thread\n\ntokens/s\nvocabulary{head}")
    for size in measured:
        say(f"{size:>10,}" + "".join(f"{1e6 / middle[size, kind]:>12,.0f}" for kind in kinds))
    say(
        "\nmicroseconds of a token for each million operations: 2 x (hidden size x vocabulary +"
        f" weights of the layers), in training three times as many\nvocabulary{head}"
    )
    for size in measured:
        say(f"{size:>10,}" + "".join(f"{per_work[size, kind]:>12.1f}" for kind in kinds))
    spreads = {}
    for kind in kinds:
        values = [per_work[size, kind] for size in measured]
        spreads[kind] = max(values) / min(values)
    say("   max/min" + "".join(f"{spreads[kind]:>11.2f}x" for kind in kinds))
    met = "met" if spreads["score"] <= MOST_SPREAD else "MISSED"
    say(f"\nscore: largest over smallest {spreads['score']:.2f}, at most {MOST_SPREAD:g}: {met}")


if __name__ == "__main__":
    main()
