"""Your own data: a map-style dataset of Python as a source, named `python:module:attribute`.

The object has `__len__` and `__getitem__` like a torch `Dataset` (a list is one too), or is called
without arguments to make one. Its items are texts or token ids. A mapping from `train`,
`validation` and `test` to such objects has its own splits. `@FOLDER` after the name is the folder
from which the module is imported, by default one of Python's own path.

Importing runs the code of whoever wrote the module. Only the process that prepares a corpus does
it, and only after the user has named the dataset in this home: `remember_dataset` keeps the hashes
of its files.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from rnnlm_tui.errors import CorpusError, UntrustedDatasetError
from rnnlm_tui.schema.corpora import SPLITS, DatasetName, Split
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.system.files import (
    make_private_directory,
    read_at_most,
    storage_errors,
    write_text_atomically,
)

LoadTokenizer = Callable[[], Any]
"""Loads a run's pretrained `BuiltTokenizer`. This module doesn't import that class: the app asks
about datasets, too, and has to start fast."""

TRUSTED_NAME = "trusted-datasets.txt"
"""In the corpora folder, a line for each file that a trusted dataset's import runs: SHA-256, module
and attribute, path."""
_MOST_BYTES = 64 * 2**20
"""A larger file isn't trusted."""


def module_files(name: DatasetName) -> list[Path]:
    """The files that importing a dataset's module runs: it, after the packages that hold it.

    Found as Python's import finds them, but nothing is imported.

    Raises:
        CorpusError: there is no such module, or it isn't a file.
    """
    folder = name.folder
    if folder is not None and not folder.is_dir():
        raise CorpusError(
            f"the folder {folder} of the dataset {name} doesn't exist",
            hint=f"put {name.module} there, or set corpus.source again",
        )
    importlib.invalidate_caches()
    where, files = "Python's path", list[Path]()
    places: Sequence[str] | None = None if folder is None else [str(folder), *sys.path]
    parts = name.module.split(".")
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        found = (finder.find_spec(module, places) for finder in sys.meta_path)
        spec = None if places == [] else next(filter(None, found), None)
        if spec is None:
            raise CorpusError(
                f"no module {module} in {folder or where}",
                hint=f"start the run in the folder of {name.module}, or install it",
            )
        if spec.has_location and spec.origin is not None:
            files.append(Path(spec.origin))
        elif depth == len(parts):
            raise CorpusError(
                f"the module {module} of the dataset {name} isn't a file of Python code",
                hint="name the module that defines the dataset",
            )
        places = list(spec.submodule_search_locations or ())
    return files


def check_trusted(name: DatasetName, root: Path) -> Path:
    """The module's file, if the user has named the dataset in this home and no file changed since.

    Args:
        root: the corpora folder.

    Raises:
        UntrustedDatasetError: it isn't trusted; names the file that it would run.
        CorpusError: there is no such module, or it can't be read.
    """
    known, lines = _trusted(root), _lines_of(name)
    for path, line in lines:
        if line not in known:
            raise UntrustedDatasetError(name.source, str(path))
    return lines[-1][0]


def remember_dataset(name: DatasetName, root: Path) -> None:
    """Remember that the user trusts a dataset, with its files as they are now.

    Args:
        root: the corpora folder.

    Raises:
        CorpusError: there is no such module, or it can't be read.
        StorageError: the list can't be written.
    """
    known = _trusted(root)
    lines = [line for _, line in _lines_of(name) if line not in known]
    if lines:
        make_private_directory(root)
        write_text_atomically(root / TRUSTED_NAME, "".join(f"{line}\n" for line in known + lines))


def _lines_of(name: DatasetName) -> list[tuple[Path, str]]:
    """Each file of a dataset, with its line in the list of trusted ones."""
    lines = []
    for path in module_files(name):
        try:
            digest = hashlib.sha256(read_at_most(path, _MOST_BYTES)).hexdigest()
        except OSError as error:
            raise CorpusError(
                f"can't read {path} of the dataset {name}: {error.strerror or error}"
            ) from error
        lines.append((path, f"{digest} {name} {str(path)!a}"))
    return lines


def _trusted(root: Path) -> list[str]:
    """The line of each trusted file: its hash, the dataset's name and its place.

    The place counts: what the module itself imports from its folder isn't hashed.
    """
    path = root / TRUSTED_NAME
    with storage_errors("read", path), suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


