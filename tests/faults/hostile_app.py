"""The app on runs full of hostile text: `python -m tests.faults.hostile_app KIND [PANE]`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from rnnlm_tui.client.estimate import Estimate
from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.client.sampler import AnswerT
from rnnlm_tui.errors import CheckpointError, CorpusError, WorkerError
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, SamplingConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import CorpusManifest, SplitFacts
from rnnlm_tui.schema.metrics import EventKind, EventRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest, SamplerRequest
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.schema.summary import RunSummary, SourceFigures
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.kept_samples import KeptSample
from rnnlm_tui.store.manifest import Manifest, ManifestFile
from rnnlm_tui.store.paths import RunDirectory, home
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.store.states import StateInfo
from rnnlm_tui.store.trash import Trashed
from rnnlm_tui.system.locks import LockPage, LockState
from rnnlm_tui.system.machine import describe_machine
from rnnlm_tui.tui.actions import PANES, Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.log import LogFollower
from tests.fakes import answers
from tests.faults.hostile import TEXTS, hostile
from tests.tui.demo_run import HOUR, NOW, demo_run, stand_still
from tests.tui.fakes import make_estimate

OPEN = "plain-otter"
"""The run that trains; run names can't be hostile, so the others are named after their status."""
EVENT_KINDS: tuple[EventKind, ...] = (
    "note",
    "setting",
    "skipped",
    "spike",
    "degraded",
    "recovered",
    "failed",
)


