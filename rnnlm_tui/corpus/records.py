"""Read the text from records in JSON Lines, CSV, TSV and JSON files, one record at a time."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from rnnlm_tui.corpus.text_files import LineReader, text_suffix
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.formatting import counted

MAX_RECORD_BYTES = 64 * 2**20
"""Longer records are rejected, because each record is held in memory."""

_AS_JSON = "a .jsonl file must contain one JSON object per line, a .json file an array of objects"
_MARK = "\ufeff"
_SPACE = re.compile(r"\s*")


def read_records(reader: LineReader, field: str) -> Iterator[str]:
    """Read a field (or column) of each record, skipping empty ones.

    Raises:
        CorpusError: a record is invalid or lacks the field, or the file can't be read.
    """
    suffix = text_suffix(reader.path)
    blocks = reader.text()
    if suffix in (".csv", ".tsv"):
        return _table(reader.path, blocks, field)
    if suffix != ".json":
        return _json_lines(reader.path, blocks, field)
    first = next(blocks, "").removeprefix(_MARK)
    return (_json_array if first.lstrip().startswith("[") else _json_lines)(
        reader.path, chain([first], blocks), field
    )


def _lines(path: Path, blocks: Iterator[str], longest: int) -> Iterator[str]:
    """Lines with their line breaks, without a byte order mark."""
    rest = ""
    first = True
    number = 0
    for block in blocks:
        text = rest + (block.removeprefix(_MARK) if first else block)
        first = False
        *lines, rest = text.split("\n")
        number += len(lines)
        if len(rest) > longest:
            raise CorpusError(
                f"{path}, line {number + 1:,}: the record is longer than {longest:,} bytes",
                hint="split it into several records",
            )
        for line in lines:
            yield f"{line}\n"
    if rest:
        yield rest


def _json_lines(path: Path, blocks: Iterator[str], field: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path, blocks, MAX_RECORD_BYTES), 1):
        if line.strip():
            where = f"{path}, line {number:,}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{where}: invalid JSON ({error})", hint=_AS_JSON) from error
            yield _text(where, record, field)


def _json_array(path: Path, blocks: Iterator[str], field: str) -> Iterator[str]:
    decoder = json.JSONDecoder()
    buffer = next(blocks)
    # A position in the buffer, because slicing it would copy a megabyte for each record.
    place, number = buffer.index("[") + 1, 1
    while True:
        where = f"{path}, record {number:,}"
        begin = _skip_space(buffer, place)
        if buffer.startswith("]", begin):
            return
        if number > 1:
            if begin < len(buffer) and buffer[begin] != ",":
                raise CorpusError(f"{where}: invalid JSON (missing comma)", hint=_AS_JSON)
            begin = _skip_space(buffer, begin + 1)
        try:
            record, end = decoder.raw_decode(buffer, begin)
        except (ValueError, RecursionError) as error:
            more = next(blocks, None)
            if more is None or len(buffer) - place > MAX_RECORD_BYTES:
                raise CorpusError(f"{where}: invalid JSON ({error})", hint=_AS_JSON) from error
            buffer, place = buffer[place:] + more, 0
            continue
        yield _text(where, record, field)
        place = end
        number += 1


def _skip_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _table(path: Path, blocks: Iterator[str], field: str) -> Iterator[str]:
    lines = _lines(path, blocks, MAX_RECORD_BYTES)
    header = next(lines, "")
    separator = "\t" if text_suffix(path) == ".tsv" else max(",;\t|", key=header.count)
    csv.field_size_limit(MAX_RECORD_BYTES)
    rows = csv.reader(chain([header], lines), delimiter=separator, strict=True)
    try:
        names = next(rows, [])
        if field not in names:
            raise CorpusError(
                f'{path} has no column "{field}"',
                hint=(
                    f"its columns: {', '.join(names) or 'none'}; set corpus.text_field to the one"
                    " with the text"
                ),
            )
        column = names.index(field)
        for row in rows:
            if not row:
                continue
            if len(row) <= column:
                raise CorpusError(
                    f"{path}, line {rows.line_num:,}: {counted(len(row), 'column')}, but the header"
                    f" has {len(names)}"
                )
            if row[column]:
                yield row[column]
    except csv.Error as error:
        raise CorpusError(
            f"{path}, line {rows.line_num:,}: invalid row or missing closing quote ({error})",
            hint="write quotes inside a field twice",
        ) from error


def _text(where: str, record: object, field: str) -> str:
    if not isinstance(record, dict):
        raise CorpusError(
            f"{where}: must be a JSON object, not {type(record).__name__}", hint=_AS_JSON
        )
    value = record.get(field)
    if not isinstance(value, str):
        known = (
            ", ".join(str(key) for key, held in record.items() if isinstance(held, str)) or "none"
        )
        raise CorpusError(
            f'{where}: no text in the field "{field}"',
            hint=f"its fields with text: {known}; set corpus.text_field to one of them",
        )
    return value.encode("utf-8", "replace").decode()
