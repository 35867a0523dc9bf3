"""The verb `score` with a fake sampler: tables, JSON, token lines, and files that can't be read."""

from __future__ import annotations

import io
import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.errors import CheckpointError, CorpusError
from rnnlm_tui.schema.sampling import FolderReading, ScoreDone, ScoreRequest
from tests.fakes.answers import prompt_pieces
from tests.tui.fakes import FakeSampler
from tests.unit.cli.calls import Verbs
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


def answer_with(sampler: FakeSampler, **figures: Mapping[str, object]) -> None:
    """Answer a file by its name with these figures."""

    def answer(request: ScoreRequest) -> ScoreDone:
        facts: dict[str, object] = {
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


def test_a_text_is_scored_in_one_row(sampler: FakeSampler, verb: Verbs) -> None:
    figures = {"tokens": 3_000, "bits_per_byte": 1.5432, "scored_bytes": 216}
    answer_with(sampler, book={"loss": math.log(41.234), **figures})
    said = verb(f"score brisk-heron {write('book.txt')}")
    assert said.rows == [
        ["file", "perplexity", "bits/byte", "scored", "tokens", "unknown"],
        ["book.txt", "41.2", "1.543", "54", "%", "3,000", "0"],
    ]
    assert said.err == "3,000 tokens, 6,000 tok/s, from brisk-heron@2\n"
    assert [(one.path, one.tokens) for one in scored(sampler)] == [
        (str(Path("book.txt").absolute()), False)
    ]
    assert sampler.loaded[0].endswith("step-000000002")
    reported = verb.json("score brisk-heron@3 book.txt")
    assert (reported["file"], reported["loss"]) == ("book.txt", math.log(41.234))
    assert (reported["run"], reported["checkpoint"], reported["now"]) == ("brisk-heron", 3, False)
    assert reported["path"].endswith("step-000000003")


def test_a_folders_model_is_scored_with_its_window(sampler: FakeSampler, verb: Verbs) -> None:
    answer_with(sampler, a={"window": 1_024, "stride": 512, "start": ""})
    said = verb(f"score --model . {write('a.txt')} --stride 512 --allow-code")
    how = "window 1,024, stride 512, BOS none, so the first token isn't scored"
    assert said.err.endswith(f", {how}\n")
    reading = FolderReading(stride=512, allow_code=True)
    assert [(one.checkpoint, one.folder) for one in scored(sampler)] == [(str(Path.cwd()), reading)]
    own, found = verb.json("score brisk-heron a.txt"), verb.json("score --model . a.txt")
    assert found.keys() - own.keys() == {"model"}
    assert found["model"] == Path.cwd().name


def test_a_continuous_cache_adds_its_perplexity(sampler: FakeSampler, verb: Verbs) -> None:
    answer_with(sampler, a={"cache_loss": 1.0}, b={"tokens": 300, "cache_loss": 1.4})
    rows = verb(f"score brisk-heron {write('a.txt')} {write('b.txt')} --cache 500").rows
    assert [row[1:3] for row in rows[1:]] == [["7.39", "2.72"], ["7.39", "4.06"], ["7.39", "3.67"]]
    reported = verb.json("score brisk-heron a.txt --cache 9 --cache-theta 1 --cache-lambda 0.5")
    asked = scored(sampler)[-1]
    assert (asked.cache, asked.cache_theta, asked.cache_lambda) == (9, 1, 0.5)
    assert reported["cache_perplexity"] == pytest.approx(math.e)
    assert "2.72 with the cache" in verb("score brisk-heron a.txt --cache 9 --tokens").err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("brisk-heron", "missing argument 'FILE...'"),
        ("brisk-heron a.txt --window 5", "--window, --stride and --allow-code need --model"),
        ("--model . brisk-heron a.txt", "RUN and --model are mutually exclusive"),
        ("--model . a.txt --window 1", "--window is 1, must be greater than or equal to 2"),
        ("brisk-heron a.txt --cache 9 --cache-lambda 2", "--cache-lambda is 2.0, must be less"),
    ],
)
def test_options_that_do_not_fit_are_rejected(line: str, words: str, verb: Verbs) -> None:
    write("a.txt")
    assert words in verb(f"score {line}", code=2).err


def test_progress_is_shown_on_a_terminal_and_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    score = ["score", "brisk-heron", write("book.txt")]
    sent = sent_to_terminal(monkeypatch, 80, lambda: run(score))
    assert "\rscoring book.txt: 4 of 8 tokens\x1b[K\r\x1b[K" in sent


def test_several_texts_have_a_total_as_if_they_were_one(sampler: FakeSampler, verb: Verbs) -> None:
    bits = 300 / math.log(2)
    answer_with(
        sampler,
        a={"loss": 1.0, "tokens": 300, "bits_per_byte": bits / 380, "scored_bytes": 380},
        b={"loss": 3.0, "tokens": 100, "bits_per_byte": bits / 390, "scored_bytes": 390},
    )
    files = f"{write('a.txt')} {write('b.txt')}"
    reported = verb.json(f"score brisk-heron@last {files}")
    assert [(row["file"], row["tokens"], row["checkpoint"]) for row in reported["files"]] == [
        ("a.txt", 300, 3),
        ("b.txt", 100, 3),
    ]
    total = reported["total"]
    assert (total["loss"], total["tokens"]) == (1.5, 400)
    assert (total["bytes"], total["scored_bytes"]) == (800, 770)
    assert total["perplexity"] == pytest.approx(math.exp(1.5))
    assert total["bits_per_byte"] == pytest.approx(2 * bits / (380 + 390))
    assert verb(f"score brisk-heron {files}").firsts == ["a.txt", "b.txt", "total"]


