"""A run's figures as text: evaluated sets, the book's reference, device and other load."""

from __future__ import annotations

import re

import pytest

from rnnlm_tui.cli.summaries import model_text, summary_lines
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EvaluationRow, EventRow, RankReading, RanksRow, StepRow
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.schema.summary import (
    BaselineFigures,
    EvaluationFigures,
    JobFigures,
    ModelFigures,
    PatienceFigures,
    ReferenceFigures,
    RequestFigures,
    RunSummary,
)
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import RunLock
from tests.unit.cli.calls import Verbs
from tests.unit.client.logs import record

SLICE = "first 1,024 test sentences"
SUMMARY = RunSummary(
    run="plain-otter",
    status="running",
    model=ModelFigures(cell_type="elman", num_layers=2, hidden_size=8, tie_weights=True),
)


def book_run(*, whole_test: bool) -> None:
    """Create a run of the book, evaluated after 15 × 1,563 steps of one epoch.

    A finished run is evaluated on the whole test set too.
    """
    directory = create_run(BOOK, "brisk-heron")
    whole = EvaluationRow(1, 23_445, "test", "test", 4.58, 9_000_000, 1.7, 60.0, 9_002.0)
    part = whole._replace(name=SLICE, loss=4.55, tokens=30_000)
    record(
        directory,
        Facts(
            device="cpu, 2 threads",
            matmul="medium",
            precision="float32",
            cores=2,
            threads=2,
            max_steps=23_445,
            epochs=1.0,
        ),
        StepRow(1, 23_445, 68_000_000, 0.14, 4.6, 0.5, 1e-3, 12_000.0, 5_600.0, 9_000.0),
        part,
        part._replace(split="validation", name="first 1,024 validation sentences", loss=4.56),
        *([whole] if whole_test else []),
        EventRow(1, 23_445, "finished", "", 9_003.0),
    )


@pytest.mark.parametrize("whole_test", [False, True])
def test_show_names_the_slice_and_the_reference_nearest_to_it(
    whole_test: bool, verb: Verbs
) -> None:
    book_run(whole_test=whole_test)
    lines = {line.split("  ")[0]: line for line in verb("show brisk").out.splitlines()}
    assert "perplexity 94.6, 1.70 bits a byte at step 23,445" in lines[SLICE]
    assert lines["reference"].endswith("perplexity 92.2 at 3.0 M sentences")
    assert ("test" in lines) is whole_test
    assert lines["device"].endswith("cpu, 2 threads, bf16 matmul")
    assert "neighbours" not in lines


def test_show_has_a_row_a_rank_and_names_the_slowest(verb: Verbs) -> None:
    first, second = (
        RankReading(rank=rank, host="a", device="NVIDIA H100 80GB HBM3", tokens_per_second=5e4,
            use=97.0, memory=2**36, memory_total=80 * 2**30, waiting=0.1 - rank / 10)
        for rank in (0, 1)
    )  # fmt: skip
    directory = create_run(RunConfig(), "plain-otter")
    record(
        directory,
        Facts(device="cuda:0"),
        EventRow(1, 0, "running", "", 1.0),
        *(RanksRow(1, step, (first, second), 1.0) for step in (1, 2)),
        RanksRow(1, 3, (first, second.model_copy(update={"host": "b"})), 1.0),
    )
    with RunLock(directory.lock_path):
        said = verb("show plain")
        answer = verb.json("show plain")
    assert re.search(r"device +2 × H100 on 2 hosts\n", said.out)
    *_, head, upper, lower = said.out.splitlines()
    assert head.split() == ["rank", "host", "device", "tok/s", "use", "memory", "waiting"]
    assert upper.endswith("10 %")
    assert "64 GiB of 80 GiB" in lower
    assert lower.endswith("0 %  slowest")
    assert [rank["host"] for rank in answer["ranks"]] == ["a", "b"]
    assert answer["ranks"][1]["waiting"] == 0
    stopped = verb("show plain").out
    assert "2 × H100 on 2 hosts" in stopped
    assert "slowest" not in stopped
    record(directory, EventRow(1, 0, "finished", "", 2.0))
    assert verb.json("show plain")["ranks"] == [], "a later attempt had one process"


