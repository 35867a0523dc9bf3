"""Format numbers and other values for display, and parse numbers typed by the user.

Make text safe to show in a terminal, and write it in one line with escape sequences.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.errors import DeviceError

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import RankReading
    from rnnlm_tui.schema.summary import RunSummary


NOTHING = "–"
"""Shown for a missing value."""

GIB = 2**30
LARGEST_WRITTEN_OUT = 1e9
"""Numbers from here on are written like `1.2e36`, even with fixed decimals."""
MINUTE, HOUR, DAY = 60, 3600, 86400
LATEST = 253_402_214_400.0
"""Unix seconds of the last day of the year 9999: libraries can't format a later time."""


def count(value: float | None) -> str:
    """An integer with thousands separators: `3,751`."""
    if value is None or math.isnan(value):
        return NOTHING
    return _infinite(value) or f"{round(value):,}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A count with its noun: `1 step`, `3,751 steps`; `plural` for irregular plurals."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def first_of(words: Sequence[str], most: int) -> str:
    """The first `most` words and the number of others: `a, b and 3 more`."""
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def short(value: float | None) -> str:
    """A number in three significant digits with k, M, G or T: `543k`, `27.6k`, `1.2M`, `812`."""
    if value is None or math.isnan(value):
        return NOTHING
    if sign := _infinite(value):
        return sign
    if value == 0:
        return "0"
    if abs(value) >= 999.5e12:
        return scientific(value)
    scaled, letter = next(
        (value / 1000**index, letter)
        for index, letter in enumerate(("", "k", "M", "G", "T"))
        if abs(value) < 999.5 * 1000**index
    )
    if abs(scaled) >= 99.95 or (not letter and abs(scaled) >= 9.995):
        return f"{scaled:,.0f}{letter}"
    text = f"{scaled:.1f}" if letter or abs(scaled) >= 9.995 else f"{scaled:.2f}"
    return (text.rstrip("0").rstrip(".") if letter else text) + letter


def flops(value: float) -> str:
    """Floating-point operations in three significant digits: `2.3 GFLOP`, `1.2 PFLOP`."""
    letters = "MGTPE"
    power = next((power for power in range(5) if value < 999.5 * 1000 ** (power + 2)), 4)
    return f"{figure(value / 1000 ** (power + 2))} {letters[power]}FLOP"


