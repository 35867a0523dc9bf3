"""Parse decimal numbers typed by the user, and suggest corrections for invalid ones."""

from __future__ import annotations

import re
import unicodedata
from math import isfinite

DECIMAL = re.compile(
    r"[+-]?(?=\.?\d)(?P<whole>0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?:_\d{3})+|)(?P<fraction>\.\d*)?(?P<exponent>e[+-]?\d+)?",
    re.ASCII | re.IGNORECASE,
)
_MOST_DIGITS = 300
"""Longer integers are above every bound, and Python refuses to parse more than 4,300 digits."""


def read_number(text: str) -> int | float | None:
    """Parse a decimal number, with or without thousands separators; None if invalid or too large."""
    found = DECIMAL.fullmatch(text)
    if found is None or len(found["whole"]) > _MOST_DIGITS:
        return None
    plain = re.sub("[,_]", "", text)
    if found["fraction"] is None and found["exponent"] is None:
        return int(plain)
    number = float(plain)
    return number if isfinite(number) else None


def is_infinite(text: str) -> bool:
    """Whether the text is inf, nan or a number too large for a float."""
    return re.fullmatch(r"[+-]?(inf(inity)?|nan)", text, re.ASCII | re.IGNORECASE) is not None or (
        DECIMAL.fullmatch(text) is not None and read_number(text) is None
    )


def number_hint(text: str, *, whole: bool) -> str:
    """What to write instead of an invalid number; empty if that isn't clear."""
    text = text.strip()
    if len(text) > _MOST_DIGITS:
        return ""
    if re.fullmatch(r"[+-]?0[xob][0-9a-f_]+", text, re.ASCII | re.IGNORECASE):
        try:
            return f"write {int(text, 0)}: only decimal numbers are supported"
        except ValueError:
            return ""
    if (plain := text.replace("\u2212", "-")) != text:
        return _suggestion(plain, "the minus sign is -")
    if not text.isascii() and (plain := "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)) != text:
        return _suggestion(plain, "only the digits 0 to 9 are supported")
    if re.fullmatch(r"[+-]?0+\d+(\.\d*)?", text, re.ASCII):
        return _suggestion(re.sub(r"0+(?=\d)", "", text, count=1), "")
    if re.fullmatch(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+", text, re.ASCII) and not (whole and "." not in text):
        return _suggestion(text.replace(".", "").replace(",", "."), "use a decimal point")
    if whole and re.fullmatch(r"[+-]?\d+,\d{1,2}", text, re.ASCII):  # 3,5 may be 3.5 or 35
        return "thousands are separated in groups of three, as in 1,000"
    if re.fullmatch(r"[+-]?\d+([,_]\d+)+", text, re.ASCII):
        return _suggestion(re.sub("[,_]", "", text), "thousands are separated in groups of three, as in 1,000")
    if re.fullmatch(r"[+-]?\d{1,3}([ '’\u00a0\u2009\u202f]\d{3})+|[+-]?[1-9]\d{0,2}(\.\d{3})+", text):
        return _suggestion(re.sub(r"[^\d+-]", "", text), "thousands are separated by a comma, as in 1,000")
    number = read_number(text)
    if whole and isinstance(number, float):
        return f"write {int(number)}" if number.is_integer() and abs(number) < 1e15 else ""
    return f"write {text} without quotes" if number is not None else ""


def _suggestion(plain: str, why: str) -> str:
    return f"write {plain}{': ' if why else ''}{why}" if read_number(plain) is not None else ""
