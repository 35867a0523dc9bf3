"""Text from outside (prompts, generated text, corpora, names, paths, exceptions, logs) with nothing in it that could act on a terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path

UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f"  # C0 and DEL: ESC starts every sequence
    "\x80-\x9f"  # C1: CSI, OSC and DCS in one byte
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"  # invisible: soft hyphen, grapheme joiner, Arabic letter mark, fillers
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # zero width, line separators, bidi marks, embeddings, overrides and isolates
    "\ufff9-\ufffb"  # interlinear marks
    "\ud800-\udfff"  # lone surrogates: can't be written as UTF-8 at all
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags
    "]"
)
"""U+200C, U+200D (Persian, Indic scripts, joined emoji) and variation selectors are not included, because texts need them."""


def is_joiner(character: str | None) -> bool:
    """Whether a character is a zero-width joiner or non-joiner, which `str.isprintable` rejects although it is text."""
    return character in ("\u200c", "\u200d")


def safe(text: str, *, keep: str = "\n") -> str:
    """The text with everything that could act on a terminal, or would not be seen, made visible; characters of `keep` pass unchanged."""
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else visible(match[0]), text)


def visible(character: str) -> str:
    """The sign that stands for a character that would act or not be seen: ␛ for ESC, ␡ for DEL, `‹9b›` for a C1, `‹202e›` for a bidi override."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹{code:02x}›"


def user_path(text: str) -> Path:
    """A path from the user with `~` and `~user` expanded; `~user` stays as it is if there is no such user, as in a shell."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises a RuntimeError there)
