"""CheckpointsScreen: a run's checkpoints, one of them in detail, and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Resize

from rnnlm_tui.errors import RnnlmError, StorageError
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.status import RESUMABLE
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import Action, action, bindings_for
from rnnlm_tui.tui.palette import DIM, TEXT
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.services import to_thread
from rnnlm_tui.tui.widgets.checkpoints import (
    CheckpointDetail,
    CheckpointFile,
    CheckpointPanel,
    CheckpointSamples,
    CheckpointTable,
    samples_at,
)
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.samples import newlines_of

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.store.manifest import Manifest

AGE_SECONDS = 10.0
"""Seconds between updates of the ages."""


class CheckpointsScreen(PaneScreen):
    """A run's checkpoints, to sample from, pin and verify."""

    PANE = "checkpoints"
    BINDINGS = bindings_for("checkpoints")
    FIRST_FOCUS = "#checkpoints"
    DEFAULT_CSS = """
    #checkpoint-box { height: 9; padding: 0; }
    #checkpoint-below { height: 1fr; }
    CheckpointsScreen.-wide #checkpoint-box { height: 32%; }
    CheckpointsScreen.-short #checkpoint-box { height: 1fr; }
    CheckpointsScreen.-short #checkpoint-below { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._details: dict[str, CheckpointDetail] = {}
        """The details of the open run's checkpoints, by directory."""
        self._of: Path | None = None

    def compose_body(self) -> ComposeResult:
        with TitledContainer(title="Checkpoints", id="checkpoint-box"):
            yield CheckpointTable(id="checkpoints")
        with Horizontal(id="checkpoint-below"):
            yield CheckpointPanel(id="detail")
            yield CheckpointSamples(id="samples")

    def on_mount(self) -> None:
        self.set_interval(AGE_SECONDS, self._show_ages)

    def on_resize(self, event: Resize) -> None:
        wide = event.size.width >= WIDE_FROM
        self.set_class(wide, "-wide")
        self.set_class(event.size.height < 20, "-short")
        self.query_one(CheckpointTable).set_wide(wide)

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        """Show the run's checkpoints, newest first."""
        if self.run_path != self._of:
            self._of, self._details = self.run_path, {}
        rows = snapshot.checkpoints if snapshot is not None else ()
        self._show_table()
        box = self.query_one("#checkpoint-box", TitledContainer)
        if rows and snapshot is not None:
            keep, every = (
                snapshot.config.checkpoint.keep_last,
                snapshot.config.checkpoint.keep_every,
            )
            kept = (
                f" kept, newest {keep}, every {every:,} and the best · "
                if every
                else f" kept, newest {keep} and the best · "
            )
            size, unit = formatting.disk(sum(row.bytes for row in rows)).split(" ")
            box.legend = Content.assemble(
                (f"{len(rows)}", TEXT), (kept, DIM), (size, TEXT), (f" {unit}", DIM)
            )
        else:
            box.legend = ""
        self._show_detail()

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        """Return the actions for a checkpoint, if there is one."""
        some = bool(self.snapshot and self.snapshot.checkpoints)
        living = self.snapshot is not None and self.snapshot.summary.status in ("running", "paused")
        names = [
            *(["choose_checkpoint", "pin_checkpoint", "verify_checkpoint"] if some else []),
            *(["checkpoint"] if living else []),
            "leave",
        ]
        row = self.chosen
        words = {
            "pin_checkpoint": "Unpin" if row is not None and row.step in self._pinned() else ""
        }
        return [(action(name), words.get(name, "")) for name in names]

    # the checkpoint under the cursor

    @property
    def chosen(self) -> CheckpointRow | None:
        """The checkpoint under the cursor."""
        step = self.query_one(CheckpointTable).step
        rows = self.snapshot.checkpoints if self.snapshot is not None else ()
        return next((row for row in rows if row.step == step), None)

    def on_checkpoint_table_highlighted(self, _event: CheckpointTable.Highlighted) -> None:
        self._show_detail()
        self.refresh_footer()

    def action_choose_checkpoint(self) -> None:
        """Sample from the checkpoint."""
        row = self.chosen
        if row is None:
            self.context.report("no checkpoint yet")
            return
        self.context.selected_checkpoint = row.path
        self.context.open_pane("prompt")

    def action_pin_checkpoint(self) -> None:
        """Pin or unpin the checkpoint."""
        row, run = self.chosen, self.context.run_directory
        if row is None or run is None:
            self.context.report("no checkpoint yet")
            return
        pinned = row.step not in self._pinned()
        message = (
            f"step {row.step:,} pinned"
            if pinned
            else f"step {row.step:,} unpinned: deleted when newer ones replace it"
        )

        def done(_: None) -> None:
            self.context.watcher.poll_now()
            self.context.report(message)

        self.context.in_thread(
            partial(self.context.services.pin, run, row.step, pinned=pinned), done
        )

    def action_verify_checkpoint(self) -> None:
        """Check all of its files against their hashes."""
        row, run = self.chosen, self.run_path
        if row is None or run is None:
            self.context.report("no checkpoint yet")
            return
        self.context.report(f"checking step {row.step:,} …")
        self.run_worker(self._verify(row, run), group="verify", exclusive=True)

    async def _verify(self, row: CheckpointRow, run: Path) -> None:
        try:
            manifest = await to_thread(self.context.services.verify, run / row.path)
        except (StorageError, OSError) as error:
            await self._damage_found(row, run, error)
            return
        self._keep(row.path, run, _detail_of(row, run / row.path, manifest, verified=time()))
        self.context.report(
            f"step {row.step:,}: all {formatting.counted(len(manifest.files), 'file')} verified"
        )

    async def _damage_found(
        self, row: CheckpointRow, run: Path, error: RnnlmError | OSError
    ) -> None:
        try:
            manifest = await to_thread(self.context.services.manifest, run / row.path)
        except (StorageError, OSError):
            manifest = None
        damage = (error.message if isinstance(error, RnnlmError) else str(error)).replace(
            f"{run / row.path}/", ""
        )
        self._keep(row.path, run, _detail_of(row, run / row.path, manifest, damage=damage))
        intact = await to_thread(self._newest_intact, row, run)
        if intact is None:
            instead = "no other checkpoint is intact"
        elif self.snapshot is not None and self.snapshot.summary.status in RESUMABLE:
            instead = f"space on Train resumes at step {intact:,}"
        else:
            instead = f"step {intact:,} is intact: enter samples from it"
        self.context.report(f"step {row.step:,} is damaged; {instead}", trouble=True)

    def _newest_intact(self, damaged: CheckpointRow, run: Path) -> int | None:
        """Return the step of the newest other checkpoint whose files all match their hashes."""
        for row in sorted(
            self.snapshot.checkpoints if self.snapshot is not None else (),
            key=lambda row: row.step,
            reverse=True,
        ):
            if row.step != damaged.step:
                with suppress(StorageError, OSError):
                    self.context.services.verify(run / row.path)
                    return row.step
        return None

    def _keep(self, path: str, run: Path, detail: CheckpointDetail) -> None:
        if run == self._of:
            self._details[path] = detail
            self.refresh_all()

    def _pinned(self) -> tuple[int, ...]:
        return self.snapshot.summary.checkpoints.pinned if self.snapshot is not None else ()

    def _damaged(self, rows: Sequence[CheckpointRow]) -> list[int]:
        return [
            row.step for row in rows if row.path in self._details and self._details[row.path].damage
        ]

    def _show_detail(self) -> None:
        row, run = self.chosen, self.run_path
        panel = self.query_one(CheckpointPanel)
        samples = self.query_one(CheckpointSamples)
        if row is None or run is None:
            panel.show(None, time())
            samples.show((), "")
            return
        detail = self._details.get(row.path)
        panel.show(detail or CheckpointDetail(row.step, str(run / row.path)), time())
        if detail is None:
            self._read(row, run)
        snapshot = self.snapshot
        if snapshot is not None:
            found, note = samples_at(snapshot.samples, row.step)
            sampling = snapshot.config.sampling
            how = (
                Content.styled("greedy", DIM)
                if sampling.is_greedy
                else Content.assemble(
                    ("T ", DIM),
                    (f"{sampling.temperature:g}", TEXT),
                    (" · seed ", DIM),
                    (str(sampling.seed), TEXT),
                )
            )
            samples.show(
                found, note, how if found else "", newlines_of(snapshot.summary.corpus_layout)
            )

    @work(group="manifest", exclusive=True)
    async def _read(self, row: CheckpointRow, run: Path) -> None:
        try:
            manifest = await to_thread(self.context.services.manifest, run / row.path)
        except (StorageError, OSError) as error:
            damage = (error.message if isinstance(error, RnnlmError) else str(error)).replace(
                f"{run / row.path}/", ""
            )
            detail = _detail_of(row, run / row.path, None, damage=damage)
        else:
            detail = _detail_of(row, run / row.path, manifest)
        if row.path not in self._details:  # a check of all files came first, and knows more
            self._keep(row.path, run, detail)

    def _show_ages(self) -> None:
        if self.is_current and self.snapshot is not None:
            self._show_table()

    def _show_table(self) -> None:
        rows = self.snapshot.checkpoints if self.snapshot is not None else ()
        self.query_one(CheckpointTable).show(
            rows, time(), dict.fromkeys(self._damaged(rows), "damaged"), self._pinned()
        )


