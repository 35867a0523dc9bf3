"""The verb `score` with a fake sampler: tables, JSON, token lines, and files that can't be read."""

from __future__ import annotations

import io
import json
import math
import os
import threading
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.errors import CheckpointError, CorpusError
from rnnlm_tui.schema.sampling import ScoreDone, ScoreRequest
from tests.fakes.answers import prompt_pieces
from tests.tui.fakes import FakeSampler
from tests.unit.cli.pty import sent_to_terminal
from tests.unit.cli.test_runs import trained_run

TEXT = "The state\tof\x1b[31m the\r\nUnion \\ is 👩\u200d👧\u2028strong"


@pytest.fixture(autouse=True)
def sampler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSampler:
    """A run `brisk-heron` with the checkpoints 2 and 3, and a fake sampler."""
    trained_run()
    fake = FakeSampler()
    monkeypatch.setattr("rnnlm_tui.client.sampler.SamplerClient", lambda **_: fake)
    monkeypatch.chdir(tmp_path)
    return fake


def write(name: str, text: str = TEXT) -> str:
    Path(name).write_bytes(text.encode())
    return name


def scored(sampler: FakeSampler) -> list[ScoreRequest]:
    return [request for request in sampler.asked if isinstance(request, ScoreRequest)]


def answer_with(sampler: FakeSampler, **figures: dict[str, float | None]) -> None:
    """Answer a file by its name with these figures."""

    def answer(request: ScoreRequest) -> ScoreDone:
        facts: dict[str, float | None] = {
            "loss": 2.0,
            "tokens": 100,
            "bytes": 400,
            "scored_bytes": 399,
            "unknown": 0,
            "bits_per_byte": 0.5,
        }
        facts |= figures.get(Path(request.path).stem, {})
        return ScoreDone.model_validate({"id": request.id, "seconds": 0.5, **facts})

    sampler.answers[ScoreRequest] = answer


def test_a_text_is_scored_in_one_row(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"tokens": 3_000, "bits_per_byte": 1.5432, "scored_bytes": 216}
    answer_with(sampler, book={"loss": math.log(41.234), **figures})
    assert run(["score", "brisk-heron", write("book.txt")]) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["file", "perplexity", "bits/byte", "scored", "tokens", "unknown"],
        ["book.txt", "41.2", "1.543", "54", "%", "3,000", "0"],
    ]
    assert err == "3,000 tokens, 6,000 tok/s, from brisk-heron@2\n"
    assert [(one.path, one.tokens) for one in scored(sampler)] == [
        (str(Path("book.txt").absolute()), False)
    ]
    assert sampler.loaded[0].endswith("step-000000002")


