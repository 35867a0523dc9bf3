"""What sampling costs in the engine: `python -m tests.benchmarks.sampling_cost [--cell elman]
[--rounds 7]`.

Tokens per second of one text and of 8 at once, on one thread, for each vocabulary, hidden size and
kind of settings, in turns. The model is untrained, but its bias follows Zipf's law, so that top-p
has something to leave out. The figures are of processor time, which other programs disturb less
than wall time; their caches still do. `tests.benchmarks.app_sampling` measures the app's own path.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass

import torch

from rnnlm_tui.engine.generation import generate, lay_out_weights, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.token_sampling import SamplingRules

VOCABULARIES, HIDDEN_SIZES = (4_096, 32_011), (192, 650)
SETTINGS = {
    "plain": SamplingRules(),
    "T 0.8, top-p 0.95": SamplingRules(temperature=0.8, top_p=0.95),
    "T 0.8, top-k 50": SamplingRules(temperature=0.8, top_k=50),
    "T 0.8, min-p 0.05": SamplingRules(temperature=0.8, min_p=0.05),
    "typical-p 0.9": SamplingRules(typical_p=0.9),
    "all filters": SamplingRules(
        temperature=0.8,
        top_k=200,
        top_p=0.95,
        min_p=0.01,
        typical_p=0.9,
        repetition_penalty=1.1,
        penalty_window=200,
    ),
    "greedy": SamplingRules(greedy=True),
}
AT_ONCE = 8
SECONDS = 0.15
"""Processor time of one measurement."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens per second of processor time."""

    one: float
    many: float
    """All texts of a batch together."""

    @property
    def ratio(self) -> float:
        """What a batch makes of the same time."""
        return self.many / self.one


def costs(cell: str, vocab_size: int, hidden_size: int, rounds: int) -> dict[str, Cost]:
    """The medians of several rounds, for each kind of settings."""
    model = RecurrentLanguageModel(
        vocab_size=vocab_size,
        embedding_dim=hidden_size,
        hidden_size=hidden_size,
        num_layers=2,
        cell_type=cell,
        num_heads=2,
        tie_weights=True,
    ).eval()
    with torch.no_grad():
        model.output.bias.copy_(-torch.arange(1, 1 + vocab_size).float().log())
    lay_out_weights(model)
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in SETTINGS}
    for turn in range(rounds):
        for name, rules in SETTINGS.items():
            for speeds, count in zip(found[name], (1, AT_ONCE), strict=True):
                speeds.append(tokens_per_second(model, rules, count, turn))
    return {
        name: Cost(statistics.median(one), statistics.median(many))
        for name, (one, many) in found.items()
    }


def tokens_per_second(
    model: RecurrentLanguageModel, rules: SamplingRules, count: int, start: int
) -> float:
    """Of one measurement, without the first token."""
    texts = generate(
        model, read_text(model, [start, 1]), rules, max_new_tokens=1_000_000, count=count
    )
    next(texts)
    steps, began = 0, time.thread_time()
    while (spent := time.thread_time() - began) < SECONDS:
        next(texts)
        steps += 1
    return steps * count / spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", default="elman")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for vocab_size in VOCABULARIES:
        for hidden_size in HIDDEN_SIZES:
            print(f"\n{given.cell} 2 x {hidden_size}, vocabulary of {vocab_size:,}")  # noqa: T201
            for name, cost in costs(given.cell, vocab_size, hidden_size, given.rounds).items():
                print(  # noqa: T201
                    f"  {name:20} one {cost.one:>7,.0f} tokens/s   {AT_ONCE} at once"
                    f" {cost.many:>7,.0f}   ratio {cost.ratio:.2f}"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
