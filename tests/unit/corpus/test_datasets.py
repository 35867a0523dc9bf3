"""Datasets of Python as sources: what is accepted, and what the errors say."""

from __future__ import annotations

import importlib.util
import py_compile
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rnnlm_tui.client.corpora import preview
from rnnlm_tui.client.estimate import estimate
from rnnlm_tui.client.start import check_before_start, check_source, trust_dataset
from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.corpus.datasets import PythonDataset, module_files, remember_dataset
from rnnlm_tui.corpus.sources import Source, open_source
from rnnlm_tui.corpus.tokenizers import load_pretrained
from rnnlm_tui.errors import CorpusError, UntrustedDatasetError
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.corpora import DatasetName, TextLayout
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.runs import create_run
from tests.fakes.llama_tokenizer import write_tokenizer

MODULE = '''
"""Data."""
import array
texts = ["One two.", "Three\\n four. ", "", "Five six seven."]
class Items:
    def __init__(self): self.held = [f"Item {i} is here." for i in range(40)]
    def __len__(self): return len(self.held)
    def __getitem__(self, i): return self.held[i]
made = Items()
def build(): return texts
splits = {"train": ["a b c."], "test": ["d e."], "validation": ["f."]}
wrong_splits = {"train": texts, "dev": texts}
number, text, empty, mixed = 3, "abc", [], ["a", 4.5]
class Broken:
    def __len__(self): return 2
    def __getitem__(self, i): return {"a": 1}["b"]
def fails(): raise ValueError("no disk")
ids = [array.array("l", [5, 6, 7])]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with the module `own_data`, imported anew by each test."""
    before = list(sys.path)
    (tmp_path / "own_data.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "bad_syntax.py").write_text("x = (\n", encoding="utf-8")
    (tmp_path / "needs_other.py").write_text("import not_installed_at_all\n", encoding="utf-8")
    yield tmp_path
    sys.path[:] = before
    for name in ("own_data", "bad_syntax", "needs_other"):
        sys.modules.pop(name, None)


def opened(
    folder: Path, name: str, layout: TextLayout = "sentences", module: str = "python:own_data"
) -> Source:
    source = f"{module}:{name}@{folder}"
    remember_dataset(DatasetName.parse(source), folder)
    return open_source(CorpusConfig(source=source, layout=layout), folder)


def units(source: Source) -> list[tuple[str, list[str]]]:
    return [(found.split, list(found.sentences)) for found in source.documents(lambda _: None)]


def test_each_item_is_a_document(folder: Path) -> None:
    source = opened(folder, "texts")
    assert units(source) == [
        ("train", ["One two."]),
        ("train", ["Three", "four."]),
        ("train", []),
        ("train", ["Five six seven."]),
    ]
    assert source.title == "4 items of own_data:texts"
    assert units(opened(folder, "texts", "lines"))[1] == ("train", ["Three", " four. "])
    assert units(opened(folder, "texts", "raw"))[1] == ("train", ["Three\n", " four. "])


@pytest.mark.parametrize("name", ["Items", "made", "made.held"])
def test_classes_objects_and_their_parts_are_datasets(folder: Path, name: str) -> None:
    assert len(units(opened(folder, name))) == 40


def test_a_function_makes_the_dataset(folder: Path) -> None:
    assert units(opened(folder, "build")) == units(opened(folder, "texts"))


def test_a_mapping_has_its_own_splits(folder: Path) -> None:
    assert units(opened(folder, "splits")) == [
        ("train", ["a b c."]), ("validation", ["f."]), ("test", ["d e."])
    ]  # fmt: skip


def test_a_hash_depends_on_every_item_alone(folder: Path) -> None:
    one = opened(folder, "texts").fingerprint(lambda _: None)
    assert opened(folder, "build").fingerprint(lambda _: None) == one
    assert opened(folder, "texts", "raw").fingerprint(lambda _: None) == one
    assert opened(folder, "Items").fingerprint(lambda _: None) != one


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("python:own_data", "doesn't name a dataset"),
        ("python:own-data:x", "doesn't name a dataset"),
        ("python:own_data:nothing", "own_data has no nothing"),
        ("python:no_such_module_here:x", "no module no_such_module_here"),
        ("python:bad_syntax:x", "SyntaxError"),
        ("python:needs_other:x", "No module named 'not_installed_at_all'.*needs_other.py, line 1"),
        ("python:own_data:number", "int, not a dataset"),
        ("python:own_data:text", "str, not a dataset"),
        ("python:own_data:empty", "is empty"),
        ("python:own_data:wrong_splits", "has the splits train, dev"),
        ("python:own_data:fails", "ValueError: no disk .own_data.py, line"),
        ("python:own_data:Broken", "read item 0 of.*KeyError: 'b' .own_data.py, line"),
        ("python:own_data:mixed", "item 1 of.*is float"),
        ("python:own_data:ids", "token ids, but the run trains a tokenizer"),
    ],
)
def test_errors_say_what_is_wrong_with_the_dataset(folder: Path, source: str, words: str) -> None:
    module, _, name = source.rpartition(":")
    with pytest.raises(CorpusError, match=words):
        units(opened(folder, name, module=module))


def test_a_folder_that_is_gone_is_named(folder: Path) -> None:
    with pytest.raises(CorpusError, match="doesn't exist"):
        PythonDataset(f"python:own_data:texts@{folder / 'gone'}", folder)


def test_token_ids_are_those_that_the_tokenizer_makes(folder: Path) -> None:
    from tokenizers import Tokenizer

    lines = ["The cat sat.", "a b c"]
    (folder / "tokenizer").mkdir()
    size = write_tokenizer(folder / "tokenizer", lines * 9, 300)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    held = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    module = folder / "own_data.py"
    module.write_text(f"good = {held}\nbad = [[{held[0][0]}] * 3 + [10**9]]\n", encoding="utf-8")
    config = TokenizerConfig(kind="pretrained", name=str(folder / "tokenizer"), vocab_size=size)
    load = partial(load_pretrained, config)
    for name in ("good", "bad"):
        remember_dataset(DatasetName.parse(f"python:own_data:{name}@{folder}"), folder)
    dataset = PythonDataset(f"python:own_data:good@{folder}", folder, load)
    assert [text for _, text in dataset.texts()] == lines
    with pytest.raises(CorpusError, match="doesn't make these 4 tokens"):
        list(PythonDataset(f"python:own_data:bad@{folder}", folder, load).texts())


def test_a_corpus_is_prepared_once_and_again_when_an_item_changes(folder: Path) -> None:
    corpus = CorpusConfig(source=f"python:own_data:Items@{folder}")
    training = TrainingConfig(batch_size=2, bptt=4)
    tokenizer = TokenizerConfig(kind="character", vocab_size=64)

    def prepared() -> str:
        remember_dataset(DatasetName.parse(corpus.source), folder / "corpora")
        found = prepare_corpus(corpus, tokenizer, training, folder / "corpora", lambda _: None)
        assert found.manifest.splits["train"].documents > 30
        return found.manifest.hash

    first = prepared()
    assert prepared() == first
    sys.modules.pop("own_data")
    module = folder / "own_data.py"
    module.write_text(MODULE.replace("is here", "was there"), encoding="utf-8")
    assert prepared() != first


def test_the_app_and_the_verbs_never_import_a_dataset(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "own_data.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    config = parse_config(merge(RunConfig(), {"corpus.source": "python:own_data:texts"}))
    check_source(config.corpus)
    with pytest.raises(UntrustedDatasetError, match=str(folder / "own_data.py")):
        check_before_start(config)
    trust_dataset(config.corpus.source)
    check_before_start(config)
    for changes in ({}, {"corpus.source": "elman", "corpus.test_source": config.corpus.source}):
        assert preview(parse_config(merge(config, changes))) is None
        assert estimate(parse_config(merge(config, changes))).text.known == "unknown"
    run = create_run(config, "own")
    assert run.read_config().corpus.source == f"python:own_data:texts@{folder}"
    installed = parse_config(merge(RunConfig(), {"corpus.source": "python:installed.data:x"}))
    run = create_run(installed, "installed")
    assert run.read_config().corpus.source == "python:installed.data:x"
    with pytest.raises(CorpusError, match="doesn't name a dataset"):
        check_source(CorpusConfig(source="python:x"))
    assert "own_data" not in sys.modules


def test_a_dataset_is_trusted_by_its_name_and_what_its_import_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, package = tmp_path / "corpora", tmp_path / "untrusted_data"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    (package / "held.py").write_text("texts = ['a b c.']\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = DatasetName.parse(f"python:untrusted_data.held:texts@{tmp_path}")
    assert module_files(name) == [package / "__init__.py", package / "held.py"]

    def loaded(attribute: str = "texts", folder: Path = tmp_path) -> PythonDataset:
        return PythonDataset(f"python:untrusted_data.held:{attribute}@{folder}", root)

    with pytest.raises(UntrustedDatasetError):
        loaded()
    remember_dataset(name, root)
    (package / "__init__.py").write_text("raise SystemExit('changed')\n", encoding="utf-8")
    with pytest.raises(UntrustedDatasetError, match=r"__init__\.py"):
        loaded()
    (package / "__init__.py").write_text("", encoding="utf-8")
    remember_dataset(name, root)
    remember_dataset(name, root)  # it is on the list already
    with pytest.raises(UntrustedDatasetError, match="another"):
        loaded("another")
    shutil.copytree(package, tmp_path / "other" / package.name)
    with pytest.raises(UntrustedDatasetError, match="other"):
        loaded(folder=tmp_path / "other")
    (package / "held").mkdir()  # Python imports a package before a file of the same name
    (package / "held" / "__init__.py").write_text("raise SystemExit('package')\n", "utf-8")
    with pytest.raises(UntrustedDatasetError, match=r"held/__init__\.py"):
        loaded()
    assert not [module for module in sys.modules if module.startswith("untrusted_data")]
    (package / "held" / "__init__.py").unlink()
    (package / "held").rmdir()
    try:
        assert loaded().items == 1
    finally:
        for module in [one for one in sys.modules if one.startswith("untrusted_data")]:
            del sys.modules[module]


def test_the_source_is_run_and_no_bytecode_beside_it(folder: Path) -> None:
    code, own = folder / "other.py", folder / "own_data.py"
    code.write_text('texts = ["not this"]', encoding="utf-8")
    compiled = importlib.util.cache_from_source(str(own))
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(code), compiled, invalidation_mode=mode)
    name = f"python:own_data:texts@{folder}"
    remember_dataset(DatasetName.parse(name), folder / "corpora")
    texts = [text for _, text in PythonDataset(name, folder / "corpora").texts()]
    assert texts[0] == "One two."


@pytest.mark.parametrize("module", ["sys", "os", "xml.no_such_part"])
def test_parts_of_python_itself_are_no_datasets(module: str) -> None:
    with pytest.raises(CorpusError, match=r"isn't a file|no module"):
        module_files(DatasetName.parse(f"python:{module}:x"))
