"""A report of `bench` with round figures."""

from __future__ import annotations

from rnnlm_tui.bench.report import (
    BenchData,
    BenchReport,
    MachineFigures,
    NeighbourFigures,
    SamplingFigures,
    Spread,
    TrainingFigures,
)


def around(value: float) -> Spread:
    return Spread(median=value, low=0.9 * value, high=1.1 * value)


def sample_report() -> BenchReport:
    def training(name: str, times: float, memory: int) -> TrainingFigures:
        return TrainingFigures(
            name=name,
            numbers="float32",
            threads=2,
            tokens_per_second=around(2_000 * times),
            ratio=around(times),
            ratio_to_library=around(times / 2),
            peak_bytes=memory,
            peak_share=memory / 2**31,
            gflops=50 * times,
            gemm_share=0.1 * times,
            first_loss=10.4,
            first_tokens=9_000,
            turns=13,
            steps=40,
            epoch_seconds=3_600 / times,
        )

    def sampling(name: str, times: float, same: bool | None) -> SamplingFigures:
        return SamplingFigures(
            name=name,
            greedy=same is not None,
            threads=1,
            turns=13,
            tokens_per_second=around(100 * times),
            ratio=around(times),
            first_token_seconds=0.002,
            bandwidth_share=0.04 * times,
            same_tokens=same,
        )

    return BenchReport(
        version="0.1",
        preset="book",
        seconds=20.0,
        others_cores=0.0,
        machine=MachineFigures(
            device="cpu, 2 threads",
            torch="2.13",
            threads=2,
            auto="medium",
            gflops={"float32": 437.0, "medium": 1_360.0},
            bandwidth=2e10,
            bandwidth_one=1e10,
        ),
        data=BenchData(
            title="a text",
            own=True,
            tokenizer="bpe",
            folder="/nowhere",
            corpus_vocab_size=32_011,
            vocab_size=32_011,
            tokens_per_step=2_800.0,
            used=0.76,
            steps_per_epoch=172_148,
        ),
        training=(training("naive", 1, 2**31), training("engine float32", 4, 2**29)),
        sampling=(sampling("naive", 1, None), sampling("engine, greedy", 20, True)),
        neighbour=NeighbourFigures(
            alone_default=around(8_000),
            alone_ours=around(8_100),
            beside_default=around(800),
            beside_ours=around(4_050),
            kept_default=around(0.1),
            kept_ours=around(0.5),
            alone_ratio=around(1.01),
        ),
        notes=("a remark",),
    )
