"""Test differences between runs on the same test text, in a child process that holds torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rnnlm_tui.client.child import run_child
from rnnlm_tui.client.comparison import LETTERS
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.start import check_datasets
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.schema.significance import ComparedPart, SignificanceDone, SignificanceRequest
from rnnlm_tui.store.addresses import checkpoint_path, split_address
from rnnlm_tui.store.paths import weights_name
from rnnlm_tui.system.locks import reading


def find_differences(
    addresses: Mapping[str, str],
    report: Callable[[TaskProgress], None],
    folders: Sequence[str] = (),
    check: Callable[[], None] | None = None,
) -> SignificanceDone:
    """Score the test text of runs with each one's checkpoint, and test whether they differ.

    Args:
        addresses: `RUN` (its best checkpoint) or `RUN@CHECKPOINT` by letter; the others are
            compared with the first.
        report: called with the progress.
        folders: local folders of further models, with the letters that follow.
        check: as of `run_child`.

    Raises:
        InputError: there is nothing to compare, nothing is comparable, or there are too few
            sentences.
        UnknownRunError, UnknownCheckpointError: there is no such run or checkpoint.
        UntrustedDatasetError: a text is from code that the user hasn't named here.
        CheckpointError, CorpusError: one is damaged, or its text has changed.
        DeviceError: out of memory.
        WorkerError: the process died.
    """
    if len(addresses) + len(folders) < 2:
        raise InputError("nothing to compare: name a second run", hint="or RUN@STEP, or --model")
    parts = []
    for letter, address in addresses.items():
        run, which = split_address(address)
        check_datasets(run.read_config().corpus)
        path = str(checkpoint_path(run, which).absolute())
        parts.append(
            ComparedPart(letter=letter, address=f"{run.name}@{weights_name(path)}", path=path)
        )
    with reading(*(Path(part.path) for part in parts)):
        for letter, folder in zip(LETTERS[len(parts) :], folders, strict=False):
            path = str(user_path(folder).absolute())
            parts.append(ComparedPart(letter=letter, address=folder, path=path, is_run=False))
        return run_child(
            "significance",
            SignificanceRequest(parts=tuple(parts)),
            SignificanceDone,
            report,
            what="the comparison",
            settings=WORKER_SETTINGS,
            check=check,
        )