def _detail_of(
    row: CheckpointRow,
    path: Path,
    manifest: Manifest | None,
    *,
    verified: float | None = None,
    damage: str = "",
) -> CheckpointDetail:
    if manifest is None:
        return CheckpointDetail(row.step, str(path), damage=damage)
    order = ("model.safetensors", "training_state.safetensors", "training_state.json")
    names = sorted(
        manifest.files, key=lambda name: (order.index(name) if name in order else len(order), name)
    )
    environment = manifest.facts.get("environment")
    versions = manifest.versions | (
        {name: str(environment[name]) for name in ("torch", "device") if name in environment}
        if isinstance(environment, dict)
        else {}
    )
    written = [f"rnnlm-tui {versions['rnnlm_tui']}"] if "rnnlm_tui" in versions else []
    written += [f"torch {versions['torch']}"] if "torch" in versions else []
    written += [versions["device"]] if "device" in versions else []
    return CheckpointDetail(
        step=row.step,
        path=str(path),
        files=tuple(
            CheckpointFile(name, manifest.files[name].size, manifest.files[name].sha256)
            for name in names
        ),
        position=(
            f"step {row.step:,}, epoch {row.epoch:.1f}, after {formatting.short(row.tokens_seen)}"
            " tokens"
        ),
        written_by=", ".join(written),
        parent=manifest.parent if manifest.parent and "@" in manifest.parent else "",
        verified=verified,
        damage=damage,
    )