class HostileSampler:
    """Generates hostile text, or fails with it if the prompt contains `fail`."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def start(self) -> None:
        """Do nothing."""

    async def load(self, checkpoint: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def cancel(self, request_id: str) -> None:
        """Do nothing."""

    async def generate(self, request: SampleRequest) -> AsyncIterator[SamplePiece | SampleDone]:
        """Yield the text by character, so that no escape sequence arrives in one piece."""
        if "fail" in request.prompt:
            raise WorkerError(f"failed {self._text}", hint=self._text)
        for count, character in enumerate(self._text, start=1):
            yield SamplePiece(id=request.id, text=character, tokens=count)
        yield SampleDone(
            id=request.id,
            reason="stop",
            stop=self._text[:100],
            text=self._text,
            tokens=len(self._text),
            prompt_tokens=3,
            seconds=0.5,
            first_token_seconds=0.1,
            bits_per_token=4.0,
            unknown=(self._text,),
        )

    async def ask(self, request: SamplerRequest, kind: type[AnswerT]) -> AnswerT:
        """Answer with the text in every field, or fail with it if the prompt contains `fail`."""
        if "fail" in getattr(request, "prompt", ""):
            raise WorkerError(f"failed {self._text}", hint=self._text)
        answer = answers.answer(request)
        assert isinstance(answer, kind)
        return hostile(answer, self._text, id=request.id, values=getattr(answer, "values", None))


class HostileLog(LogFollower):
    """The log of a worker that printed hostile lines."""

    def __init__(self, text: str) -> None:
        super().__init__(Path("/nowhere/worker.log"))
        self._text = text

    def look(self) -> bool:
        if not self.lines:
            self.lines = (*self._text.splitlines(), self._text * 9)
            return True
        return False


class HostileMonitor(RunMonitor):
    """Reads hostile text in every field of a run."""

    text = ""

    def _build(self, lock: LockState) -> RunSnapshot:
        return hostile_snapshot(self.text, super()._build(lock))

    def summary_and_config(self) -> tuple[RunSummary, RunConfig]:
        summary, config = super().summary_and_config()
        return hostile(summary.model_copy(update=SAID), self.text, run=self.run.name), config


class HostileServices:
    """What returns hostile text, by the place of the function that it stands for."""

    def __init__(self, text: str) -> None:
        self.text = HostileMonitor.text = text

    def places(self) -> dict[str, Callable[..., object]]:
        return {
            "client.control.send": self.send,
            "client.estimate.estimate": self.estimate,
            "client.monitor.RunMonitor": HostileMonitor,
            "client.sampler.SamplerClient": lambda **_: HostileSampler(self.text),
            "client.start.check_source": self.check_source,
            "client.start.start_draft": self.start_saved,
            "client.start.start_run": self.start,
            "store.corpora.find_corpus": self.corpus,
            "store.kept_samples.search": self.find_samples,
            "store.manifest.read_manifest": self.manifest,
            "store.manifest.verify_checkpoint": self.verify,
            "store.runs.create_run": self.create_run,
            "store.state.append_history": lambda _prompt: None,
            "store.state.read_history": self.history,
            "store.states.list_states": self.kept_states,
            "store.trash.delete_run": self.delete,
            "tui.folders.save_text": self.save_text,
            "tui.screens.log.LogFollower": self.log,
        }

    def log(self, path: Path) -> LogFollower:
        return HostileLog(self.text)

    def send(self, run: RunDirectory, verb: str, **arguments: object) -> CommandResult:
        if verb in ("sample", "stop"):
            raise WorkerError(f"refused {self.text}", hint=self.text)
        return hostile(CommandResult(id="1", ok=True, step=3_752), self.text)

    def start(self, config: RunConfig) -> RunDirectory:
        raise CorpusError(f"{self.text} not found", hint=self.text)

    def start_saved(self, run: RunDirectory) -> RunDirectory:
        raise CorpusError(f"{self.text} not found", hint=self.text)

    def create_run(self, config: RunConfig, name: str | None, parent: object) -> RunDirectory:
        raise WorkerError(f"not created {self.text}", hint=self.text)

    def delete(self, run: RunDirectory) -> Trashed:
        raise OSError(f"not deleted {self.text}")

    def estimate(self, config: RunConfig) -> Estimate:
        return hostile(make_estimate(config, 4_754), self.text)

    def check_source(self, corpus: CorpusConfig) -> None:
        raise CorpusError(f"{self.text} not found", hint=self.text)

    def corpus(self, corpus: CorpusConfig, tokenizer: TokenizerConfig) -> CorpusManifest | None:
        facts = SplitFacts(documents=1, sentences=10, tokens=100, bytes=400)
        manifest = CorpusManifest(
            hash="0" * 64,
            corpus=corpus,
            tokenizer=tokenizer,
            title="title",
            source_hash="0" * 64,
            vocab_size=2_048,
            eos_id=0,
            pad_id=1,
            eos_text="\n",
            splits={"train": facts, "validation": facts, "test": facts},
            bigram={},
            notes=("a note",),
            created=0.0,
        )
        return hostile(manifest, self.text)

    def manifest(self, checkpoint: Path) -> Manifest:
        manifest = Manifest(
            kind="checkpoint",
            run=OPEN,
            step=3_750,
            parent="other@7",
            created=0.0,
            versions={"rnnlm_tui": "0.1", "python": "3.11"},
            facts={"torch": self.text, "device": self.text},
            files={"model.safetensors": ManifestFile(size=1, sha256="0" * 64)},
        )
        full = hostile(
            manifest,
            self.text,
            parent=f"{self.text}@7",
            versions={"rnnlm_tui": self.text, "torch": self.text, "device": self.text},
        )
        return full.model_copy(update={"files": {self.text: ManifestFile(size=1, sha256="0" * 64)}})

    def verify(self, checkpoint: Path) -> Manifest:
        raise CheckpointError(f"{checkpoint}/{self.text} is damaged", hint=self.text)

    def history(self) -> list[str]:
        return [f"an old {self.text}"]

    def find_samples(self) -> list[KeptSample]:
        settings = SamplingConfig(stop=(self.text[:100],))
        sample = KeptSample(
            run="run",
            step=1,
            path="path",
            prompt="prompt",
            text="text",
            ids=(),
            seed=7,
            settings=settings,
            tokens=1,
            bits_per_token=4.0,
            reason="stop",
            state="state",
        )
        return [hostile(sample, self.text, settings=settings)]

    def kept_states(self) -> list[StateInfo]:
        state = StateInfo(
            name="name",
            created=0.0,
            run="run",
            step=1,
            cell_type="elman",
            num_layers=1,
            hidden_size=8,
            vocab_size=9,
            tokenizer="0",
            text="text",
            tokens=1,
        )
        damaged = state.model_copy(update={"problem": "problem"})
        return [hostile(state, self.text, problem=""), hostile(damaged, self.text)]

    def save_text(self, name: str, text: str, ending: str = ".txt") -> Path:
        return Path("/nowhere") / self.text


OTHERS: Sequence[RunStatus] = ("stalled", "degraded", "preparing", "failed", "crashed", "lost")
"""The newest first."""
SAID = {
    "source": SourceFigures(perplexity=40.2),
    "message": "why",
    "parent": "other@7",
    "precision": "float32",
    "matmul": "medium",
    "tags": ("tag",),
}


def hostile_snapshot(text: str, made: RunSnapshot) -> RunSnapshot:
    """The snapshot with hostile text everywhere except in its name."""
    events = tuple(
        EventRow(1, 3_000 + index, kind, "text", 0.0) for index, kind in enumerate(EVENT_KINDS)
    )
    full = replace(made, events=(*events, *made.events), log_tail=("a line",))
    kept = {name: getattr(made, name) for name in ("series", "machine", "detail", "checkpoints")}
    snapshot = hostile(full, text, **kept)
    said = made.summary.model_copy(update=SAID)
    changes = {"sampling.stop": ["stop"], "corpus.test_source": "test", "tokenizer.name": "name"}
    config = hostile(parse_config(merge(DEMO, changes)), text)
    return replace(snapshot, summary=hostile(said, text, run=made.summary.run), config=config)


def main() -> int:
    """Run the app and return its exit code."""
    kind, *pane = sys.argv[1:]
    wanted: Pane = next((known for known in PANES if known in pane), "train")
    with ExitStack() as held:
        for hours, status in enumerate(OTHERS, 1):
            page = LockPage(progress=("encoding", 1, 2)) if status == "preparing" else None
            step = 0 if status == "preparing" else 3_751
            now = NOW - hours * HOUR
            made = demo_run(status, step, name=f"a-{status}-run", now=now, page=page)
            held.enter_context(made)
        held.enter_context(demo_run())
        os.utime(create_run(DEMO, "a-draft-run").config_path, (0, 0))
        patch = held.enter_context(pytest.MonkeyPatch.context())
        stand_still(patch)
        machine = describe_machine(home())
        for place, service in HostileServices(TEXTS[kind]).places().items():
            patch.setattr(f"rnnlm_tui.{place}", service)
        facts = hostile(machine, TEXTS[kind])
        patch.setattr("rnnlm_tui.system.machine.describe_machine", lambda _home: facts)
        return cast(int, RnnlmApp(find_run(OPEN), wanted, fps=10.0).run())


if __name__ == "__main__":
    sys.exit(main())
