"""Your own data: a map-style dataset of Python as a source, named `python:module:attribute`.

The object has `__len__` and `__getitem__` like a torch `Dataset` (a list is one too), or is called
without arguments to make one. Its items are texts or token ids. A mapping from `train`,
`validation` and `test` to such objects has its own splits. `@FOLDER` after the name is the folder
from which the module is imported, by default one of Python's own path.

Importing runs the user's code, so only the process that prepares a corpus does it.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnlm_tui.corpus.text_files import LineReader, raw_units
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.corpora import SPLITS, DatasetName, Split, TextLayout
from rnnlm_tui.schema.formatting import counted

Encode = Callable[[str], Sequence[int]]
Decode = Callable[[Sequence[int]], str]
TokenCodec = tuple[Encode, Decode]
"""A text to token ids, and back."""


class PythonDataset:
    """A loaded dataset, whose items can be read several times.

    Args:
        codec: loads the pretrained tokenizer; returns None if the run trains its own.

    Raises:
        CorpusError: it can't be imported, or isn't a dataset.
    """

    def __init__(self, source: str, codec: Callable[[], TokenCodec | None] | None = None) -> None:
        self.name = DatasetName.parse(source)
        self._load_codec = codec
        self._codec: TokenCodec | None = None
        folder = self.name.folder
        if folder is not None and not folder.is_dir():
            raise CorpusError(
                f"the folder {folder} of the dataset {self.name} doesn't exist",
                hint=f"put {self.name.module} there, or set corpus.source again",
            )
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

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that it has."""
        return tuple(self._splits)

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

    def _import(self) -> Any:
        with _path_first(self.name.folder):
            importlib.invalidate_caches()
            try:
                module = importlib.import_module(self.name.module)
            except ModuleNotFoundError as error:
                if error.name and self.name.module.startswith(error.name):
                    where = self.name.folder or "Python's path"
                    raise CorpusError(
                        f"no module {error.name} in {where}",
                        hint=f"start the run in the folder of {self.name.module}, or install it",
                    ) from error
                raise
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
        if self._codec is None and self._load_codec is not None:
            self._codec = self._load_codec()
        if self._codec is None:
            raise CorpusError(
                f"item {index:,} of the dataset {self.name} has token ids, but the run trains a"
                " tokenizer of its own",
                hint="set tokenizer.kind=pretrained and tokenizer.name to the one that made them",
            )
        encode, decode = self._codec
        with self._errors(f"decode item {index:,} of"):
            text = decode(ids)
        if list(encode(text)) != ids:
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


def item_units(text: str, layout: TextLayout, reader: LineReader) -> Iterable[str]:
    """The units of an item: sentences, lines, or pieces of raw text."""
    if layout == "sentences":
        return reader.split_lines(text)
    return raw_units([text]) if layout == "raw" else reader.kept_lines([text])


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
def _path_first(folder: Path | None) -> Iterator[None]:
    """Let Python find modules in a folder; it stays on the path, for imports that come later."""
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    yield
