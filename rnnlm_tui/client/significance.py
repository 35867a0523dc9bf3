"""Test differences between runs on the same test text, in a child process that holds torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from rnnlm_tui.client.child import run_child
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.start import check_datasets
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.schema.protocol import TaskProgress
from rnnlm_tui.schema.sampling import FolderReading
from rnnlm_tui.schema.significance import ComparedPart, SignificanceDone, SignificanceRequest
from rnnlm_tui.store.addresses import checkpoint_path, split_address
from rnnlm_tui.store.paths import weights_name
from rnnlm_tui.system.locks import reading


def find_differences(
    addresses: Mapping[str, str],
    report: Callable[[TaskProgress], None],
    *,
    folders: Mapping[str, str] = MappingProxyType({}),
    allow_code: bool = False,
    device: str = "cpu",
    check: Callable[[], None] | None = None,
) -> SignificanceDone:
    """Score the test text of runs with each one's checkpoint, and test whether they differ.

    Args:
        addresses: `RUN` (its best checkpoint) or `RUN@CHECKPOINT` by letter; the others are
            compared with the first.
        report: called with the progress.
        folders: local folders of further models, by letter.
        allow_code: run the code that those bring along.
        check: as of `run_child`.

    Raises:
        InputError: fewer than two, one twice, no comparable ones, or too few sentences.
        UnknownRunError, UnknownCheckpointError: there is no such run or checkpoint.
        UntrustedDatasetError: a text is from code that the user hasn't named here.
        CheckpointError, CorpusError: one is damaged, or its text has changed.
        DeviceError: no such device, or out of memory.
        WorkerError: the process died.
    """
    if len(addresses) + len(folders) < 2:
        raise InputError(
            "nothing to compare: name a second run", hint="or a second checkpoint, as RUN@STEP"
        )
    parts = dict[str, ComparedPart]()
    for letter, address in addresses.items():
        run, which = split_address(address)
        path = checkpoint_path(run, which)
        name = f"{run.name}@{weights_name(str(path))}"
        if str(path) in parts:
            raise InputError(f"{name} is given twice", hint="name each checkpoint once")
        check_datasets(run.read_config().corpus)
        parts[str(path)] = ComparedPart(
            letter=letter, address=name, run=str(run.path), path=str(path.absolute())
        )
    for letter, folder in folders.items():
        path = user_path(folder).absolute()
        parts[str(path)] = ComparedPart(letter=letter, address=folder, path=str(path))
    request = SignificanceRequest(
        parts=tuple(parts.values()), device=device, reading=FolderReading(allow_code=allow_code)
    )
    with reading(*map(Path, parts)):
        return run_child(
            "significance",
            request,
            SignificanceDone,
            report,
            what="the comparison",
            settings=WORKER_SETTINGS,
            check=check,
        )
