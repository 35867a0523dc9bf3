"""The measured limits of a device."""

from __future__ import annotations

import torch

from rnnlm_tui.bench.baselines import memory_speed, multiplication_speeds, ways_to_multiply

CPU = torch.device("cpu")


def test_every_number_format_gets_a_speed_and_torchs_precision_is_restored() -> None:
    before = torch.get_float32_matmul_precision()
    speeds = multiplication_speeds(CPU, ((64, 32, 16), (8, 128, 64)), 0.01)
    assert tuple(speeds) == ways_to_multiply(CPU)
    assert all(speed > 0 for speed in speeds.values())
    assert torch.get_float32_matmul_precision() == before


def test_memory_has_a_memory_speed() -> None:
    assert memory_speed(CPU, 0.01) > 0


def test_exact_numbers_come_first() -> None:
    assert ways_to_multiply(CPU)[0] == "float32"
