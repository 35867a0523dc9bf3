"""Paths: the data home and what is in it, above all a run's folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from rnnlm_tui.errors import ConfigError, RunNameError, StorageError, UnknownCheckpointError
from rnnlm_tui.schema.formatting import counted, user_path
from rnnlm_tui.system.disk import filesystem_here, is_network
from rnnlm_tui.system.files import make_own_directory, storage_errors

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig


HOME_VARIABLE = "RNNLM_TUI_HOME"
"""Environment variable: the data home; empty counts as not set."""

SNAPSHOTS_NAME = "snapshots"
PARENT_NAME = "parent.json"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A valid name can't leave the runs folder, look like an option or be hidden."""
MAX_SOCKET_PATH_BYTES = 107
"""The kernel's field for a Unix socket's path has 108 bytes with its NUL (macOS: 104, which the
short path fits too)."""


def home() -> Path:
    """The data home: `RNNLM_TUI_HOME`, else the user's data directory for `rnnlm-tui`. Always
    absolute."""
    chosen = os.environ.get(HOME_VARIABLE, "")
    return user_path(chosen).absolute() if chosen else user_data_path("rnnlm-tui", appauthor=False)


def runs_dir() -> Path:
    """One folder for each run."""
    return home() / "runs"


def corpora_dir() -> Path:
    """One folder for each prepared corpus, named by its hash."""
    return home() / "corpora"


def trash_dir() -> Path:
    """Deleted runs, until they are purged."""
    return home() / "trash"


def states_dir() -> Path:
    """Kept recurrent states, one file each."""
    return home() / "states"


def state_file() -> Path:
    """The app's state between starts."""
    return home() / "app-state.json"


def queue_dir() -> Path:
    """The folder of the queue's file, lock and log."""
    return home() / "queue"


def queue_file() -> Path:
    """The runs that wait."""
    return queue_dir() / "queue.json"


def queue_lock() -> Path:
    """Held by the queue's process."""
    return queue_dir() / "queue.lock"


def queue_log() -> Path:
    """The output of the queue's process."""
    return queue_dir() / "queue.log"


def keymap_file() -> Path:
    """The user's key bindings for the app."""
    return home() / "keymap.toml"


def history_file() -> Path:
    """The prompt history, one JSON object per line."""
    return home() / "prompt-history.jsonl"


def samples_file() -> Path:
    """Everything sampled by app and command line, one JSON object per line."""
    return home() / "samples.jsonl"


def calibration_file() -> Path:
    """Measurements of probes."""
    return home() / "calibration.json"


def check_run_name(name: str) -> str:
    """Return the name if it is valid, whether or not it is taken.

    Raises:
        RunNameError: the name is invalid.
    """
    if RUN_NAME.fullmatch(name):
        return name
    shown = repr(name) if len(name) <= 40 else f"{name[:40]!r}… ({counted(len(name), 'character')})"
    raise RunNameError(
        f"invalid run name {shown}: use 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or"
        " digit",
        hint="choose another name, or leave it out to get a generated one",
    )


def weights_step(path: str) -> int:
    """Return the step of a checkpoint's or a snapshot's folder."""
    return int(path.rpartition("step-")[2].partition("-")[0])


