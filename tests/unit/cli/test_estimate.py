"""The verb `estimate` rejects configs that can't start on this machine."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO

import pytest

from rnnlm_tui.cli.estimate import _print_range
from rnnlm_tui.schema.tuning import range_result
from tests.unit.cli.calls import Verbs


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["training.device=cuda:63"], 'no device "cuda:63" on this machine'),
        (
            ["training.device=cpu", "training.precision=bf16"],
            "training.precision: is bf16, which needs a CUDA GPU, but training.device is cpu",
        ),
        (["tokenizer.kind=pretrained", "tokenizer.name=/"], "no tokenizer in"),
    ],
)
def test_an_unavailable_device_precision_or_tokenizer_is_rejected(
    assignments: list[str], words: str, verb: Verbs
) -> None:
    out, err = verb("estimate --json", *(f"--set={one}" for one in assignments), code=2)
    assert out == ""
    assert words in err


def test_a_presets_warmup_that_is_shortened_is_a_warning(verb: Verbs) -> None:
    warnings = verb.json("estimate --set training.max_steps=30")["warnings"]
    assert any("warm-up shortened to 3 steps, a tenth of the run" in words for words in warnings)


@pytest.mark.parametrize(("cell", "device"), [("slstm", "cuda"), ("slstm", "cpu"), ("gru", "cuda")])
def test_slstm_on_a_gpu_is_warned_of_with_its_launches(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs, cell: str, device: str
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.gpus.planned_device", lambda _: device)
    changes = (f"model.cell_type={cell}", "model.num_layers=6", "training.bptt=70")
    warnings = verb.json("estimate", *(f"--set={change}" for change in changes))["warnings"]
    found = [words for words in warnings if words.startswith("sLSTM is slow on a GPU")]
    assert len(found) == (cell == "slstm" and device == "cuda")
    assert all("about 8,400 kernels a step, 67 ms" in words for words in found)


KEYS = """
baseline_perplexity calibrated_by calibrated_run checkpoint_bytes disk_bytes evaluation_seconds
first_lines fitting_batch gradient_bytes layout memory_bytes memory_free memory_measured
memory_parts notes parameters parameters_by_part preset probe processes rows_at_once run_flops
seconds start_loss step_flops steps steps_per_epoch text_known tokens_per_parameter tokens_seen
train_sentences train_tokens
unique_tokens_per_parameter vocab_exact vocab_size vocabulary_share warnings
"""


def test_figures_are_printed_and_are_the_same_in_json(verb: Verbs) -> None:
    """Of a text that is counted, of which every line of the estimate is known but the time."""
    asked = "estimate --set corpus.source=elman --set tokenizer.kind=character"
    out, found = verb(asked)[0], verb.json(asked)
    assert found.keys() == set(KEYS.split())
    parts = found["parameters_by_part"]
    total = parts["embedding"] + sum(parts["layers"]) + parts["output"]
    assert f"{total:,}  (embedding {parts['embedding']:,}, " in out
    assert found["parameters"] == total
    assert f"{found['steps']:,}, {found['steps_per_epoch']:,} per epoch" in out
    assert f"of {found['train_sentences']:,} sentences for training (counted)" in out or (
        f"{found['train_tokens']:,} for training (counted)" in out
    )
    peak = found["memory_parts"]
    during = max(peak["activations"] + max(peak["head"], peak["gradients"]), peak["evaluation"])
    lasting = sum(peak[name] for name in ("process", "corpus", "weights", "moments", "saving"))
    assert found["memory_bytes"] == lasting + during
    assert f"{found['memory_bytes'] / 2**20:,.0f} MiB peak (process " in out


def test_several_processes_are_shown_with_what_they_exchange(verb: Verbs) -> None:
    asked = "estimate --preset book --set training.device=cpu --set distributed.processes=4"
    out, found = verb(asked)[0], verb.json(asked)
    assert (found["processes"], found["rows_at_once"]) == (4, 32)
    assert "4, each with 32 rows of a batch at once; it sends 50 MB per step to add up 33 MB" in out
    assert f"{found['memory_bytes'] / 2**20:,.0f} MiB peak of all processes (of a process: " in out
    words = "training.batch_size: is 128, but distributed.processes x training.accumulate = 200 x 1"
    assert words in verb("estimate --preset book --set distributed.processes=200", code=2)[1]


def test_a_range_test_that_diverges_at_once_prints_its_reason() -> None:
    out = StringIO()
    with redirect_stdout(out):
        _print_range(range_result((50.0, 100.0), (9.0,)))
    assert "test smaller rates" in out.getvalue()
