"""Cleaning, and dividing the text into splits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlm_tui.corpus import splits
from rnnlm_tui.corpus.sources import Advance, Document, Source
from rnnlm_tui.corpus.splits import (
    Pool,
    choose_documents,
    clean,
    read_blocks,
    split_pools,
    split_shares,
    stage,
)
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import CorpusConfig
from rnnlm_tui.schema.corpora import Split


def made_of(*documents: tuple[Split, list[str]]) -> Source:
    def read(_: Advance) -> Iterator[Document]:
        return (Document(split, sentences) for split, sentences in documents)

    return Source("a text", "\n", 0, lambda _: "", read, ("a text",))


def splits_of(
    source: Source, folder: Path, corpus: CorpusConfig | None = None
) -> dict[Split, list[str]]:
    corpus = corpus or CorpusConfig()
    pools = stage(source, corpus, folder, lambda _: None)
    pieces = split_pools(pools, split_shares(pools, corpus))
    return {
        split: [line for block in read_blocks(held) for line in block.decode().splitlines()]
        for split, held in pieces.items()
    }


def test_cleaning_masks_digits_and_lowercases_only_if_configured() -> None:
    assert clean("In 1990, U2\nsang", "sentences", CorpusConfig()) == "In 1990, U2 sang"
    config = CorpusConfig(mask_digits=True, lowercase=True)
    assert clean("In 1990,\nU2", "raw", config) == "in ###,\nu###"


def test_whole_documents_are_split_off(tmp_path: Path) -> None:
    documents: list[tuple[Split, list[str]]] = [
        ("train", [f"{index} {line}" for line in "abc"]) for index in range(40)
    ]
    found = splits_of(made_of(*documents), tmp_path)
    owners = {split: {line.split()[0] for line in lines} for split, lines in found.items()}
    assert len(owners["validation"]) == 2
    assert len(owners["test"]) == 2
    assert not owners["train"] & (owners["validation"] | owners["test"])
    assert not owners["validation"] & owners["test"]
    assert sum(map(len, found.values())) == 120


def test_the_last_lines_are_split_off_a_single_document(tmp_path: Path) -> None:
    lines = [f"line {index:03}" for index in range(200)]
    found = splits_of(
        made_of(("train", lines)),
        tmp_path,
        CorpusConfig(validation_fraction=0.1, test_fraction=0.1),
    )
    assert found["train"] + found["validation"] + found["test"] == lines
    assert (len(found["validation"]), len(found["test"])) == (18, 20)


def test_validation_never_uses_the_source_test_set(tmp_path: Path) -> None:
    train, test = (
        [f"train {index}" for index in range(100)],
        [f"test {index}" for index in range(50)],
    )
    found = splits_of(made_of(("train", train), ("test", test)), tmp_path)
    assert found["test"] == test
    assert found["train"] + found["validation"] == train
    assert found["validation"]


def test_the_source_validation_set_is_used(tmp_path: Path) -> None:
    found = splits_of(made_of(("train", ["a"]), ("validation", ["v"]), ("test", ["t"])), tmp_path)
    assert found == {"train": ["a"], "validation": ["v"], "test": ["t"]}


def test_of_two_documents_one_is_used_for_validation(tmp_path: Path) -> None:
    found = splits_of(made_of(("train", ["a", "b"]), ("train", ["c"]), ("test", ["t"])), tmp_path)
    assert (found["train"], found["validation"]) == (["a", "b"], ["c"])


def test_long_last_lines_are_never_split(tmp_path: Path) -> None:
    lines = ["short"] * 10 + ["x" * 200_000, "y" * 150_000]
    found = splits_of(made_of(("train", lines)), tmp_path)
    assert found == {"train": ["short"] * 10, "validation": [lines[-2]], "test": [lines[-1]]}


def test_a_single_line_can_not_be_split(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="too few lines") as raised:
        splits_of(made_of(("train", ["all on one line"])), tmp_path)
    assert "corpus.test_source" in raised.value.hint


def test_a_source_without_text_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="contains no text"):
        splits_of(made_of(("train", [])), tmp_path)


@pytest.mark.parametrize("count", [2, 3, 10, 51, 1000])
@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.3, 0.49])
def test_chosen_documents_approximate_the_fraction(count: int, fraction: float) -> None:
    sizes = [100 + index * 37 % 53 for index in range(count)]
    chosen = choose_documents(sizes, fraction)
    assert 1 <= len(chosen) < count
    assert abs(sum(sizes[index] for index in chosen) - fraction * sum(sizes)) <= max(
        max(sizes), 0.01 * sum(sizes)
    )
    assert chosen == choose_documents(sizes, fraction)


def test_short_documents_are_not_preferred_among_many() -> None:
    rng = random.Random(8)
    sizes = [rng.choice((20, 100, 500)) for _ in range(6_000)]
    chosen = choose_documents(sizes, 0.05)
    assert len(chosen) == 300
    assert abs(sum(sizes[index] for index in chosen) / 300 - sum(sizes) / 6_000) < 40


@pytest.mark.parametrize("count", [1, 4, 5, 7, 8, 9, 100])
def test_many_documents_are_grouped_without_gaps(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "MAX_UNITS", 4)
    pool = Pool(tmp_path / "a")
    for index in range(count):
        pool.end_document(10 * (index + 1))
    units = pool.units()
    assert len(units) <= 5
    assert [unit.start for unit in units] == [0, *(unit.end for unit in units[:-1])]
    assert (units[-1].end, sum(unit.documents for unit in units)) == (10 * count, count)
    assert all(unit.end - unit.start == 10 * unit.documents for unit in units)


def test_batches_have_a_limited_number_of_bytes(tmp_path: Path) -> None:
    pools = stage(
        made_of(("train", ["x" * 50_000] * 100), ("test", ["t"]), ("validation", ["v"])),
        CorpusConfig(),
        tmp_path,
        lambda _: None,
    )
    blocks = list(read_blocks(split_pools(pools, split_shares(pools, CorpusConfig()))["train"]))
    assert b"".join(blocks) == (b"x" * 50_000 + b"\n") * 100
    assert max(map(len, blocks)) < 400_000
