"""The files of checkpoints, invented: nothing is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnnlm_tui.client.checkpoint_detail import CheckpointDetail
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.protocol import Setting
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.retention import PrunePlan, kept_steps
from rnnlm_tui.store.tensors import TensorInfo

if TYPE_CHECKING:
    from tests.tui.fakes import FakeServices


class FakeCheckpoints:
    """What the pictures show of checkpoints' files."""

    def __init__(self, services: FakeServices) -> None:
        self._fake = services
        self.cut: dict[int, str] = {}
        """What names and sizes of a checkpoint's files show to be wrong, by step."""
        self.changed: tuple[Setting, ...] = ()
        """What was changed at step 1,512, in the detail of every checkpoint."""

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