@pytest.mark.parametrize(("options", "shown"), [([], True), (["--json"], False)])
def test_progress_is_shown_on_a_terminal_and_erased(
    options: list[str], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = write("book.txt")
    codes = list[int]()
    score = ["score", "brisk-heron", book, *options]
    sent = sent_to_terminal(monkeypatch, 80, lambda: codes.append(run(score)))
    assert codes == [0]
    assert ("\rscoring book.txt: 4 of 8 tokens\x1b[K\r\x1b[K" in sent) is shown
    assert ("of 8 tokens" in sent) is shown


def test_several_texts_have_a_total_as_if_they_were_one(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = 300 / math.log(2)
    answer_with(
        sampler,
        a={"loss": 1.0, "tokens": 300, "bits_per_byte": bits / 380, "scored_bytes": 380},
        b={"loss": 3.0, "tokens": 100, "bits_per_byte": bits / 390, "scored_bytes": 390},
    )
    assert run(["score", "brisk-heron@last", write("a.txt"), write("b.txt"), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert [(row["file"], row["tokens"], row["checkpoint"]) for row in reported["files"]] == [
        ("a.txt", 300, 3),
        ("b.txt", 100, 3),
    ]
    total = reported["total"]
    assert (total["loss"], total["tokens"]) == (1.5, 400)
    assert (total["bytes"], total["scored_bytes"]) == (800, 770)
    assert total["perplexity"] == pytest.approx(math.exp(1.5))
    assert total["bits_per_byte"] == pytest.approx(2 * bits / (380 + 390))
    assert run(["score", "brisk-heron", "a.txt", "b.txt"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == "total"


def test_a_tokenizer_that_does_not_keep_the_text_is_named(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(sampler, a={"scored_bytes": 0, "bits_per_byte": None})
    assert run(["score", "brisk-heron", write("a.txt")]) == 0
    words = "a.txt: no bits per byte, because the tokenizer doesn't keep the text's spaces"
    assert words in capsys.readouterr().err


def test_unknown_tokens_leave_no_bits_per_byte(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(sampler, a={"unknown": 4, "bits_per_byte": None})
    assert run(["score", "brisk-heron", write("a.txt"), write("b.txt")]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert rows["a.txt"] == ["7.39", "–", "all", "100", "4", "(4", "%)"]
    assert rows["total"] == ["7.39", "–", "all", "200", "4", "(2", "%)"]
    assert "a.txt: no bits per byte, because 4 % unknown" in err


def test_a_single_text_is_one_json_object_with_exact_figures(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(sampler)
    assert run(["score", "brisk-heron@3", write("a.txt"), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["loss"] == 2.0
    assert (reported["run"], reported["checkpoint"], reported["now"]) == ("brisk-heron", 3, False)


def test_tokens_are_printed_as_lines_that_can_be_parsed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["score", "brisk-heron", write("a.txt"), "--tokens"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.split("\n")[:-1]]
    assert all(len(row) == 2 for row in rows)
    assert rows[0] == ["", "The"], "nothing predicts the first"
    assert all(float(bits) > 0 for bits, _ in rows[1:])
    texts = [text.encode().decode("raw_unicode_escape") for _, text in rows]
    written = "".join(text for _, text in rows)
    assert all(sign.isprintable() or sign == "\u200d" for sign in written)
    assert r"\x1b[31m" in written
    assert len(texts) == len(prompt_pieces(TEXT))
    assert err.startswith("a.txt: perplexity ")


def test_tokens_of_several_texts_name_their_file_and_json_has_a_line_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [write("a.txt", "one two"), write("b.txt", "three")]
    assert run(["score", "brisk-heron", *files, "--tokens"]) == 0
    out = capsys.readouterr().out
    assert [line.split("\t")[1:] for line in out.splitlines()] == [
        ["one", "a.txt"],
        [" two", "a.txt"],
        ["three", "b.txt"],
    ]
    assert run(["score", "brisk-heron", *files, "--tokens", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["file"], line["text"]) for line in found] == [
        ("a.txt", "one"),
        ("a.txt", " two"),
        ("b.txt", "three"),
    ]
    assert found[0]["bits"] is None
    assert found[1]["bits"] > 0


def test_standard_input_is_scored_from_a_copy_that_is_removed(
    sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = TEXT.encode() * 100_000
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    sizes = list[tuple[int, int]]()

    def answer(request: ScoreRequest) -> ScoreDone:
        found = Path(request.path).stat()
        sizes.append((found.st_size, found.st_mode & 0o777))
        counts = {"tokens": 9, "bytes": 9, "scored_bytes": 9, "unknown": 0}
        return ScoreDone(id="", loss=1, bits_per_byte=1, seconds=0.0, **counts)

    sampler.answers[ScoreRequest] = answer
    assert run(["score", "brisk-heron", "-"]) == 0
    assert sizes == [(len(data), 0o600)]
    assert not Path(scored(sampler)[0].path).exists()
    assert "standard input" in capsys.readouterr().out


def test_a_named_pipe_is_scored(sampler: FakeSampler, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(b"one two three",))
    writer.start()
    assert run(["score", "brisk-heron", "pipe"]) == 0
    writer.join()
    assert capsys.readouterr().out.splitlines()[1].split()[5] == "2"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["missing.txt"], "cannot read missing.txt: No such file or directory"),
        (["."], ". is a folder"),
        (["empty.txt"], "empty.txt is empty"),
        (["-"], "standard input is empty"),
        (["-", "-"], "standard input can be read once"),
        (["/dev/zero"], "/dev/zero is binary: NUL at byte 0"),
    ],
    ids=str,
)
def test_files_that_cannot_be_scored_are_rejected(
    files: list[str],
    words: str,
    sampler: FakeSampler,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("empty.txt", "")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert run(["score", "brisk-heron", *files]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert scored(sampler) == []


def test_of_several_files_one_that_fails_is_reported_and_the_rest_scored(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(sampler)
    assert run(["score", "brisk-heron", "missing.txt", write("a.txt")]) == 2
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["file", "a.txt"]
    assert "cannot read missing.txt" in err
    assert run(["score", "brisk-heron", "missing.txt", "a.txt", "--json"]) == 2
    assert [row["file"] for row in json.loads(capsys.readouterr().out)["files"]] == ["a.txt"]


def test_an_error_names_the_text_and_not_its_copy(
    sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(request: ScoreRequest) -> ScoreDone:
        raise CorpusError(f"{request.path} is not UTF-8 at byte 3", hint="decode it first")

    sampler.answers[ScoreRequest] = refuse
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"abc\xff")))
    assert run(["score", "brisk-heron", "-"]) == 2
    assert "standard input is not UTF-8 at byte 3\ndecode it first" in capsys.readouterr().err


def test_an_unusable_checkpoint_is_one_error(
    sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(checkpoint: str) -> None:
        raise CheckpointError("model.safetensors is damaged")

    monkeypatch.setattr(sampler, "load", refuse)
    assert run(["score", "brisk-heron", write("a.txt"), write("b.txt")]) == 5
    assert capsys.readouterr().err.count("damaged") == 1
