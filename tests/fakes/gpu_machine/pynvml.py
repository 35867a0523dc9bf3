"""NVML on a machine with an H100 and a driver for CUDA 12.4, for child processes that have this
folder on their path before the library itself."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).parent)
_spec = PathFinder.find_spec("pynvml", [place for place in sys.path if place != _HERE])
assert _spec is not None
assert _spec.loader is not None
_library: Any = module_from_spec(_spec)
_spec.loader.exec_module(_library)
sys.modules["pynvml"] = _library  # the fake builds on the library

from rnnlm_tui.system import gpu  # noqa: E402
from tests.fakes.nvml import FakeNvml, Recording, plain_card  # noqa: E402

vars(gpu)["pynvml"] = sys.modules["pynvml"] = FakeNvml(Recording((plain_card(),)))  # type: ignore[assignment]
