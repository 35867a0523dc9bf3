"""The verb `estimate`: what this machine can't run is refused, as a start of it would be."""

from __future__ import annotations

import pytest

from rnnlm_tui.cli.main import run


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["training.device=cuda:63"], 'no device "cuda:63" on this machine'),
        (["training.device=cpu", "training.precision=bf16"], "training.precision is bf16, which needs a CUDA GPU with bf16; the device is cpu"),
    ],
)
def test_a_device_or_precision_that_is_not_there_is_refused(assignments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", "--json", *(part for assignment in assignments for part in ("--set", assignment))]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
