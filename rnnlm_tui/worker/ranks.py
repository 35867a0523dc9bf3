"""The processes that train one run together: `Team` is rank 0's, `follow` is what each other does.

Rank 0 is the run's worker. It starts the others itself, unless a launcher such as torchrun has
started all of them: then each finds its place in the variables RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
import torch.distributed as dist

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.checkpoint import load_optimizer_state, load_training_state
from rnnlm_tui.engine.device import is_out_of_memory
from rnnlm_tui.engine.distributed import Interrupted, Order, Ranks
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.memory import rehearse_evaluation, rehearse_step
from rnnlm_tui.errors import (
    ConfigError,
    DeviceError,
    InputError,
    RnnlmError,
    WorkerError,
    error_kind,
)
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import SPLITS
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import GpuRow, RankReading
from rnnlm_tui.schema.rules import share_problems
from rnnlm_tui.store.lineage import PARENT_FOLDER
from rnnlm_tui.store.manifest import read_manifest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import host_name
from rnnlm_tui.system.machine import memory_total
from rnnlm_tui.system.processes import START_SECONDS, dependent_environment, python_command
from rnnlm_tui.worker.build import (
    build_batches,
    build_model,
    build_trainer,
    set_up_torch,
    split_batches,
)
from rnnlm_tui.worker.parent import find_start
from rnnlm_tui.worker.recorder import versions
from rnnlm_tui.worker.resuming import prepare_text
from rnnlm_tui.worker.step_metrics import DeviceProbe

READ_SECONDS = 5.0
"""Time between two readings of all ranks."""
GRACE_SECONDS = 30.0
"""After the end of another rank, the wait for this one's exchange to fail by itself."""
CAUSE_SECONDS = 5.0
"""How long a failed exchange waits for the rank that failed first to say why."""
LEAVE_SECONDS = 10.0
"""How long ranks may take to end."""
BEGIN_SECONDS = 86_400.0
"""Longest wait of the others for rank 0, which prepares the text first."""
_EXCHANGE = (
    "gloo", "nccl", "connection closed", "connection reset", "connection refused", "broken pipe",
    "timed out",
)  # fmt: skip
"""Words of errors of an exchange between ranks: another one has failed."""
_COMPARED = ("torch", "numpy", "python", "rnnlm_tui")


class Place(NamedTuple):
    """This process's place among those that train one run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those on this machine."""
    local_size: int = 1
    address: str = "127.0.0.1"
    """Rank 0's."""
    port: int = 0
    """Where rank 0 listens; 0: a free one, and rank 0 starts the others."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that torchrun sets."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }

    @property
    def words(self) -> str:
        """`rank 1 of 4 on gpu1`."""
        return f"rank {self.rank} of {self.size} on {host_name()}"


def own_place(config: RunConfig) -> Place:
    """This process's place: a launcher's, or rank 0 of those that the config asks for.

    Raises:
        InputError: more processes than GPUs or rows of a batch, or variables that aren't complete.
    """
    if "WORLD_SIZE" in os.environ:
        place = _launched_place()
    else:
        wanted = config.distributed.processes
        on_gpu = config.training.device in ("auto", "cuda") and torch.cuda.is_available()
        most = torch.cuda.device_count() if on_gpu else 1
        count = max(1, most) if wanted == "auto" else wanted
        place = Place(size=count, local_size=count)
        if on_gpu and count > most:
            raise InputError(
                f"distributed.processes is {count}, but this machine has {counted(most, 'GPU')}",
                hint="use auto, or training.device=cpu",
            )
    if problems := list(share_problems(config.training, place.size)):
        raise ConfigError(problems)
    return place


def _launched_place() -> Place:
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if port == 0:
            raise ValueError("MASTER_PORT is 0")
    except (KeyError, ValueError) as error:
        raise InputError(
            f"WORLD_SIZE is set, but not all of RANK, MASTER_ADDR and MASTER_PORT: {error}",
            hint="start all processes by torchrun, or unset WORLD_SIZE",
        ) from error
    return Place(rank, size, local_rank, local_size, address, port)


def is_exchange_error(error: BaseException | None) -> bool:
    """Whether an error only says that another rank has failed."""
    text = str(error).lower()
    return (
        isinstance(error, RuntimeError)
        and not is_out_of_memory(error)
        and (isinstance(error, dist.DistError) or any(word in text for word in _EXCHANGE))
    )


def _open_store(place: Place, *, host: bool) -> tuple[dist.Store, int]:
    """The store through which ranks find one another, and its port.

    Raises:
        InputError: the port is in use.
        WorkerError: rank 0 doesn't listen there.
    """
    # torchrun's agent listens at the address itself
    hosts = host and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = dist.TCPStore(
            place.address,
            place.port,
            is_master=hosts,
            wait_for_workers=False,
            timeout=timedelta(seconds=60),
        )
    except RuntimeError as error:
        where = f"port {place.port} of {place.address}"
        if hosts:
            raise InputError(
                f"{where} can't be used: {_plain(error)}",
                hint="set MASTER_PORT to a free one",
            ) from error
        raise WorkerError(f"{place.words}: rank 0 doesn't answer at {where}") from error
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"rnnlm-tui/{restart}", store), store.port


def _facts(run: RunDirectory, corpus: PreparedCorpus) -> dict[str, str]:
    """What all ranks must have in common, and the host's name."""
    found = {name: version for name, version in versions().items() if name in _COMPARED}
    config = hashlib.sha256(run.config_path.read_bytes()).hexdigest()
    return {"host": host_name(), **found, "config": config, "corpus": corpus.manifest.hash}