def figure(value: float | None, digits: int | None = None) -> str:
    """A measured number such as a loss: `2,003`, `443`, `58.1`, `3.93`, `8.1e-4`, `1.2e36`.

    Args:
        digits: number of decimals; None for about three significant digits.
    """
    if value is None or math.isnan(value):
        return NOTHING
    if sign := _infinite(value):
        return sign
    if digits is not None and (not value or 10**-digits <= abs(value) < LARGEST_WRITTEN_OUT):
        return f"{value:,.{digits}f}"
    size = abs(value)
    if size >= 1e6:
        return scientific(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.00995 or size == 0:
        return f"{value:.2f}"
    return scientific(value)


def perplexity_text(value: float | None) -> str:
    """A perplexity: `58.1`, `3.51`: two decimals below 10, where one would hide differences."""
    return figure(value, 2 if value is not None and value < 10 else 1)


def exact(value: float) -> str:
    """A setting's number with all its digits: `0.0003`, `1e-05`, `0.00123456789`."""
    brief = f"{value:g}"
    return brief if float(brief) == value else repr(value)


def plain(value: object) -> str:
    """A bound, or a value beyond it: `65,536`, `0.01`; identifiers such as seeds have no commas."""
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and value < 10**12 else str(value)


def scientific(value: float | None, digits: int = 1) -> str:
    """A number such as a learning rate: `8.1e-4`, `4e-3`."""
    if value is None or math.isnan(value):
        return NOTHING
    if sign := _infinite(value):
        return sign
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"


def percent(fraction: float | None) -> str:
    """A fraction between 0 and 1 as `79 %`; never `100 %` below 1."""
    if fraction is None or math.isnan(fraction):
        return NOTHING
    return f"{99 if 0.99 < fraction < 1 else round(fraction * 100)} %"


def share(fraction: float | None) -> str:
    """A fraction in percent, never rounded to 0: `12 %`, `0.2 %`, `0.04 %`."""
    if fraction is None or not 0 < fraction < 0.0095:
        return percent(fraction)
    return f"{fraction * 100:.1g} %" if fraction > 1e-6 else f"{scientific(fraction * 100, 0)} %"


def unknown_share_text(fraction: float | None) -> str:
    """`4 % unknown`, the fraction of unknown tokens; empty if none or not counted."""
    return f"{share(fraction)} unknown" if fraction else ""


def scored_share_text(fraction: float | None) -> str:
    """`54 %`, the fraction of a text that was scored; `all` from 99.5 %, since nothing predicts the
    first token."""
    return "all" if fraction is not None and fraction >= 0.995 else share(fraction)


def scored_part_text(fraction: float | None) -> str:
    """`54 % of the text`; empty if all of it was scored, or it was not counted."""
    words = scored_share_text(fraction)
    return "" if words in ("all", NOTHING) else f"{words} of the text"


TEXT_NOT_KEPT = "the tokenizer doesn't keep the text's spaces or letters"
"""Why no bytes were scored."""


def bits_per_byte_text(
    bits: float | None,
    unknown_share: float | None,
    scored_share: float | None,
    *,
    digits: int = 2,
    unit: str = "bits a byte",
) -> str:
    """`1.54 bits a byte of 54 % of the text, 0.04 % unknown`, or `no bits a byte: 4 % unknown`, or
    empty.
    """
    unknown = unknown_share_text(unknown_share)
    if bits is None:
        reason = TEXT_NOT_KEPT if scored_share == 0 else unknown
        return f"no {unit}: {reason}" if reason else ""
    scored = scored_part_text(scored_share)
    of_text, and_unknown = f" of {scored}" if scored else "", f", {unknown}" if unknown else ""
    return f"{figure(bits, digits)} {unit}{of_text}{and_unknown}"


def change(value: float | None) -> str:
    """A difference with a sign: `−14.9`, `+0.3`."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{'−' if value < 0 else '+'}{figure(abs(value))}"


def duration(seconds: float | None) -> str:
    """`24 s`, `1 min 39 s`, `2 h 05 min`, `3 d 04 h`; with tenths below two seconds: `0.4 s`."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    seconds = max(0.0, seconds)
    if 0 < seconds < 1.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR:02d} h"


def about(seconds: float | None) -> str:
    """An estimated duration: `≈ 2 min 05 s`."""
    return (
        NOTHING
        if seconds is None or not math.isfinite(seconds)
        else f"≈ {duration(round(seconds))}"
    )


def age(seconds: float | None) -> str:
    """How long ago, in one unit: `now`, `40 s`, `5 min`, `2 h`, `1 d`."""
    if seconds is None or not abs(seconds) <= LATEST:
        return NOTHING
    if seconds < 10:
        return "now"
    units = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s"))
    size, unit = next((size, unit) for size, unit in units if seconds >= size)
    return f"{int(seconds // size)} {unit}"


def ago(seconds: float) -> str:
    """`just now`, or `5 min ago`."""
    word = age(seconds)
    return "just now" if word == "now" else f"{word} ago"


def epoch_of(epoch: float, epochs: float | None) -> tuple[str, str]:
    """The epoch and the number of epochs with matching decimals: `6.3` of `8`.

    The second text is empty if the number of epochs is unknown.
    """
    if not epochs:
        return f"{epoch:.1f}", ""
    if epochs < 0.01:
        decimals = 1 - math.floor(math.log10(epochs))
        return f"{min(epoch, epochs):.{decimals}f}", f"{epochs:.{decimals}f}"
    whole = f"{round(epochs, 2):g}"
    return f"{min(epoch, epochs):.{max(1, len(whole.partition('.')[2]))}f}", whole


