"""Figures and texts as people read them: `27.6k`, `2 min 05 s`, `4.1 GiB`, control characters made visible."""

from __future__ import annotations

import math
import unicodedata

NOTHING = "–"
"""What stands where there is no figure."""


def short_count(value: float) -> str:
    """`950`, `27.6k`, `1.2M`: three significant digits where space is scarce."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.1f}{unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """`4 s`, `1 min 39 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = max(0, round(seconds)) if math.isfinite(seconds) else 0
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def age(seconds: float) -> str:
    """`now`, `5 s`, `2 min`, `3 h`, `4 d`: the largest unit alone."""
    if seconds < 1:
        return "now"
    for limit, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{int(seconds // limit)} {unit}"
    return f"{int(seconds)} s"


def file_size(count: float) -> str:
    """`3 KB`, `6.5 MB`, `212 GB`: decimal units, as disks and `ls --si` count."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= limit:
            amount = count / limit
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{count:.0f} B"


def memory_size(count: float) -> str:
    """`0.6 GiB`, `23 GiB`, `81 MiB`: binary units, as memory is sold."""
    for limit, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= limit or (unit == "GiB" and count >= limit / 2):
            amount = count / limit
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{count:.0f} B"


def figure(value: float | None, digits: int = 1) -> str:
    """`58.1`, `27,612`, `8.1e-4`, `–`: a figure with `digits` decimals, in exponent form where that would show nothing."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    if value and abs(value) < 10**-digits:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.{digits}f}"


def visible(text: str, *, keep: str = "\n") -> str:
    """The text with everything that could steer a terminal shown instead: `\\x1b`, C1, bidi marks, lone surrogates; `keep` passes unchanged."""
    return "".join(character if character in keep or not _steers(character) else _escaped(character) for character in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
