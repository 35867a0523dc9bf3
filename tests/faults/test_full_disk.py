"""A disk of 16 MB that fills under a run: it trains on, loses nothing, says why, and a new run is
refused with need and have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.small_disk import play, unavailable

pytestmark = pytest.mark.fault("the disk is full, fails or becomes read-only")


def test_a_run_on_a_full_disk_trains_on_loses_nothing_and_is_read_with_no_byte_free(
    tmp_path: Path,
) -> None:
    if why := unavailable():
        pytest.skip(f"no disk of its own for this test: {why}")
    play(tmp_path)
