"""Test differences between runs on the same test text, in a child process that holds torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rnnlm_tui.client.child import run_child
from rnnlm_tui.client.comparison import LETTERS
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.start import check_datasets
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted, user_path
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.schema.sampling import FolderReading
from rnnlm_tui.schema.significance import ComparedPart, SignificanceDone, SignificanceRequest
from rnnlm_tui.store.addresses import checkpoint_path, split_address
from rnnlm_tui.store.paths import weights_name
from rnnlm_tui.system.locks import reading


def find_differences(
    addresses: Sequence[str],
    report: Callable[[TaskProgress], None],
    *,
    letters: str = LETTERS,
    folders: Sequence[str] = (),
    allow_code: bool = False,
    device: str = "cpu",
    check: Callable[[], None] | None = None,
) -> SignificanceDone:
    """Score the test text of runs with each one's checkpoint, and test whether they differ.

    Args:
        addresses: `RUN` (its best checkpoint) or `RUN@CHECKPOINT`; the others are compared with
            the first.
        report: called with the progress.
        letters: of the runs and folders.
        folders: local folders of further models.
        allow_code: run the code that those bring along.
        check: as of `run_child`.

    Raises:
        InputError: there is nothing to compare, nothing is comparable, or there are too few
            sentences.
        UnknownRunError, UnknownCheckpointError: there is no such run or checkpoint.
        UntrustedDatasetError: a text is from code that the user hasn't named here.
        CheckpointError, CorpusError: one is damaged, or its text has changed.
        DeviceError: no such device, or out of memory.
        WorkerError: the process died.
    """
    if not 2 <= len(addresses) + len(folders) <= len(letters):
        raise InputError(
            f"cannot test differences of {counted(len(addresses) + len(folders), 'model')}: give 2"
            f" to {len(letters)}",
            hint="name runs, or checkpoints as RUN@STEP",
        )
    parts = []
    for letter, address in zip(letters, (*addresses, *folders), strict=False):
        if len(parts) < len(addresses):
            run, which = split_address(address)
            check_datasets(run.read_config().corpus)
            path = checkpoint_path(run, which).absolute()
            name = f"{run.name}@{weights_name(str(path))}"
            part = ComparedPart(letter=letter, address=name, path=str(path), run=str(run.path))
        else:
            path = user_path(address).absolute()
            part = ComparedPart(letter=letter, address=address, path=str(path))
        parts.append(part)
    with reading(*(Path(part.path) for part in parts)):
        return run_child(
            "significance",
            SignificanceRequest(
                parts=tuple(parts), device=device, reading=FolderReading(allow_code=allow_code)
            ),
            SignificanceDone,
            report,
            what="the comparison",
            settings=WORKER_SETTINGS,
            check=check,
        )
