"""A report of `bench` with round figures."""

from __future__ import annotations

from rnnlm_tui.bench.report import (
    BenchReport,
    ProcessFigures,
    SamplingFigures,
    Spread,
    TextFigures,
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
            first_loss=10.4,
            first_tokens=9_000,
            turns=13,
            steps=40,
            epoch_seconds=3_600 / times,
        )

    def sampling(name: str, times: float, same: bool | None) -> SamplingFigures:
        return SamplingFigures(
            name=name,
            threads=1,
            turns=13,
            tokens_per_second=around(100 * times),
            ratio=around(times),
            first_token_seconds=0.002,
            same_tokens=same,
        )

    def shared(processes: int, times: float) -> ProcessFigures:
        return ProcessFigures(
            name=f"{processes} processes",
            processes=processes,
            threads=2 // processes,
            turns=13,
            tokens_per_second=around(8_000 * times),
            ratio=around(times),
            efficiency=times,
            communication=around(0.25) if processes > 1 else None,
            gradient_bytes=33_000_000,
            sent_bytes=33_000_000,
        )

    return BenchReport(
        version="0.1",
        preset="book",
        seconds=20.0,
        others_cores=0.0,
        device="cpu, 2 threads",
        torch="2.13",
        data=TextFigures(
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
        training=(training("naive", 1, 2**31), training("engine", 4, 2**29)),
        sampling=(sampling("naive", 1, None), sampling("engine", 20, True)),
        processes=(shared(1, 1.0), shared(2, 0.9)),
        notes=("a remark",),
    )
