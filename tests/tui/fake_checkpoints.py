"""The files of checkpoints, invented: nothing is on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.client.checkpoint_detail import CheckpointDetail
from rnnlm_tui.client.export import Exported
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.exports import ExportDone, ExportFormat
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.protocol import Setting, TaskProgress
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.retention import PrunePlan, kept_steps
from rnnlm_tui.store.tensors import TensorInfo

if TYPE_CHECKING:
    from tests.tui.fakes import FakeServices


class FakeCheckpoints:
    """Records what is asked of it in the `calls` of the services."""

    def __init__(self, services: FakeServices) -> None:
        self._fake = services
        self.cut: dict[int, str] = {}
        """What names and sizes of a checkpoint's files show to be wrong, by step."""
        self.changed: tuple[Setting, ...] = ()
        """What was changed at step 1,512, in the detail of every checkpoint."""
        self.parent_address = ""
        """The parent of every run."""
        self.export_gate: threading.Event | None = None
        """Exports end only after it is set."""
        self.export_failure: RnnlmError | None = None

    def problems(self, run: RunDirectory, rows: Sequence[CheckpointRow]) -> dict[str, str]:
        return {row.path: self.cut[row.step] for row in rows if row.step in self.cut}

    def detail(
        self,
        run: RunDirectory,
        row: CheckpointRow,
        *,
        others: Sequence[CheckpointRow],
        journal: object,
    ) -> CheckpointDetail:
        manifest = self._fake.manifest(run.path / "checkpoints" / f"step-{row.step:09d}")
        earlier = [other for other in others if other.step < row.step]
        versions = manifest.versions
        return CheckpointDetail(
            step=row.step,
            path=str(run.path / row.path),
            files=manifest.files,
            changes=self.changed,
            changed_at={one.path: 1_512 for one in self.changed},
            position=f"step {row.step:,}, token 104,960 of epoch 7",
            random_state="saved, continues bit for bit",
            written_by=f"rnnlm-tui {versions['rnnlm_tui']}, torch 2.13, cpu, gpu1",
            parent=self.parent_address,
            tensors=(
                TensorInfo("embedding.weight", "F32", (2_048, 192)),
                TensorInfo("layers.0.input_weight", "F32", (192, 192)),
                TensorInfo("layers.1.input_weight", "F32", (192, 192)),
                TensorInfo("output.bias", "F32", (2_048,)),
            ),
            before=str(run.path / earlier[-1].path) if earlier else "",
            before_name=f"step {earlier[-1].step:,}" if earlier else "",
        )

    def plan_prune(self, run: RunDirectory, keep_last: int, keep_every: int) -> PrunePlan:
        rows = self._fake.snapshots[run.name].checkpoints
        kept = kept_steps(rows, keep_last, keep_every=keep_every)
        return PrunePlan(tuple(row for row in rows if row.step not in kept), kept)

    def export(
        self,
        run: RunDirectory,
        checkpoint: Path,
        target: Path,
        format: ExportFormat,
        report: Callable[[TaskProgress], None],
    ) -> Exported:
        report(TaskProgress(phase="writing"))
        if self.export_gate is not None:
            self.export_gate.wait(30)
        report(TaskProgress(phase="checking"))
        if self.export_failure is not None:
            raise self.export_failure
        step = int(checkpoint.name.rpartition("-")[2])
        self._fake.calls.append(("export", run.name, step, format, str(target)))
        done = ExportDone(
            step=step, logits_compared=131_072, largest_difference=2e-6, greedy_tokens=50,
            notes=("the tokenizer is not part of it",) if format == "book" else (),
        )  # fmt: skip
        return Exported(run.name, step, format, target, 2_300_000, ("config.json",), done)

    def export_folder(self, name: str) -> Path:
        return Path("/home/me") / name

    def remove_average(self, run: RunDirectory, name: str) -> None:
        self._fake.calls.append(("remove average", run.name, name))