def gib(size: float | None) -> str:
    """Memory in GiB without the unit: `0.6`, `4.7`, `23`."""
    if size is None or math.isnan(size):
        return NOTHING
    value = size / GIB
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def memory(size: float | None) -> str:
    """Memory: `0.6 GiB`, or `62 MiB` below a tenth of a GiB."""
    if size is None or math.isnan(size):
        return NOTHING
    return f"{size / 2**20:.0f} MiB" if size < 0.095 * GIB else f"{gib(size)} GiB"


def disk(size: float | None) -> str:
    """Disk space in decimal units: `39 MB`, `212 GB`, `1.2 TB`."""
    if size is None or math.isnan(size):
        return NOTHING
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def _infinite(value: float) -> str:
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else ""


DECIMAL = re.compile(
    r"[+-]?(?=\.?\d)(?P<whole>0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?:_\d{3})+|)(?P<fraction>\.\d*)?(?P<exponent>e[+-]?\d+)?",
    re.ASCII | re.IGNORECASE,
)
_MOST_DIGITS = 300
"""Longer integers are above every bound, and Python refuses to parse more than 4,300 digits."""


def read_number(text: str) -> int | float | None:
    """Parse a decimal number, with or without thousands separators; None if invalid."""
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


_GROUPED = "thousands are separated in groups of three, as in 1,000"
_MISWRITTEN = (
    (r"[+-]?0+\d+(\.\d*)?", r"(?<!\d)0+(?=\d)", ""),
    (r"[+-]?\d+([,_]\d+)+", "[,_]", _GROUPED),
    (
        r"[+-]?\d{1,3}([ '’\u00a0\u2009\u202f]\d{3})+|[+-]?[1-9]\d{0,2}(\.\d{3})+",
        r"[^\d+-]",
        "thousands are separated by a comma, as in 1,000",
    ),
)
"""How numbers are written in other ways: the whole, what is too much of it, and why."""