class PythonDataset:
    """A loaded dataset, whose items can be read several times.

    This is the only place that imports its module.

    Args:
        root: the corpora folder, which lists the trusted datasets.
        load: loads the tokenizer for items of token ids; None if the run trains its own.

    Raises:
        UntrustedDatasetError: the user hasn't named it in this home; nothing was imported.
        CorpusError: it can't be imported, or isn't a dataset.
    """

    def __init__(self, source: str, root: Path, load: LoadTokenizer | None = None) -> None:
        self.name = DatasetName.parse(source)
        self._load = load
        check_trusted(self.name, root)
        with self._errors("import"):
            found = self._import()
        if isinstance(found, Mapping):
            self._splits = self._by_split(found)
        else:
            self._splits = {"train": self._checked(found, "")}

    @property
    def items(self) -> int:
        """The number of items."""
        return sum(len(held) for held in self._splits.values())

    def texts(self) -> Iterator[tuple[Split, str]]:
        """Every item as a text, with its split.

        Raises:
            CorpusError: an item can't be read, or is neither a text nor token ids.
        """
        for split, held in self._splits.items():
            for index in range(len(held)):
                with self._errors(f"read item {index:,} of"):
                    item = held[index]
                yield split, self._text(item, index)

    def fingerprint(self, advance: Callable[[int], None]) -> str:
        """SHA-256 of all items: splits, lengths and texts."""
        digest = hashlib.sha256()
        for split, text in self.texts():
            data = text.encode()
            digest.update(f"{split} {len(data)}\n".encode())
            digest.update(data)
            advance(len(data))
        return digest.hexdigest()

    @cached_property
    def _tokenizer(self) -> Any:
        return None if self._load is None else self._load().tokenizer

    def _import(self) -> Any:
        with _path_first(self.name.folder), _no_bytecode():
            module = importlib.import_module(self.name.module)
            found: Any = module
            for part in self.name.attribute.split("."):
                if not hasattr(found, part):
                    raise CorpusError(f"{self.name.module} has no {self.name.attribute}")
                found = getattr(found, part)
            if callable(found) and (isinstance(found, type) or not hasattr(found, "__getitem__")):
                found = found()
            return found

    def _by_split(self, found: Mapping[Any, Any]) -> dict[Split, Any]:
        others = [key for key in found if key not in SPLITS]
        if others or "train" not in found:
            raise CorpusError(
                f"the dataset {self.name} has the splits {', '.join(map(str, found))}",
                hint="its keys must be train, and optionally validation and test",
            )
        return {
            split: self._checked(found[split], f" {split}") for split in SPLITS if split in found
        }

    def _checked(self, found: Any, where: str) -> Any:
        """The object, if it has a length and items."""
        if isinstance(found, str | bytes) or not (
            hasattr(found, "__getitem__") and hasattr(found, "__len__")
        ):
            raise CorpusError(
                f"{self.name}{where} is {type(found).__name__}, not a dataset with __len__ and"
                " __getitem__",
                hint="use a map-style torch Dataset, a list, or a function that returns one",
            )
        with self._errors("read the length of"):
            if not len(found):
                raise CorpusError(f"the dataset {self.name}{where} is empty")
        return found

    def _text(self, item: Any, index: int) -> str:
        if isinstance(item, str):
            return item.encode("utf-8", "replace").decode()  # without lone surrogates
        if hasattr(item, "tolist"):
            item = item.tolist()  # a tensor or an array
        if isinstance(item, Sequence) and all(type(token) is int for token in item):
            return self._decoded(list(item), index)
        raise CorpusError(
            f"item {index:,} of the dataset {self.name} is {type(item).__name__}, must be a text or"
            " token ids",
            hint="let __getitem__ return a str, or a list, array or tensor of whole numbers",
        )

    def _decoded(self, ids: list[int], index: int) -> str:
        """Token ids as the text that the run's tokenizer splits into just these ids."""
        tokenizer = self._tokenizer
        if tokenizer is None:
            raise CorpusError(
                f"item {index:,} of the dataset {self.name} has token ids, but the run trains a"
                " tokenizer of its own",
                hint="set tokenizer.kind=pretrained and tokenizer.name to the one that made them",
            )
        with self._errors(f"decode item {index:,} of"):
            text = str(tokenizer.decode(ids, skip_special_tokens=False))
        if tokenizer.encode(text, add_special_tokens=False).ids != ids:
            raise CorpusError(
                f"item {index:,} of the dataset {self.name}: the run's tokenizer doesn't make these"
                f" {counted(len(ids), 'token')} of their text",
                hint="set tokenizer.name to the one that made them, or let items be texts",
            )
        return text

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Say what the user's code raised, and in which line of it."""
        try:
            yield
        except CorpusError:
            raise
        except Exception as error:
            place = _last_line(error)
            raise CorpusError(
                f"can't {doing} the dataset {self.name}: {type(error).__name__}: {error}{place}",
                hint="the traceback is in the run's log",
            ) from error


def _last_line(error: Exception) -> str:
    """` (data.py, line 12)`: where the user's code failed."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "importlib" not in name and Path(__file__).name != Path(name).name:
            place = f" ({Path(name).name}, line {trace.tb_lineno:,})"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({Path(error.filename).name}, line {error.lineno})"
    return place


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Import from source: a `.pyc` beside a trusted file may be of other code."""
    before = sys.pycache_prefix
    with tempfile.TemporaryDirectory() as empty:
        sys.pycache_prefix = empty
        try:
            yield
        finally:
            sys.pycache_prefix = before


@contextmanager
def _path_first(folder: Path | None) -> Iterator[None]:
    """Let Python find modules in a folder first, as `module_files` does; it stays on the path, for
    imports that come later."""
    if folder is not None and sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
    yield
