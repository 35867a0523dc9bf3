"""All errors shown to users. Each has a message, a hint and an exit code.

    RnnlmError                    1  internal failure, not caused by the input
    ├── InputError                2  invalid request; nothing was changed
    │   ├── ConfigError              one or more problems in a config, all listed
    │   ├── CorpusError              text source missing, empty, binary or too short
    │   │   └── UntrustedDatasetError   its code may not run: the user hasn't named the dataset
    │   ├── TokenizerError           tokenizer can't be loaded or trained
    │   ├── RunNameError             run name taken or invalid
    │   ├── UnknownRunError          run not found, or name ambiguous
    │   ├── UnknownCheckpointError   checkpoint not found
    │   ├── DeviceError              device not available on this machine
    │   └── TerminalError            no terminal, or terminal too small
    ├── RunStateError             3  not possible in the run's current state
    ├── WorkerError               4  worker or sampler failed, died or does not answer
    │   └── LostDeviceError          a GPU failed while it computed
    └── StorageError              5  files can't be read or written, or are damaged
        ├── CheckpointError          checkpoint damaged or of the wrong kind
        │   └── NewerCheckpointError    checkpoint written by a newer version
        ├── NewerLogError            log of a run written by a newer version; left unchanged
        └── ArchiveError             archive of a run damaged, unsafe or of another version

Ctrl-C while following a run exits with code 130; the run continues.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

EXIT_INTERRUPTED = 130
"""Exit code of a command that was interrupted with Ctrl-C while its run continues."""


class RnnlmError(Exception):
    """An error shown to the user: `message` says what failed and why, `hint` what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if not self.hint else f"{self.message}\n{self.hint}"


def in_one_sentence(error: RnnlmError | OSError) -> str:
    """Return an error's message and hint, in one line."""
    if isinstance(error, RnnlmError):
        return ". ".join(part for part in (error.message, error.hint) if part)
    return str(error)


def install_extra(extra: str) -> str:
    """Return the command that adds an extra to an installation from a clone, as in the README."""
    return f".venv/bin/pip install '.[{extra}]'"


class InputError(RnnlmError):
    """The request is invalid; nothing was created or changed."""

    exit_code = 2


class Adjustment(NamedTuple):
    """A change to a config that solves a problem."""

    changes: tuple[tuple[str, object], ...]
    """Dotted paths and their new values, to be changed together."""

    @classmethod
    def of(cls, changes: Mapping[str, object]) -> "Adjustment":
        """The adjustment that makes these changes."""
        return cls(tuple(changes.items()))

    def __str__(self) -> str:
        """The command line's options for it: `--set model.num_heads=4`."""
        return " ".join(f"--set {path}={_assigned(value)}" for path, value in self.changes)


def _assigned(value: object) -> str:
    """A number, a switch or a word as `--set` reads it; None clears a field."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


class Place(NamedTuple):
    """Where a value was written: a file with a position, or a variable."""

    source: str
    """The file's path, or the variable's name."""
    line: int | None = None
    """Counted from 1; None for a variable."""
    column: int | None = None
    """In characters, counted from 1."""

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part)


class Problem(NamedTuple):
    """One problem in a config."""

    path: str
    """Dotted path of the field, such as `optimizer.learning_rate`."""
    message: str
    """What is wrong with the value, and what is allowed."""
    hint: str = ""
    """A similar name or what to do next; may be empty."""
    adjustments: tuple[Adjustment, ...] = ()
    """Changes that each solve it, best first; may be empty."""
    place: Place | None = None
    """Where the value was written; None: on the command line, in a form, or unknown."""

    def __str__(self) -> str:
        options = ", or ".join(str(adjustment) for adjustment in self.adjustments)
        advice = "; ".join(part for part in (self.hint, options) if part)
        where = "" if self.place is None else f"{self.place}: "
        return f"{where}{self.path}: {self.message}" + (f" ({advice})" if advice else "")


class ConfigError(InputError):
    """All problems in a config."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the config:\n{lines}")


class CorpusError(InputError):
    """The text source can't be used."""


class UntrustedDatasetError(CorpusError):
    """A dataset of Python would run a file that the user hasn't named in this home."""

    def __init__(self, source: str, path: str) -> None:
        super().__init__(
            f"{source} runs the code in {path}, which you haven't trusted or which has changed"
            " since",
            hint="read that file; then add --trust-dataset, or use the app, which asks",
        )
        self.source, self.path = source, path


class TokenizerError(InputError):
    """The tokenizer can't be loaded or trained."""


class RunNameError(InputError):
    """The run name is taken or invalid."""


class UnknownRunError(InputError):
    """The run was not found, or the name is a prefix of several runs."""


class UnknownCheckpointError(InputError):
    """The checkpoint was not found."""


class DeviceError(InputError):
    """The device is not available on this machine."""


class TerminalError(InputError):
    """There is no terminal, or it is too small."""


class RunStateError(RnnlmError):
    """The action is not possible in the run's current state."""

    exit_code = 3


class WorkerError(RnnlmError):
    """A worker or sampler failed, died or doesn't answer."""

    exit_code = 4


class LostDeviceError(WorkerError):
    """A GPU failed while it computed: nothing can be read from it any more, nor computed on it."""


class StorageError(RnnlmError):
    """Files can't be read or written, or are damaged."""

    exit_code = 5


class CheckpointError(StorageError):
    """The checkpoint is damaged or of the wrong kind."""


class NewerCheckpointError(CheckpointError):
    """The checkpoint was written by a newer version, so this version can't verify it."""


class NewerLogError(StorageError):
    """A run's log was written by a newer version. It isn't damaged and must not be changed."""


class ArchiveError(StorageError):
    """An archive of a run is damaged, unsafe or of another version; nothing of it was kept."""


def error_kind(exit_code: int) -> type[RnnlmError]:
    """The error class for an exit code of one of our processes."""
    kinds: tuple[type[RnnlmError], ...] = (InputError, RunStateError, WorkerError, StorageError)
    return next((kind for kind in kinds if kind.exit_code == exit_code), RnnlmError)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean "demo"?` with the known names most similar to `name`; empty if there are
    none."""
    names = list(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    # A mistyped prefix: `nble` for `noble-heron`.
    near = (
        near
        or [
            candidate
            for candidate in names
            if get_close_matches(name, [candidate[: len(name) + 1]], cutoff=0.75)
        ][:3]
    )
    return meant(near)


def meant(names: Iterable[str]) -> str:
    """`did you mean "demo" or "gru"?`; empty without names."""
    shown = " or ".join(f'"{name}"' for name in names)
    return f"did you mean {shown}?" if shown else ""
