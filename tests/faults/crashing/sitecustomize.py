"""Loaded by each Python process that has this folder on its PYTHONPATH: installs a crash point."""

import os
import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "crash_points.py"))["install"](
    os.environ["RNNLM_TESTS_CRASH_POINT"]
)
