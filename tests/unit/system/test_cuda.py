"""Whether torch and the driver fit together, found out without torch."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pynvml
import pytest

from rnnlm_tui.system import cuda
from rnnlm_tui.system.cuda import (
    TorchBuild,
    broken_driver,
    gpu_problem,
    holder_words,
    installed_torch,
    is_exact_workspace,
    supports,
)
from rnnlm_tui.system.gpu import VISIBLE_VARIABLE
from tests.fakes.nvml import (
    GIB,
    NO_DRIVER,
    THIS_PROCESS,
    UPDATED_DRIVER,
    RecordedCard,
    Recording,
    plain_card,
    replay,
)
from tests.fakes.torch_build import install_torch_build

H100 = plain_card()
V100 = plain_card("Tesla V100", capability=(7, 0))


@pytest.mark.parametrize(
    ("version", "built_for", "newest", "card", "fact", "fix"),
    [
        ("2.13.0+cpu", None, 12040, H100, "built without CUDA", "pip install --force-reinstall"),
        ("2.13.0+cpu", None, 12040, H100, "driver 550.54.15, CUDA 12.4", "CUDA 12 or older"),
        ("2.13.0+cpu", None, 13000, V100, "Tesla V100", "13 or older and compute capability 7.0"),
        ("2.13.0", "13.0", 12040, H100, "too old for torch 2.13.0 (CUDA 13.0)", "update the"),
        ("2.13.0", "12.6", 11040, H100, "driver 550.54.15, CUDA 11.4", "or install a torch built"),
    ],
)
def test_a_torch_that_does_not_fit_the_driver_comes_with_versions_and_the_fix(
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    built_for: str | None,
    newest: int,
    card: RecordedCard,
    fact: str,
    fix: str,
) -> None:
    replay(monkeypatch, Recording((card,), cuda=newest))
    install_torch_build(monkeypatch, version, built_for)
    problem = gpu_problem()
    assert problem is not None
    assert fact in problem.fact
    assert fix in problem.fix


@pytest.mark.parametrize(("built_for", "newest"), [("12.6", 12000), ("12.9", 12040), ("13.0", 0)])
def test_later_minor_versions_run_on_a_driver_of_the_same_major_version(
    monkeypatch: pytest.MonkeyPatch, built_for: str, newest: int
) -> None:
    replay(monkeypatch, Recording((H100,), cuda=newest))
    install_torch_build(monkeypatch, "2.13.0", built_for)
    assert gpu_problem() is None


def test_no_problem_is_reported_without_a_driver_or_with_hidden_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_torch_build(monkeypatch, "2.13.0+cpu", None)
    replay(monkeypatch, NO_DRIVER)
    assert gpu_problem() is None
    replay(monkeypatch, Recording((H100,)))
    assert gpu_problem() is not None
    for hidden in ("", "-1"):
        monkeypatch.setenv(VISIBLE_VARIABLE, hidden)
        assert gpu_problem() is None


@pytest.mark.fault("the driver was updated without a restart, or isn't loaded")
def test_a_driver_that_was_updated_without_a_restart_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay(monkeypatch, UPDATED_DRIVER)
    problem = gpu_problem()
    assert problem is not None
    assert "the NVIDIA driver was updated" in problem.fact
    assert "restart" in problem.fix


def test_a_driver_that_is_not_loaded_is_a_problem_if_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replay(monkeypatch, Recording(init=pynvml.NVML_ERROR_DRIVER_NOT_LOADED))
    for name, vendor, kind in (("a", "0x8086", "0x030000"), ("b", "0x10de", "0x040300")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert broken_driver(tmp_path) is None  # an Intel GPU, and the sound of an NVIDIA one
    (tmp_path / "b" / "class").write_text("0x030200\n")
    problem = broken_driver(tmp_path)
    assert problem is not None
    assert "isn't loaded" in problem.fact
    assert broken_driver(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((7, 0), ["sm_75", "compute_90"], False),
        ((10, 0), ["sm_90a"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 0), ["sm_100", "sm_120"], True),
        ((10, 3), ["sm_100f"], True),
    ],
)
def test_code_runs_on_later_minor_versions_and_ptx_on_all_later_gpus(
    capability: tuple[int, int], architectures: list[str], runs: bool
) -> None:
    assert supports(capability, architectures) is runs


def test_the_installed_torch_is_read_without_importing_it() -> None:
    import torch

    build = installed_torch()
    assert build == TorchBuild(
        str(torch.__version__), torch.version.cuda, hip=torch.version.hip is not None
    )


@pytest.mark.parametrize(
    ("setting", "exact"),
    [
        (":4096:2", True),
        (":16:8", True),
        (":4096:8", True),
        (":4096:2:16:8", False),
        ("4096:2", False),
        (":0:0", False),
        ("", False),
    ],
)
def test_exact_mode_needs_workspaces_of_one_size(setting: str, exact: bool) -> None:
    assert is_exact_workspace(setting) is exact


def test_other_processes_on_a_gpu_are_named_with_their_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = plain_card(processes=[(THIS_PROCESS, 9 * GIB), (4194711, 2 * GIB), (4194712, 70 * GIB)])
    replay(monkeypatch, Recording((card,)))

    def process(pid: int) -> object:
        if pid == 4194711:
            raise psutil.NoSuchProcess(pid)
        return type("Process", (), {"username": lambda _self: "alex"})()

    monkeypatch.setattr(psutil, "Process", process)
    words = "pid 4194712 (alex) holds 70 GiB, pid 4194711 holds 2.0 GiB"
    assert holder_words(card.uuid) == holder_words(card.uuid.removeprefix("GPU-")) == words
    assert holder_words("GPU-none") == ""


def test_the_drivers_order_of_gpus_is_set_unless_the_user_chose_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(cuda.ORDER_VARIABLE, raising=False)
    cuda.use_driver_order()
    assert os.environ[cuda.ORDER_VARIABLE] == "PCI_BUS_ID"
    assert cuda.is_driver_order()
    monkeypatch.setenv(cuda.ORDER_VARIABLE, "FASTEST_FIRST")
    cuda.use_driver_order()
    assert not cuda.is_driver_order()