def weights_name(path: str) -> str:
    """Return how an address names a checkpoint's or a snapshot's folder: `1500`, `average-1500`."""
    name = path.rpartition("/")[2]
    if not name.startswith("average-"):
        return str(weights_step(path))
    _, _, number = name.removeprefix("average-step-").partition("-")
    return f"average-{weights_step(path)}{f'-{number}' if number else ''}"


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder. Only its methods and `socket_path` read the disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config_path(self) -> Path:
        return self.path / "config.toml"

    @property
    def draft_path(self) -> Path:
        """A draft's config while it has problems; `config_path` has its nearest valid values."""
        return self.path / "draft.toml"

    @property
    def lock_path(self) -> Path:
        return self.path / "worker.lock"

    @property
    def logs_path(self) -> Path:
        """The rows of each attempt, one file each."""
        return self.path / "log"

    @property
    def log_path(self) -> Path:
        """The output of its workers."""
        return self.path / "worker.log"

    @property
    def job_path(self) -> Path:
        """The number of its Slurm job."""
        return self.path / "slurm.json"

    @property
    def has_job(self) -> bool:
        """It was submitted as a Slurm job; False, too, if its folder can't be entered."""
        return os.path.exists(self.job_path)  # noqa: PTH110 - Path's raises

    @property
    def script_path(self) -> Path:
        """The script of its Slurm job."""
        return self.path / "slurm.sh"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def snapshots_path(self) -> Path:
        """Weights for live samples; they can't be resumed from."""
        return self.path / SNAPSHOTS_NAME

    @property
    def socket_path(self) -> Path:
        """The worker's control socket: in the run's folder, or in a short folder under /tmp.

        The latter if the path is too long or on a network filesystem. The worker records the path
        it used in its log.
        """
        inside = self.path / "control.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES and not is_network(
            filesystem_here(self.path)
        ):
            return inside
        import hashlib

        digest = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]
        return Path(f"/tmp/rnnlm-tui-{os.getuid()}") / f"{digest}.sock"

    def make_socket_directory(self) -> Path:
        """Create the socket's private folder if needed; returns `socket_path`.

        Raises:
            StorageError: another user owns the folder or can enter it.
        """
        socket = self.socket_path
        if socket.parent != self.path:
            make_own_directory(socket.parent)
        return socket

    def check_there(self) -> None:
        """Check that the run's folder still exists.

        Raises:
            StorageError: the folder is gone.
        """
        if not self.path.is_dir():
            raise StorageError(
                f"{self.path} is gone: it was removed or moved",
                hint="`rnnlm-tui runs` shows what is left",
            )

    def no_checkpoint(self, step: int) -> UnknownCheckpointError:
        """The error for a step without a checkpoint."""
        return UnknownCheckpointError(
            f"{self.name} has no checkpoint of step {step:,}",
            hint=f"`rnnlm-tui checkpoints {self.name}` lists them",
        )

    def check_version(self) -> None:
        """Refuse a run of an unreleased version, which had its rows in a database.

        Raises:
            StorageError: it is one, or its folder can't be read.
        """
        with storage_errors("look into", self.path):
            is_unreleased = (self.path / "run.db").exists()
        if is_unreleased:
            raise StorageError(
                f"{self.name} was made by an unreleased version of rnnlm-tui",
                hint=f"keep it for that version, or set {HOME_VARIABLE} to a new folder",
            )

    def check_own_files(self) -> None:
        """Refuse a run whose folder has links: files outside it would be written and removed
        through them.

        Raises:
            StorageError: the folder has a link, or can't be read.
        """
        with storage_errors("look into", self.path), os.scandir(self.path) as entries:
            links = (
                sorted(entry.path for entry in entries if entry.is_symlink())
                or [str(self.path)] * self.path.is_symlink()
            )
        if links:
            raise StorageError(
                f"{links[0]} is a symbolic link, which is not allowed in a run's folder",
                hint="put the file or folder itself there",
            )

    def created(self) -> float:
        """When the run was created or, as a draft, last changed, in Unix seconds; 0.0 if it is
        gone."""
        try:
            return self.config_path.stat().st_mtime
        except OSError:
            return 0.0

    def read_config(self) -> RunConfig:
        """Read and validate the frozen config.

        Raises:
            StorageError: the file is missing, or isn't TOML or a valid config.
        """
        import tomllib

        from rnnlm_tui.schema.validation import parse_config

        with storage_errors("read", self.config_path):
            data = self.config_path.read_bytes()
        try:
            return parse_config(tomllib.loads(data.decode("utf-8")))
        except (ValueError, RecursionError) as error:
            # TOMLDecodeError is a ValueError; a number with thousands of digits raises one too
            raise StorageError(
                f"{self.config_path} is damaged: {error}",
                hint="a run's config can't be edited; restore the file, or start a new run",
            ) from error
        except ConfigError as error:
            problems = "; ".join(str(problem) for problem in error.problems)
            raise StorageError(
                f"invalid config {self.config_path}: {problems}",
                hint="it was edited, or written by another version of rnnlm-tui",
            ) from error


def listed_run(name: str) -> RunDirectory:
    """The run with exactly this name, which may be gone since it was listed."""
    return RunDirectory(runs_dir() / name)
