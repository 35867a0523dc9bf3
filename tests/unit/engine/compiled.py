"""Compile Triton kernels for GPUs that aren't here, for exactly the arguments of a launch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="Triton isn't installed")


@dataclass(frozen=True, slots=True)
class OtherGpu:
    """Triton's driver for a GPU that isn't here."""

    kind: str
    """`cuda` or `hip`."""
    name: int | str
    """Compute capability times 10, or AMD's name."""

    def get_current_device(self) -> str:
        """Key of Triton's cache of compiled kernels."""
        return f"{self.kind} {self.name}"

    def get_current_stream(self, _device: str) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget(self.kind, self.name, 64 if self.name == "gfx942" else 32)


Compiled = Callable[[OtherGpu, Callable[[], object]], list[Any]]
"""Compiles the kernels that a call with tensors of the CPU launches; returns them in the order of
the launches. Nothing runs, and the call's results are garbage."""


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    from triton.runtime import driver, jit

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compile_or_launch = jit.JITFunction.run

    def compile_for(gpu: OtherGpu, call: Callable[[], object]) -> list[Any]:
        found = []

        def launch(kernel: Any, *given: Any, grid: Any, warmup: bool, **named: Any) -> None:
            found.append(compile_or_launch(kernel, *given, grid=grid, warmup=True, **named))

        with monkeypatch.context() as patch:
            patch.setattr(driver, "_active", gpu)
            patch.setattr(jit.JITFunction, "run", launch)
            call()
        return found

    return compile_for
