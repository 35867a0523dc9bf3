"""The one tree of errors that people see; each carries a message, a hint and an exit code.

    RnnlmError                    1  something failed that is nobody's input
    ├── InputError                2  what was asked for can't be: nothing was done
    │   ├── ConfigError              one or more problems in a config, all of them listed
    │   ├── CorpusError              a source of text that is missing, empty, binary, too short
    │   ├── TokenizerError           a tokenizer that can't be loaded or trained
    │   ├── RunNameError             a run name that is taken or impossible
    │   ├── UnknownRunError          no run, or several, of that name
    │   ├── UnknownCheckpointError   no checkpoint of that step or mark
    │   ├── DeviceError              no such device on this machine
    │   └── TerminalError            no terminal, or one that is too small
    ├── RunStateError             3  the run is not in a state for this (running, paused, ended)
    ├── WorkerError               4  a worker or sampler that failed, died or does not answer
    └── StorageError              5  files that can't be read, written or trusted
        ├── CheckpointError          a checkpoint that is damaged or of the wrong kind
        │   └── NewerCheckpointError    one that a newer version wrote
        └── DatabaseError            a run.db that is damaged
            └── NewerDatabaseError      one that a newer version made: whole, and left as it is

Ctrl-C while following a run leaves with 130; the run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

EXIT_INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended while its run went on."""


class RnnlmError(Exception):
    """Something that a person can act on: `message` says what and with which value, `hint` what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if not self.hint else f"{self.message}\n{self.hint}"


class InputError(RnnlmError):
    """What was asked for can't be done as asked; nothing was created or changed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a config."""

    path: str
    """Full dotted path of the field, `optimizer.learning_rate`."""
    message: str
    """What is wrong with which value and what is allowed."""
    hint: str = ""
    """The near spelling or the next thing to do; may be empty."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(InputError):
    """All problems of a config at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the config:\n{lines}")


class CorpusError(InputError):
    """A source of text that can't be used."""


class TokenizerError(InputError):
    """A tokenizer that can't be loaded or trained."""


class RunNameError(InputError):
    """A run name that is taken or impossible."""


class UnknownRunError(InputError):
    """No run of that name, or a prefix of several."""


class UnknownCheckpointError(InputError):
    """No checkpoint of that step or mark."""


class DeviceError(InputError):
    """No such device on this machine."""


class TerminalError(InputError):
    """No terminal, or one that is too small."""


class RunStateError(RnnlmError):
    """The run is not in a state for this."""

    exit_code = 3


class WorkerError(RnnlmError):
    """A worker or sampler failed, died or does not answer."""

    exit_code = 4


class StorageError(RnnlmError):
    """Files that can't be read, written or trusted."""

    exit_code = 5


class CheckpointError(StorageError):
    """A checkpoint that is damaged or of the wrong kind."""


class NewerCheckpointError(CheckpointError):
    """A checkpoint that a newer version of rnnlm-tui wrote: whole perhaps, and not to be judged by this one."""


class DatabaseError(StorageError):
    """A run's database that is damaged."""


class NewerDatabaseError(DatabaseError):
    """A run's database that a newer version made: it is whole, and nothing here may touch it."""


def error_kind(exit_code: int) -> type[RnnlmError]:
    """The kind of error that a process of ours tells by its exit code."""
    kinds: tuple[type[RnnlmError], ...] = (InputError, RunStateError, WorkerError, StorageError)
    return next((kind for kind in kinds if kind.exit_code == exit_code), RnnlmError)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean "demo"?` for the known names nearest to `name`, or an empty string."""
    names = list(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    # The beginning of a name, mistyped: `nble` for `noble-heron`.
    near = near or [candidate for candidate in names if get_close_matches(name, [candidate[: len(name) + 1]], cutoff=0.75)][:3]
    return "did you mean " + " or ".join(f'"{candidate}"' for candidate in near) + "?" if near else ""
