"""The interface for notebooks and scripts: `runs()`, `run()` and `load()`.

    import rnnlm_tui

    otter = rnnlm_tui.run("plain-otter")
    otter.metrics["loss"]                     # an array, one value for each step
    model = rnnlm_tui.load("plain-otter@best")
    print(model.generate("The state of the Union", seed=1))

Everything here reads: a run is started, steered and deleted by the app and the verbs. Each property
reads its run again, so a live run's figures are current. Errors are `rnnlm_tui.errors.RnnlmError`,
with a message and a hint. Only `load` imports torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlm_tui.errors import CorpusError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnnlm_tui.client.checkpoints import ListedCheckpoint
    from rnnlm_tui.client.metric_tables import MetricTable
    from rnnlm_tui.schema.config import RunConfig, SamplingConfig
    from rnnlm_tui.schema.metrics import SampleRow
    from rnnlm_tui.schema.sampling import SampleDone, ScoreDone
    from rnnlm_tui.schema.status import RunStatus
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.worker.answers import Answers

    Table = dict[str, NDArray[Any]]

__all__ = ["Model", "Run", "load", "run", "runs"]


def runs(filter: str = "") -> list[Run]:
    """All runs, newest first.

    Args:
        filter: as of `rnnlm-tui runs --filter`, such as `"ppl<80 !draft"`; pinned runs are then
            first.

    Raises:
        InputError: the filter is invalid.
        StorageError: the data home can't be read.
    """
    from rnnlm_tui.store.paths import RunDirectory, runs_dir
    from rnnlm_tui.store.runs import list_runs

    if not filter:
        return [Run(directory) for directory in list_runs()]
    from rnnlm_tui.client.listing import listed_runs

    return [Run(RunDirectory(runs_dir() / summary.run)) for summary in listed_runs(filter).runs]


def run(name: str) -> Run:
    """The run of this name, or the only one whose name begins with it.

    Raises:
        UnknownRunError: there is none, or several.
    """
    from rnnlm_tui.store.runs import find_run

    return Run(find_run(name))


def load(address: str, *, device: str = "cpu") -> Model:
    """Load a checkpoint's model.

    Args:
        address: `name@best`, `name@last`, `name@1500`; `name` means the best one, or the last if
            none was evaluated; `name@now` the weights of a run that trains.
        device: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`.

    Raises:
        UnknownRunError, UnknownCheckpointError: there is no such one.
        CheckpointError: its files are damaged.
        DeviceError: this machine has no such device.
    """
    from rnnlm_tui.client.control import weights_path
    from rnnlm_tui.store.addresses import split_address

    directory, which = split_address(address)
    return Model(directory, weights_path(directory, which), device)


class Run:
    """A run, read from its folder.

    A table is a dict with an array for each column, all of one length. Whole numbers are int64, or
    float64 with NaN if some are missing; figures are float64; texts are objects.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    @property
    def name(self) -> str:
        """Its name."""
        return self._directory.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._directory.path

    @property
    def config(self) -> RunConfig:
        """Its frozen config: `run.config.model.hidden_size`, or `run.config.model_dump()`."""
        return self._directory.read_config()

    @property
    def summary(self) -> RunSummary:
        """Status and newest figures, as `rnnlm-tui show --json` prints them."""
        from rnnlm_tui.client.monitor import summarize

        return summarize(self._directory)

    @property
    def status(self) -> RunStatus:
        """`running`, `finished` and so on."""
        return self.summary.status

    @property
    def metrics(self) -> Table:
        """Every step: loss, grad_norm, learning_rate, tokens_per_second and so on."""
        return self._table("steps")

    @property
    def evaluations(self) -> Table:
        """Every evaluation: step, split, name, loss, perplexity, bits_per_byte and so on."""
        return self._table("evaluations")

    @property
    def machine(self) -> Table:
        """The machine's readings, about one a second."""
        return self._table("machine")

    @property
    def events(self) -> Table:
        """Its log: started, resumed, checkpoint, setting and so on."""
        return self._table("events")

    @property
    def samples(self) -> list[SampleRow]:
        """The samples of its evaluations, oldest first."""
        from rnnlm_tui.store.reader import RunReader

        with RunReader(self._directory) as reader:
            return reader.samples()[::-1]

    @property
    def checkpoints(self) -> list[ListedCheckpoint]:
        """Its checkpoints and averages, newest first, as `rnnlm-tui checkpoints` lists them."""
        from rnnlm_tui.client.checkpoints import list_run

        return list_run(self._directory)

    def load(self, which: str | None = None, *, device: str = "cpu") -> Model:
        """Load one of its models: `best`, `last`, `now`, a step or a checkpoint's name.

        None: the best, or the last if none was evaluated.
        """
        return load(self.name if which is None else f"{self.name}@{which}", device=device)

    def _table(self, name: str) -> Table:
        from rnnlm_tui.client.metric_tables import TABLES
        from rnnlm_tui.store.reader import RunReader

        table = next(table for table in TABLES if table.name == name)
        with RunReader(self._directory) as reader, reader.read_transaction():
            return _as_arrays(table, table.rows(reader))

    def __repr__(self) -> str:
        return f"<Run {self.name}>"


class Model:
    """A checkpoint's model and tokenizer. It computes on one CPU thread, or on a GPU."""

    def __init__(self, directory: RunDirectory, path: Path, device: str) -> None:
        from rnnlm_tui.schema.sampling import LoadRequest
        from rnnlm_tui.store.paths import weights_step
        from rnnlm_tui.system.locks import reading

        self._directory, self._device = directory, device
        self.path = path
        """The checkpoint's folder."""
        self.step = weights_step(str(path))
        """The checkpoint's step."""
        self._answers: Answers | None = None
        with reading(path), self._answering() as answers:
            for _ in answers.of(LoadRequest(id="load", checkpoint=str(path)), _never):
                continue

    @property
    def run(self) -> Run:
        """The run that it comes from."""
        return Run(self._directory)

    def generate(self, prompt: str = "", *, state: str = "", **settings: Any) -> SampleDone:
        """Continue a prompt; the answer's `text` is without it.

        The same seed gives the same text as `rnnlm-tui sample`.

        Args:
            state: name of a kept state that the prompt follows.
            settings: fields of the config's section `sampling`, such as `temperature`, `top_p`,
                `max_new_tokens`, `seed`, `stop`; by default the run's.

        Raises:
            ConfigError: a setting is unknown or invalid.
            InputError: the prompt can't be encoded; no such state.
        """
        return self.generate_many([prompt], state=state, **settings)[0]

    def generate_many(
        self, prompts: Sequence[str], n: int = 1, *, state: str = "", **settings: Any
    ) -> list[SampleDone]:
        """Continue each prompt `n` times, with consecutive seeds, in the order of the prompts.

        The `sample` of an answer counts from 0 for each prompt; its seed is the settings' plus it.

        Args and errors: as `generate`.
        """
        if isinstance(prompts, str):
            raise InputError("prompts is a text, must be a list of texts", hint="use generate")
        if n < 1:
            raise InputError(f"n is {n}, must be at least 1")
        chosen = self.settings(**settings)
        if n > 1 and chosen.is_greedy:
            raise InputError(
                f"n={n} would give the same text {n} times: greedy sampling always takes the most"
                " likely token",
                hint="leave out n, or sample with a temperature above 0",
            )
        return [one for prompt in prompts for one in self._continue(prompt, n, state, chosen)]

    def settings(self, **changes: Any) -> SamplingConfig:
        """The run's sampling settings with changes.

        Raises:
            ConfigError: a setting is unknown or invalid.
        """
        from rnnlm_tui.schema.validation import merge, parse_config

        wanted = {f"sampling.{name}": value for name, value in changes.items()}
        return parse_config(merge(self._directory.read_config(), wanted)).sampling

    def score(self, text: str) -> ScoreDone:
        """Score a text, as `rnnlm-tui score` scores a file with it.

        Raises:
            CorpusError: it has fewer than two tokens.
        """
        with tempfile.NamedTemporaryFile(prefix="rnnlm-tui-", suffix=".txt") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            try:
                return self.score_file(file.name)
            except CorpusError as error:
                message = error.message.replace(file.name, "the text")
                raise CorpusError(message, hint=error.hint) from None

    def score_file(self, path: str | Path) -> ScoreDone:
        """Score a UTF-8 file of any length, as `rnnlm-tui score` does.

        Raises:
            CorpusError: it can't be read, isn't text, or has fewer than two tokens.
        """
        from rnnlm_tui.schema.sampling import ScoreDone, ScoreRequest

        request = ScoreRequest(
            id="score", checkpoint=str(self.path), path=str(Path(path).absolute())
        )
        with self._answering() as answers:
            for part in answers.of(request, _never):
                if isinstance(part, ScoreDone):
                    return part
        raise InputError(f"{path} has no text")

    def _continue(
        self, prompt: str, n: int, state: str, settings: SamplingConfig
    ) -> Iterator[SampleDone]:
        from rnnlm_tui.schema.sampling import (
            SampleDone,
            SampleRequest,
            in_batches,
            length_problem,
        )
        from rnnlm_tui.store.states import find_state

        if problem := length_problem(len(prompt)):
            raise InputError(problem)
        request = SampleRequest(
            id="sample",
            checkpoint=str(self.path),
            prompt=prompt,
            state=str(find_state(state).path) if state else "",
            settings=settings,
        )
        for done, one in in_batches(request, n):
            with self._answering() as answers:
                parts = list(answers.of(one, _never))
            for part in parts:
                if isinstance(part, SampleDone):
                    yield part.model_copy(update={"sample": done + part.sample})

    @contextmanager
    def _answering(self) -> Iterator[Answers]:
        """What answers requests, on one thread like a sampler; the caller's number is restored."""
        import torch

        from rnnlm_tui.worker.answers import Answers

        before = torch.get_num_threads()
        try:
            if self._answers is None:
                self._answers = Answers(self._device)
            torch.set_num_threads(1)
            yield self._answers
        finally:
            torch.set_num_threads(before)

    def __repr__(self) -> str:
        return f"<Model {self._directory.name}@{self.step}>"


def _never() -> bool:
    return False


def _as_arrays(table: MetricTable, rows: Iterator[tuple[Any, ...]]) -> Table:
    import numpy as np

    types = {name: object if kind == "text" else float for name, kind in table.columns.items()}
    found = np.fromiter(rows, np.dtype(list(types.items())))  # None becomes NaN
    for name, kind in table.columns.items():
        if kind == "int" and not np.isnan(found[name]).any():
            types[name] = int
    return {name: found[name].astype(types[name]) for name in types}