REFERENCE = ReferenceFigures(sentences=4_900_000, perplexity=86.77, reference_sentences=4_001_280)
BASELINE = BaselineFigures(perplexity=72.8, validation_perplexity=69.6)
EVALUATED = EvaluationFigures(name="validation", perplexity=60.0)
ASKED = (RequestFigures(words="learning_rate 0.001"), RequestFigures(words="evaluate"))


@pytest.mark.parametrize(
    ("changes", "label", "words"),
    [
        ({"job": JobFigures(id="12", state="RUNNING", hosts="n1")}, "job", "job 12 running on n1"),
        (
            {"job": JobFigures(id="12", state="NODE_FAIL")},
            "job",
            "job 12 ended because its node failed",
        ),
        ({"job": JobFigures(id="12")}, "job", "job 12 has ended: Slurm no longer knows it"),
        (
            {"reference": REFERENCE},
            "reference",
            "perplexity 86.8 at 4.0 M sentences, nearest to this run's 4.9 M sentences",
        ),
        (
            {"others_cores": 1.0, "cores": 2},
            "neighbours",
            "other processes use 1.0 of 2 cores, which slows down training",
        ),
        ({}, "neighbours", ""),
        ({"corpus": "book.txt"}, "corpus", "book.txt"),
        ({"corpus": "a.py", "corpus_layout": "raw"}, "corpus", "a.py, raw"),
        ({"patience": None}, "patience", ""),
        ({"patience": PatienceFigures(waited=0, limit=5)}, "patience", ""),
        (
            {"patience": PatienceFigures(waited=1, limit=5)},
            "patience",
            "no better validation loss for 1 evaluation, training stops at 5",
        ),
        (
            {"patience": PatienceFigures(waited=4, limit=5)},
            "patience",
            "no better validation loss for 4 evaluations, training stops at 5",
        ),
        (
            {"baseline": BASELINE, "validation": EVALUATED},
            "to beat",
            "perplexity 69.6 on the same validation tokens, 72.8 on the same test tokens: a 5-gram"
            " model",
        ),
        (
            {"baseline": BASELINE},
            "to beat",
            "perplexity 72.8 on the same test tokens: a 5-gram model",
        ),
        ({"requests": ASKED}, "requested", "learning_rate 0.001; evaluate"),
        ({"stop_after": "epoch"}, "stops", "after this epoch"),
        ({}, "stops", ""),
    ],
)
def test_show_says_what_is_known_of_a_run(
    changes: dict[str, object], label: str, words: str
) -> None:
    assert dict(summary_lines(SUMMARY.model_copy(update=changes)))[label] == words


@pytest.mark.parametrize(
    ("cell", "words"),
    [("elman", "Elman 2×8 tied"), ("mingru", "minGRU 2×8 tied"), ("slstm", "sLSTM 2×8 tied")],
)
def test_cells_have_their_usual_names(cell: str, words: str) -> None:
    model = SUMMARY.model.model_copy(update={"cell_type": cell})
    assert model_text(SUMMARY.model_copy(update={"model": model})) == words


def test_show_and_metrics_have_the_share_of_unknown_tokens(verb: Verbs) -> None:
    first = EvaluationRow(
        1, 1, "validation", "validation", 0.9, 10_000, None, 1.0, 9_001.0, unknown=7_300
    )
    test = first._replace(split="test", name="test", bits_per_byte=0.25, unknown=4)
    step = StepRow(1, 1, 1_000, 0.1, 4.6, 0.5, 1e-3, 12_000.0, 1.0, 9_000.0)
    ended = EventRow(1, 1, "finished", "", 9_003.0)
    record(create_run(RunConfig(), "few-words"), step, first, test, ended)
    shown = verb("show few-words").out
    assert "perplexity 2.46, no bits a byte: 73 % unknown at step 1" in shown
    assert "perplexity 2.46, 0.25 bits a byte, 0.04 % unknown" in shown
    validation = verb.json("show few-words")["validation"]
    assert (validation["bits_per_byte"], validation["unknown_share"]) == (None, 0.73)
    head, row, _ = verb("metrics few-words --evaluations --csv").out.splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["unknown"] == "7300"
