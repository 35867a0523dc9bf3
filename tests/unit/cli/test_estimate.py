"""The verb `estimate` rejects configs that can't start on this machine."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.cli.main import run


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["training.device=cuda:63"], 'no device "cuda:63" on this machine'),
        (
            ["training.device=cpu", "training.precision=bf16"],
            "training.precision: is bf16, which needs a CUDA GPU, but training.device is cpu",
        ),
    ],
)
def test_an_unavailable_device_or_precision_is_rejected(
    assignments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(
            [
                "estimate",
                "--json",
                *(part for assignment in assignments for part in ("--set", assignment)),
            ]
        )
        == 2
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


def test_a_presets_warmup_that_is_shortened_is_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["estimate", "--json", "--set", "training.max_steps=30"]) == 0
    assert any(
        "warm-up shortened to 3 steps, a tenth of the run" in words
        for words in json.loads(capsys.readouterr().out)["warnings"]
    )


@pytest.mark.parametrize(("cell", "device"), [("slstm", "cuda"), ("slstm", "cpu"), ("gru", "cuda")])
def test_slstm_on_a_gpu_is_warned_of_with_its_launches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cell: str, device: str
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.gpus.planned_device", lambda _: device)
    changes = (f"model.cell_type={cell}", "model.num_layers=6", "training.bptt=70")
    assert run(["estimate", "--json", *(f"--set={change}" for change in changes)]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    found = [words for words in warnings if words.startswith("sLSTM is slow on a GPU")]
    assert len(found) == (cell == "slstm" and device == "cuda")
    assert all("about 8,400 kernels a step, 67 ms" in words for words in found)