def connected(place: Place, config: RunConfig, store: dist.Store, device: torch.device) -> Ranks:
    """This process among the others, as soon as all are there.

    Raises:
        DeviceError: this torch can't add up gradients on this device.
    """
    if device.type == "cuda" and not dist.is_nccl_available():
        raise DeviceError(
            "this torch has no NCCL, which adds up the gradients of several GPUs",
            hint="install a torch with NCCL, or set distributed.processes=1",
        )
    if device.type not in ("cuda", "cpu"):
        raise DeviceError(
            f"several processes can't train on {device.type}",
            hint="set training.device=cpu or distributed.processes=1",
        )
    return Ranks(
        place.rank,
        place.size,
        store,
        device,
        seconds=config.distributed.timeout,
        exact=config.training.deterministic,
    )


class Team:
    """Rank 0's part: starts the other ranks, if no launcher has, watches them and ends them.

    Args:
        record: called with the readings of all ranks, every few seconds, in a thread.
        abandon: called in a thread with the error of a rank that ended while this one waits for it
            in vain.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: RunConfig,
        place: Place,
        record: Callable[[tuple[RankReading, ...]], None],
        abandon: Callable[[RnnlmError], None],
    ) -> None:
        """
        Raises:
            InputError: the port is in use.
        """
        self._run, self._config, self._place = run, config, place
        self._record, self._abandon = record, abandon
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._closing = threading.Event()
        self._ranks: Ranks | None = None
        if place.port == 0:
            _stay_on_loopback()
        self._store, port = _open_store(place, host=True)
        if place.port == 0:
            for rank in range(1, place.size):
                at = place._replace(rank=rank, local_rank=rank, port=port)
                self._children[rank] = subprocess.Popen(
                    python_command("rnnlm_tui.worker.train", str(run.path)),
                    stdin=subprocess.DEVNULL,
                    env=dependent_environment({}) | at.environment,
                )

    def join(self, corpus: PreparedCorpus, device: torch.device, checkpoint: Path | None) -> Ranks:
        """Wait for all ranks, compare what they have, and watch them from then on.

        Args:
            checkpoint: the one that the attempt resumes from; None: none.

        Raises:
            InputError: a rank has another version, text or config: all differences.
            RnnlmError: a rank failed, with its own error.
            WorkerError: one didn't arrive in time.
        """
        self._store.set("begin", json.dumps({"checkpoint": checkpoint and checkpoint.name}))
        own = _facts(self._run, corpus)
        different = []
        for rank in range(1, self._place.size):
            theirs = self._facts_of(rank)
            different += [
                f"rank {rank} on {theirs['host']}: {name} is {_short(theirs.get(name))},"
                f" rank 0 has {_short(value)}"
                for name, value in own.items()
                if name != "host" and theirs.get(name) != value
            ]
        if different:
            raise InputError(
                f"the ranks differ: {'; '.join(different)}",
                hint="all need the same packages, config and text",
            )
        self._ranks = ranks = connected(self._place, self._config, self._store, device)
        reader = RankReader(self._place, ranks)
        threading.Thread(target=self._watch, args=(reader,), name="ranks", daemon=True).start()
        return ranks

    def cause(self, error: BaseException) -> RnnlmError | None:
        """The error of the rank that failed first; None: this one did.

        Waits a moment for the other one to say why.
        """
        self._closing.set()
        if not is_exchange_error(error.__cause__ or error) and not is_exchange_error(error):
            return None
        until = time.monotonic() + CAUSE_SECONDS
        while (found := self._failure()) is None and time.monotonic() < until:
            time.sleep(0.05)
        return found or WorkerError(
            f"another rank ended or didn't answer within {self._config.distributed.timeout} s:"
            f" {_plain(error)}",
            hint=self._resume_hint,
        )

    def close(self, *, orderly: bool) -> None:
        """End the other ranks, at once unless `orderly` and they train."""
        self._closing.set()
        until = time.monotonic()
        if self._ranks is None:  # they still wait, perhaps in a launcher's store
            with suppress(RuntimeError):
                self._store.set("begin", json.dumps(None))
        elif orderly:
            until += LEAVE_SECONDS
            with suppress(RuntimeError):
                self._ranks.send_order(Order.END)
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, until - time.monotonic()))
            if child.returncode is None:
                child.kill()
                child.wait()

    @property
    def _resume_hint(self) -> str:
        return f"`rnnlm-tui resume {self._run.name}` continues from the newest checkpoint"

    def _facts_of(self, rank: int) -> dict[str, str]:
        # Packages and text may take long to read, whatever the wait for a step.
        seconds = max(self._config.distributed.timeout, START_SECONDS)
        until = time.monotonic() + seconds
        while not self._store.check([f"facts/{rank}"]):
            if failure := self._failure():
                raise failure
            if time.monotonic() > until:
                raise WorkerError(
                    f"rank {rank} of {self._place.size} didn't arrive within {seconds:.0f} s",
                    hint="distributed.timeout is how long rank 0 waits",
                )
            time.sleep(0.05)
        found: dict[str, str] = json.loads(self._store.get(f"facts/{rank}"))
        return found

    def _failure(self) -> RnnlmError | None:
        """The failure of another rank, as far as it is known: what it said, or how it ended."""
        with suppress(RuntimeError):  # a launcher's store may be gone
            for rank in range(1, self._place.size):
                if self._store.check([f"failure/{rank}"]):
                    failure = json.loads(self._store.get(f"failure/{rank}"))
                    return error_kind(failure["code"])(
                        f"{failure['who']}: {failure['message']}",
                        hint="; ".join(filter(None, (failure["hint"], self._resume_hint))),
                    )
        for rank, child in self._children.items():
            code = child.poll()
            if code is None or (code == WorkerError.exit_code and self._ranks is not None):
                continue  # it lives, or another one's end ended it
            how = f"exited with code {code}"
            if code < 0:
                how = f"was ended by {signal.Signals(-code).name}"
            memory = "; if you didn't end it, memory may have run out" if code == -9 else ""
            return WorkerError(
                f"rank {rank} of {self._place.size} (pid {child.pid}) {how}",
                hint=f"{self._resume_hint}{memory}",
            )
        return None

    def _watch(self, reader: RankReader) -> None:
        signs = dict.fromkeys(range(1, self._place.size), (0, time.monotonic()))
        while not self._closing.wait(READ_SECONDS):
            silent = None
            with suppress(RuntimeError, RnnlmError):  # readings aren't worth a run
                self._record((reader.read(), *self._readings()))
                silent = self._silent(signs)
            failure = self._failure() or silent
            if failure is not None and not self._closing.wait(GRACE_SECONDS):
                self._abandon(failure)

    def _silent(self, signs: dict[int, tuple[int, float]]) -> WorkerError | None:
        """The error for a rank that gave no sign for too long; its host may be gone.

        Args:
            signs: of each rank, how many it gave, and when the newest was noticed.
        """
        now, patience = time.monotonic(), max(self._config.distributed.timeout, 4 * READ_SECONDS)
        for rank, (known, noticed) in signs.items():
            count = self._store.add(f"signs/{rank}", 0)
            if count != known:
                signs[rank] = count, now
            elif now - noticed > patience:
                return WorkerError(
                    f"rank {rank} of {self._place.size} gave no sign for {now - noticed:.0f} s",
                    hint=self._resume_hint,
                )
        return None

    def _readings(self) -> Iterator[RankReading]:
        """The newest ones of the other ranks."""
        for rank in range(1, self._place.size):
            if self._store.check([f"reading/{rank}"]):
                yield RankReading.model_validate_json(self._store.get(f"reading/{rank}"))


class RankReader:
    """Readings of this process: its speed, its use of the machine, its wait for others."""

    def __init__(self, place: Place, ranks: Ranks) -> None:
        self._place, self._ranks = place, ranks
        self._probe = DeviceProbe(ranks.device) if ranks.device.type == "cuda" else None
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._before = self._counters()

    def read(self) -> RankReading:
        """The reading of the time since the one before."""
        before, self._before = self._before, self._counters()
        seconds, tokens, waited = (
            now - then for now, then in zip(self._before, before, strict=True)
        )
        card = GpuRow() if self._probe is None else self._probe.sample()
        if self._probe is None:
            card = card._replace(
                percent=round(self._process.cpu_percent() / torch.get_num_threads(), 1),
                memory_own=self._process.memory_info().rss,
                memory_total=memory_total(),
            )
        return RankReading(
            rank=self._place.rank,
            host=host_name(),
            device=card.name or "",
            tokens_per_second=round(tokens / seconds, 1),
            use=card.percent,
            memory=card.memory_own,
            memory_total=card.memory_total,
            waiting=round(min(1.0, waited / seconds), 3),
        )

    def _counters(self) -> tuple[float, int, float]:
        return time.monotonic(), self._ranks.tokens, self._ranks.waited


def follow(run: RunDirectory) -> int:
    """Do what rank 0 says, as another rank; returns the exit code."""
    try:
        config = run.read_config()
        place = own_place(config)
        store, _ = _open_store(place, host=False)
    except RnnlmError as error:
        _say(str(error))
        return error.exit_code
    try:
        _obey(run, config, place, store)
    except Exception as error:
        if is_exchange_error(error):
            _say(f"{place.words}: another rank has ended: {_plain(error)}")
            return WorkerError.exit_code
        _say(f"{place.words} failed:")
        traceback.print_exc()
        known = error
        if not isinstance(known, RnnlmError):
            known = RnnlmError(f"{type(error).__name__}: {error}")
        failure = {"who": place.words, "message": known.message, "hint": known.hint}
        with suppress(RuntimeError):
            store.set(f"failure/{place.rank}", json.dumps({**failure, "code": known.exit_code}))
        return known.exit_code
    return 0


def _obey(run: RunDirectory, config: RunConfig, place: Place, store: dist.Store) -> None:
    """Prepare as rank 0 did, then carry out its orders until the end.

    Raises:
        RnnlmError: out of memory, or the text or the checkpoint can't be read here.
        RuntimeError: another rank ended.
    """
    device = set_up_torch(config, place.local_rank, place.local_size)
    store.wait(["begin"], timedelta(seconds=BEGIN_SECONDS))
    begin = json.loads(store.get("begin"))
    if begin is None:  # rank 0 has ended before
        return
    name = begin["checkpoint"]
    checkpoint = run.checkpoints_path / name if name else None
    saved = None if checkpoint is None else read_manifest(checkpoint)
    corpus = prepare_text(run, config, saved, lambda _: None, None)
    store.set(f"facts/{place.rank}", json.dumps(_facts(run, corpus)))
    ranks = connected(place, config, store, device)
    model = build_model(config, corpus).to(device)
    trainer = build_trainer(config, model, build_batches(config, corpus), ranks=ranks)
    parent = find_start(run) if checkpoint is None else None
    if parent is not None and parent.optimizer == "keep":
        load_optimizer_state(run.path / PARENT_FOLDER, trainer)
    if checkpoint is not None:
        load_training_state(checkpoint, trainer)
    rehearse_step(trainer)
    rehearse_evaluation(trainer)
    reader = RankReader(place, ranks)
    threading.Thread(target=_report, args=(reader, place, store), daemon=True).start()
    unknown = TextCodec(corpus.path).unk_id
    while True:
        order, values = ranks.next_order()
        match order:
            case Order.STEP:
                trainer.follow_step(*values, seed=config.training.seed + place.rank)
            case Order.EVALUATE:
                split, most = SPLITS[int(values[0])], int(values[1])
                batches = split_batches(config, corpus, split, most)
                with suppress(Interrupted):
                    evaluate(model, batches, unknown_id=unknown, ranks=ranks)
            case Order.COLLECT:
                trainer.send_carried()
            case Order.END:
                return


def _report(reader: RankReader, place: Place, store: dist.Store) -> None:
    """In a thread: give rank 0 a reading every few seconds."""
    with suppress(RuntimeError):  # rank 0 is gone: the main thread notices it, too
        while True:
            time.sleep(READ_SECONDS)
            store.add(f"signs/{place.rank}", 1)
            store.set(f"reading/{place.rank}", reader.read().model_dump_json())


def _stay_on_loopback() -> None:
    """All ranks are on this machine: its name needn't have an address."""
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"


def _plain(error: BaseException) -> str:
    """What torch says of an exchange that failed, without the place in its code and its advice."""
    line = str(error).splitlines()[0].partition(". This is typically caused")[0]
    return re.sub(r"^\[/\S+:\d+\] ", "", line)


def _short(value: str | None) -> str:
    return str(value)[:16]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - stderr is the run's log
