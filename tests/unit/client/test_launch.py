"""Launch workers: session, priority, environment, and failures."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.client.control import (
    MATMUL_CACHES,
    NICENESS,
    NICENESS_VARIABLE,
    WORKER_SETTINGS,
    launch,
    training_settings,
)
from rnnlm_tui.errors import InputError, RunStateError, StorageError, WorkerError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.memory import COMPILED_BYTES, WORKER_BYTES, memory_parts, process_bytes
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.system.processes import child_environment


def weight_of(pid: int) -> tuple[int, str]:
    """Niceness of a process and of its session's autogroup on Linux."""
    group = Path(f"/proc/{pid}/autogroup")
    return os.getpriority(os.PRIO_PROCESS, pid), group.read_text().rpartition(" ")[
        2
    ].strip() if group.exists() else ""


@pytest.mark.parametrize("wanted", [None, 0, 12])
def test_workers_run_at_a_lower_priority_that_can_be_set(
    wanted: int | None, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NICENESS_VARIABLE)
    if wanted is not None:
        monkeypatch.setenv(NICENESS_VARIABLE, str(wanted))
    before = os.getpriority(os.PRIO_PROCESS, 0)
    niceness, of_session = weight_of(launch(run))
    expected = NICENESS if wanted is None else wanted
    assert niceness == max(before, expected)
    assert of_session in (str(expected), "")


@pytest.mark.parametrize("text", ["-1", "20", "1.5", "low", "٣", "9" * 5_000, "\x1b[31m"])
def test_an_invalid_niceness_is_refused_before_anything_starts(
    text: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NICENESS_VARIABLE, text)
    with pytest.raises(
        InputError, match=r"RNNLM_TUI_NICENESS is .*, must be a whole number from 0 to 19"
    ) as caught:
        launch(run)
    assert "\x1b" not in caught.value.message
    assert not run.log_path.exists()


@pytest.mark.parametrize(("users", "spins"), [(None, "1000"), ("7", "7")])
def test_spinning_of_torch_threads_is_limited_unless_the_user_says_otherwise(
    users: str | None, spins: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if users is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", users)
    launch(run)
    with RunReader(run) as reader:
        assert reader.attempts()[-1].environment == {"GOMP_SPINCOUNT": spins}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"training.data_mode": "sentences"}, True),
        ({"training.data_mode": "stream"}, False),
        ({"training.data_mode": "sentences", "tokenizer.vocab_size": 32_000}, False),
    ],
)
def test_only_small_models_on_sentences_keep_all_compiled_matmuls(
    changes: dict[str, object], kept: bool
) -> None:
    config = parse_config(merge(RunConfig(), changes))
    assert training_settings(config).keys() == WORKER_SETTINGS.keys() - set(
        MATMUL_CACHES if kept else ()
    )
    more = memory_parts(config, 2_000).process - process_bytes() - WORKER_BYTES
    assert more == (COMPILED_BYTES if kept else 0)


def test_children_have_no_place_among_the_ranks_of_a_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    left = {name for name in child_environment({}) if "RANK" in name or "MASTER" in name}
    assert not left | {name for name in child_environment({}) if name == "WORLD_SIZE"}


def test_children_number_gpus_as_the_driver_and_exact_mode_sets_the_workspaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    exact = parse_config(merge(RunConfig(), {"training.deterministic": True}))
    child = child_environment(training_settings(exact))
    assert child["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert child["CUBLAS_WORKSPACE_CONFIG"] == ":4096:2"
    assert "CUBLAS_WORKSPACE_CONFIG" not in child_environment(training_settings(RunConfig()))
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    child = child_environment(training_settings(exact))
    assert (child["CUDA_DEVICE_ORDER"], child["CUBLAS_WORKSPACE_CONFIG"]) == (
        "FASTEST_FIRST",
        ":16:8",
    )


def test_a_held_run_is_refused_with_pid_and_time(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.control.LEAVE_SECONDS", 0.0)
    with (
        RunLock(run.lock_path),
        pytest.raises(
            RunStateError, match=rf"plain-otter is running as pid {os.getpid()} since \d{{4}}-"
        ),
    ):
        launch(run)


def test_a_run_deleted_while_its_worker_starts_is_reported(
    run: RunDirectory, fake_worker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_worker("dies")
    started = subprocess.Popen

    def deleted_meanwhile(*arguments: Any, **more: Any) -> Any:
        process = started(*arguments, **more)
        delete_run(run)
        return process

    monkeypatch.setattr("subprocess.Popen", deleted_meanwhile)
    with pytest.raises(StorageError, match="plain-otter is gone: it was removed or moved"):
        launch(run)


def test_a_worker_that_fails_to_start_is_reported_with_its_output(
    run: RunDirectory, fake_worker: Callable[[str], None]
) -> None:
    run.log_path.write_text("words of an earlier life\n")
    fake_worker("dies")
    with pytest.raises(WorkerError, match="ImportError: libtorch is missing") as caught:
        launch(run)
    assert "earlier life" not in caught.value.message
    assert str(run.log_path) in caught.value.hint
    assert run.log_path.read_text().startswith("words of an earlier life\n")
