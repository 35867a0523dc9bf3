"""Formatting and parsing numbers, and texts about a run's device."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.formatting import arithmetic, device_text, other_load_text, ranks_text
from rnnlm_tui.schema.metrics import RankReading
from rnnlm_tui.schema.summary import ModelFigures, RunSummary

WRITTEN: dict[Callable[[float], str], tuple[tuple[float, str], ...]] = {
    formatting.count: (
        (3751, "3,751"), (0, "0"),
    ),
    formatting.short: (
        (27_612, "27.6k"), (543_488, "543k"), (1_234_567, "1.2M"), (15_000, "15k"),
        (999_960, "1M"), (812, "812"), (9.96, "9.96"), (0, "0"), (1.201e36, "1.2e36"),
        (1.24e12, "1.2T"),
    ),
    formatting.flops: (
        (0, "0.00 MFLOP"), (2.34e9, "2.34 GFLOP"), (999.4e9, "999 GFLOP"),
        (999.6e9, "1.00 TFLOP"), (5.5e21, "5,500 EFLOP"),
    ),
    formatting.figure: (
        (2003.4, "2,003"), (443.2, "443"), (58.12, "58.1"), (3.934, "3.93"), (0.41, "0.41"),
        (8.1e-4, "8.1e-4"), (99.97, "100"), (9.996, "10.0"), (0, "0.00"), (3.2e9, "3.2e9"),
    ),
    formatting.scientific: (
        (4e-3, "4e-3"), (8.14e-4, "8.1e-4"), (0, "0"),
    ),
    formatting.percent: (
        (0.789, "79 %"), (0.999, "99 %"), (1, "100 %"),
    ),
    formatting.share: (
        (0.12, "12 %"), (0.002, "0.2 %"), (0.0094, "0.9 %"), (0.00004, "0.004 %"),
        (1e-9, "1e-7 %"), (0, "0 %"),
    ),
    formatting.change: (
        (-14.9, "−14.9"), (0.3, "+0.30"),
    ),
    formatting.duration: (
        (0, "0 s"), (0.42, "0.4 s"), (24, "24 s"), (59.7, "1 min 00 s"), (99, "1 min 39 s"),
        (7500, "2 h 05 min"), (273_600, "3 d 04 h"), (-3, "0 s"),
    ),
    formatting.about: (
        (125, "≈ 2 min 05 s"),
    ),
    formatting.age: (
        (3, "now"), (40, "40 s"), (301, "5 min"), (7300, "2 h"), (90_000, "1 d"), (1e300, "–"),
    ),
    formatting.gib: (
        (23 * 2**30, "23"),
    ),
    formatting.memory: (
        (0.6 * 2**30, "0.6 GiB"), (50 * 2**20, "50 MiB"),
    ),
    formatting.disk: (
        (39_200_000, "39 MB"), (212e9, "212 GB"), (1.24e12, "1.2 TB"), (12, "12 B"),
        (999_700, "1.0 MB"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITTEN)
def test_numbers_are_formatted(write: Callable[[float], str]) -> None:
    assert [write(value) for value, _ in WRITTEN[write]] == [text for _, text in WRITTEN[write]]


def test_figures_have_the_wanted_decimals() -> None:
    assert formatting.figure(1.201e36, 3) == "1.2e36"
    assert formatting.figure(1_234_567.8, 1) == "1,234,567.8"


def test_unknown_values_are_a_dash_and_infinity_a_sign() -> None:
    times = {formatting.duration, formatting.about, formatting.age}
    numbers: set[Callable[[float | None], str]] = {
        formatting.count, formatting.short, formatting.figure, formatting.scientific,
        formatting.percent, formatting.share, formatting.change, formatting.gib,
        formatting.memory, formatting.disk,
    }  # fmt: skip
    assert {write(value) for write in numbers | times for value in (None, math.nan)} == {"–"}
    assert {write(math.inf) for write in times} == {"–"}
    infinite = [
        write(math.inf) for write in (formatting.figure, formatting.short, formatting.count)
    ]
    assert infinite == ["∞"] * 3
    assert formatting.figure(-math.inf) == "−∞"


def test_a_count_has_its_plural() -> None:
    steps = [formatting.counted(number, "step") for number in (0, 1, 3_751)]
    assert steps == ["0 steps", "1 step", "3,751 steps"]
    corpora = [formatting.counted(number, "corpus", "corpora") for number in (1, 2)]
    assert corpora == ["1 corpus", "2 corpora"]


def test_a_long_list_is_shortened_with_a_count() -> None:
    found = [formatting.first_of(words, 2) for words in ("", "a", "ab", "abc")]
    assert found == ["", "a", "a, b", "a, b and 1 more"]


@pytest.mark.parametrize(
    ("bits", "unknown", "scored", "words"),
    [
        (1.537, None, None, "1.54 bits a byte"),
        (1.537, 0.0, 1.0, "1.54 bits a byte"),
        (1.537, 0.0004, 0.9998, "1.54 bits a byte, 0.04 % unknown"),
        (1.537, None, 0.539, "1.54 bits a byte of 54 % of the text"),
        (1.537, 0.0004, 0.539, "1.54 bits a byte of 54 % of the text, 0.04 % unknown"),
        (None, 0.042, 0.539, "no bits a byte: 4 % unknown"),
        (None, 0.413, None, "no bits a byte: 41 % unknown"),
        (None, 0.0, 0.0, f"no bits a byte: {formatting.TEXT_NOT_KEPT}"),
        (None, None, None, ""),
    ],
)
def test_bits_per_byte_are_shown_with_what_was_scored_and_unknown(
    bits: float | None, unknown: float | None, scored: float | None, words: str
) -> None:
    assert formatting.bits_per_byte_text(bits, unknown, scored) == words


@pytest.mark.parametrize(
    ("epoch", "epochs", "written"),
    [
        (6.312, 8.0, ("6.3", "8")),
        (1.8575, 1.8575, ("1.86", "1.86")),
        (0.5, 1.8575, ("0.50", "1.86")),
        (1.86, 1.5, ("1.5", "1.5")),
        (2.04, None, ("2.0", "")),
        # far below one epoch
        (0.0002314, 0.000463, ("0.00023", "0.00046")),
        (0.0, 0.000463, ("0.00000", "0.00046")),
        (0.000463, 0.000463, ("0.00046", "0.00046")),
        (0.004, 0.0096, ("0.0040", "0.0096")),
        (0.003, 0.01, ("0.00", "0.01")),
    ],
)
def test_the_epoch_never_exceeds_the_number_of_epochs_and_has_its_decimals(
    epoch: float, epochs: float | None, written: tuple[str, str]
) -> None:
    assert formatting.epoch_of(epoch, epochs) == written


SUMMARY = RunSummary(
    run="plain-otter",
    status="running",
    model=ModelFigures(cell_type="elman", num_layers=2, hidden_size=8, tie_weights=True),
)


@pytest.mark.parametrize(
    ("device", "precision", "matmul", "words"),
    [
        ("cpu, 2 threads", "float32", "medium", "cpu, 2 threads, bf16 matmul"),
        ("cpu, 2 threads", "float32", "float32", "cpu, 2 threads, float32"),
        ("cuda:0 NVIDIA H100", "float32", "medium", "cuda:0 NVIDIA H100, TF32 matmul"),
        ("cuda:0 NVIDIA H100", "bf16", "medium", "cuda:0 NVIDIA H100, bf16 matmul"),
        ("cuda:0 NVIDIA H100", "float32", "bf16", "cuda:0 NVIDIA H100, bf16 matmul"),
        ("cpu, 1 thread", None, None, "cpu, 1 thread"),
        (None, None, None, ""),
    ],
)
def test_the_device_text_includes_the_arithmetic(
    device: str | None, precision: str | None, matmul: str | None, words: str
) -> None:
    summary = SUMMARY.model_copy(
        update={"device": device, "precision": precision, "matmul": matmul}
    )
    assert device_text(summary) == words
    assert words.endswith(arithmetic(summary))


@pytest.mark.parametrize(
    ("devices", "hosts", "words"),
    [
        (["NVIDIA H100 80GB HBM3"] * 4, "aabb", "4 × H100 on 2 hosts"),
        (["NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 4090"], "aa", "1 × A100, 1 × RTX 4090"),
        (["", ""], "aa", "2 processes"),
        (["", "", ""], "abc", "3 processes on 3 hosts"),
        ([""], "a", ""),
    ],
)
def test_ranks_are_counted_by_card_and_host(devices: list[str], hosts: str, words: str) -> None:
    ranks = [
        RankReading(rank=rank, host=host, device=device)
        for rank, (device, host) in enumerate(zip(devices, hosts, strict=True))
    ]
    assert ranks_text(ranks) == words
    assert ranks_text(ranks, hosts=False) == words.partition(" on ")[0]


@pytest.mark.parametrize(
    ("held", "cores", "words"),
    [
        (1.0, 2, "other processes use 1.0 of 2 cores"),
        (0.5, 1, "other processes use 0.5 of 1 core"),
        (12.3, 64, "other processes use 12 of 64 cores"),
        (None, 2, ""),
        (1.0, None, ""),
    ],
)
def test_other_processes_are_described_if_they_slow_the_run(
    held: float | None, cores: int | None, words: str
) -> None:
    assert (
        other_load_text(SUMMARY.model_copy(update={"others_cores": held, "cores": cores})) == words
    )
