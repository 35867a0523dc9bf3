"""Tests that need a GPU: `python -m tests.gpu`, or `pytest -m gpu` for one file."""

from __future__ import annotations

import os

import pytest
import torch

DRY_RUN = "RNNLM_TESTS_GPU_DRY_RUN"
"""Environment variable: `1` runs the tests on the CPU, with small shapes."""
DRY = os.environ.get(DRY_RUN) == "1"
DEVICE = torch.device("cpu" if DRY else "cuda:0")
"""Where the tests compute."""

ON_DEVICE = [
    pytest.mark.gpu,
    pytest.mark.skipif(not DRY and not torch.cuda.is_available(), reason="no CUDA device here"),
]
"""Marks of every test here."""
NEEDS_GPU = pytest.mark.skipif(DRY, reason="a dry run has no GPU")