@pytest.mark.parametrize(
    ("figures", "cells", "why"),
    [
        ({"scored_bytes": 0}, "7.39 – 0 % 100 0", "the tokenizer doesn't keep the text's spaces"),
        ({"unknown": 4}, "7.39 – all 100 4 (4 %)", "4 % unknown: the bytes of an unknown token"),
    ],
)
def test_a_text_without_bits_per_byte_has_the_reason(
    figures: dict[str, float | None],
    cells: str,
    why: str,
    sampler: FakeSampler,
    verb: Verbs,
) -> None:
    answer_with(sampler, a={**figures, "bits_per_byte": None})
    said = verb(f"score brisk-heron {write('a.txt')} {write('b.txt')}")
    rows = {row[0]: row[1:] for row in said.rows}
    assert rows["a.txt"] == cells.split()
    assert rows["total"][1] == "–"
    assert f"a.txt: no bits per byte, because {why}" in said.err
    assert "b.txt:" not in said.err


def test_tokens_are_printed_as_lines_that_can_be_parsed(verb: Verbs) -> None:
    said = verb(f"score brisk-heron {write('a.txt')} --tokens")
    rows = [line.split("\t") for line in said.out.split("\n")[:-1]]
    assert all(len(row) == 2 for row in rows)
    assert rows[0] == ["", "The"], "nothing predicts the first"
    assert all(float(bits) > 0 for bits, _ in rows[1:])
    written = "".join(text for _, text in rows)
    assert all(sign.isprintable() or sign == "\u200d" for sign in written)
    assert r"\x1b[31m" in written
    assert len(rows) == len(prompt_pieces(TEXT))
    assert said.err.startswith("a.txt: perplexity ")


def test_tokens_of_several_texts_name_their_file_and_json_has_a_line_each(verb: Verbs) -> None:
    files = f"{write('a.txt', 'one two')} {write('b.txt', 'three')}"
    lines = verb(f"score brisk-heron {files} --tokens").out.splitlines()
    assert [line.split("\t")[1:] for line in lines] == [
        ["one", "a.txt"],
        [" two", "a.txt"],
        ["three", "b.txt"],
    ]
    out = verb(f"score brisk-heron {files} --tokens --json").out
    found = list(map(json.loads, out.splitlines()))
    assert [(line["file"], line["text"]) for line in found] == [
        ("a.txt", "one"),
        ("a.txt", " two"),
        ("b.txt", "three"),
    ]
    assert found[0]["bits"] is None
    assert found[1]["bits"] > 0


def test_standard_input_is_scored_from_a_copy_that_is_removed(
    sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch, verb: Verbs
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
    assert "standard input" in verb("score brisk-heron -").out
    assert sizes == [(len(data), 0o600)]
    assert not Path(scored(sampler)[0].path).exists()


def test_a_named_pipe_is_scored(verb: Verbs) -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(b"one two three",))
    writer.start()
    assert verb("score brisk-heron pipe").rows[1][5] == "2"
    writer.join()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("missing.txt", "cannot read missing.txt: No such file or directory"),
        (".", ". is a folder"),
        ("empty.txt", "empty.txt is empty"),
        ("-", "standard input is empty"),
        ("- -", "standard input can be read once"),
        ("/dev/zero", "/dev/zero is binary: NUL at byte 0"),
        ("nul.txt -", "standard input is binary: NUL at byte 1,048,577"),
    ],
)
def test_files_that_cannot_be_scored_are_rejected(
    files: str,
    words: str,
    sampler: FakeSampler,
    monkeypatch: pytest.MonkeyPatch,
    verb: Verbs,
) -> None:
    write("empty.txt", "")
    data = b"x" * (2**20 + 1) + b"\0" if files.startswith("nul") else b""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    said = verb(f"score brisk-heron {files}", code=2)
    assert words in said.err
    assert said.out == ""
    assert scored(sampler) == []


def test_of_several_files_one_that_fails_is_reported_and_the_rest_scored(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(sampler)
    words = ["score", "brisk-heron", "missing.txt", write("a.txt")]
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["file", "a.txt"]
    assert "cannot read missing.txt" in err
    assert run([*words, "--json"]) == 2
    assert [row["file"] for row in json.loads(capsys.readouterr().out)["files"]] == ["a.txt"]


def test_an_error_names_the_text_and_not_its_copy(
    sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    def refuse(request: ScoreRequest) -> ScoreDone:
        raise CorpusError(f"{request.path} is not UTF-8 at byte 3", hint="decode it first")

    sampler.answers[ScoreRequest] = refuse
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"abc\xff")))
    err = verb("score brisk-heron -", code=2).err
    assert "standard input is not UTF-8 at byte 3\ndecode it first" in err


def test_an_unusable_checkpoint_is_one_error(
    sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    async def refuse(*_: object) -> None:
        raise CheckpointError("model.safetensors is damaged")

    monkeypatch.setattr(sampler, "load", refuse)
    err = verb(f"score brisk-heron {write('a.txt')} {write('b.txt')}", code=5).err
    assert err.count("damaged") == 1