def number_hint(text: str, *, whole: bool) -> str:
    """What to write instead of an invalid number; empty if that isn't clear."""
    text = text.strip()
    if len(text) > _MOST_DIGITS:
        return ""
    if re.fullmatch(r"[+-]?0(x[0-9a-f]+|o[0-7]+|b[01]+)", text, re.ASCII | re.IGNORECASE):
        return f"write {int(text, 0)}: only decimal numbers are supported"
    plain = "".join(
        "-" if sign == "\u2212" else str(unicodedata.decimal(sign, sign)) for sign in text
    )
    if plain != text:
        return _suggestion(plain, "only the signs 0 to 9 and - are supported")
    if re.fullmatch(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+", text, re.ASCII):
        if not whole or "." in text:
            return _suggestion(text.replace(".", "").replace(",", "."), "use a decimal point")
        if len(text.partition(",")[2]) < 3:  # 3,5 may be 3.5 or 35
            return _GROUPED
    for written, superfluous, why in _MISWRITTEN:
        if re.fullmatch(written, text):
            return _suggestion(re.sub(superfluous, "", text), why)
    number = read_number(text)
    if whole and isinstance(number, float):
        return f"write {int(number)}" if number.is_integer() and abs(number) < 1e15 else ""
    return f"write {text} without quotes" if number is not None else ""


def _suggestion(plain: str, why: str) -> str:
    return f"write {plain}{': ' if why else ''}{why}" if read_number(plain) is not None else ""


def arithmetic(summary: RunSummary) -> str:
    """`float32`, `bf16 matmul` or `TF32 matmul`, of the output layer; empty until it is known."""
    if summary.matmul is None and summary.precision is None:
        return ""
    if "bf16" in (summary.precision, summary.matmul):
        return "bf16 matmul"
    rounded = "TF32" if (summary.device or "").startswith("cuda") else "bf16"
    return f"{rounded} matmul" if summary.matmul == "medium" else "float32"


def card_name(name: str) -> str:
    """A GPU's name without brand and form: `H100`, `RTX 4090`."""
    first, *more = name.removeprefix("NVIDIA ").removeprefix("GeForce ").split(" ")
    model = first.partition("-")[0]  # A100-SXM4-40GB
    return f"{model} {more[0]}" if model.isalpha() and more else model  # RTX 4090, Tesla T4


def ranks_text(ranks: Sequence[RankReading], *, hosts: bool = True) -> str:
    """`8 × H100 on 2 hosts`, `2 processes`; empty with one process."""
    if len(ranks) < 2:
        return ""
    cards = Counter(card_name(rank.device) for rank in ranks)
    text = ", ".join(f"{number} × {name}" for name, number in cards.items())
    if "" in cards:
        text = f"{len(ranks)} processes"
    number = len({rank.host for rank in ranks})
    return f"{text} on {number} hosts" if hosts and number > 1 else text


def device_text(summary: RunSummary) -> str:
    """`cpu, 2 threads, bf16 matmul`, `8 × H100 on 2 hosts, …`; empty before the first attempt."""
    device = ranks_text(summary.ranks) or summary.device
    return ", ".join(part for part in (device, arithmetic(summary)) if part)


def other_load_text(summary: RunSummary, *, short: bool = False) -> str:
    """`other processes use 1.0 of 2 cores`, or `others use …`; empty if that costs no speed."""
    if summary.others_cores is None or summary.cores is None:
        return ""
    held = (
        f"{summary.others_cores:.1f}"
        if summary.others_cores < 9.95
        else f"{summary.others_cores:.0f}"
    )
    return (
        f"{'others' if short else 'other processes'} use {held} of {counted(summary.cores, 'core')}"
    )


def unsupported_precision(precision: str, device: str) -> DeviceError:
    """The error for a `training.precision` that the device (`cpu, 2 threads`) doesn't support."""
    hint = "set training.precision=float32" + (
        "; on a CPU, training.matmul=auto uses bf16 where that is faster"
        if device.startswith("cpu")
        else ""
    )
    return DeviceError(
        f"training.precision is {precision}, which needs a CUDA GPU with bf16; the device is"
        f" {device}",
        hint=hint,
    )


UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f"  # C0 and DEL: ESC starts every sequence
    "\x80-\x9f"  # C1: CSI, OSC and DCS in one byte
    # invisible: soft hyphen, grapheme joiner, Arabic letter mark, fillers
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"
    # zero width, line separators, bidi marks, embeddings, overrides and isolates
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb"  # interlinear marks
    "\ud800-\udfff"  # lone surrogates: can't be written as UTF-8 at all
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags
    "]"
)
"""Control and invisible characters.

Variation selectors, U+200C and U+200D are allowed, because Persian, Indic scripts and joined emoji
need them.
"""


def is_joiner(character: str | None) -> bool:
    """Whether this is a zero-width joiner or non-joiner, which `str.isprintable` rejects."""
    return character in ("\u200c", "\u200d")


def safe(text: str, *, keep: str = "\n") -> str:
    """Replace control and invisible characters, except those in `keep`, by visible signs."""
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else visible(match[0]), text)


def visible(character: str) -> str:
    """The visible sign for a character: ␛ for ESC, ␡ for DEL, `‹9b›` or `‹202e›` for others."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹{code:02x}›"


def user_path(text: str) -> Path:
    """A path typed by the user, with `~` and `~user` expanded if the user exists."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises a RuntimeError there)


_WRITTEN = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_MEANT = {"n": "\n", "t": "\t"}
BETWEEN = "|"
"""Separates several texts in one line; inside a text it is written with a backslash."""


def escaped(text: str) -> str:
    """The text in one line, with escape sequences."""
    return "".join(_WRITTEN.get(character, character) for character in text)


def unescaped(line: str) -> str:
    """Reverse `escaped`; a backslash before any other character stays as it is."""
    return re.sub(r"\\([nt\\|])", lambda found: _MEANT.get(found[1], found[1]), line)


def escaped_list(texts: Sequence[str]) -> str:
    r"""Several texts in one line: `\n|The end`."""
    return BETWEEN.join(escaped(text).replace(BETWEEN, f"\\{BETWEEN}") for text in texts)


def unescaped_list(line: str) -> list[str]:
    """Reverse `escaped_list`; empty texts are left out."""
    parts = re.findall(r"(?:\\.|[^\\|]|\\$)+", line)
    return [unescaped(part) for part in parts]
