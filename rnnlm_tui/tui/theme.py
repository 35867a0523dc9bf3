"""The app's theme: the palette's exact colours under Textual's names, with nothing blended."""

from __future__ import annotations

from textual.theme import Theme

from rnnlm_tui.tui.widgets import palette

THEME = Theme(
    name="rnnlm",
    primary=palette.FOCUS,
    secondary=palette.THIRD,
    accent=palette.FOCUS,
    warning=palette.WARN,
    error=palette.BAD,
    success=palette.GOOD,
    foreground=palette.TEXT,
    background=palette.BACKGROUND,
    surface=palette.BACKGROUND,
    panel=palette.FIELD,
    boost=palette.FIELD,
    dark=True,
    variables={
        "field": palette.FIELD,
        "selected": palette.SELECTED,
        "line": palette.BORDER,
        "focus": palette.FOCUS,
        "dim": palette.DIM,
        "bright": palette.BRIGHT,
        "block-cursor-background": palette.SELECTED,
        "block-cursor-foreground": palette.BRIGHT,
        "block-cursor-blurred-background": palette.SELECTED,
        "block-cursor-blurred-foreground": palette.TEXT,
        "block-cursor-blurred-text-style": "none",
        "block-hover-background": palette.FIELD,
        "border": palette.FOCUS,
        "border-blurred": palette.BORDER,
        "input-cursor-background": palette.FOCUS,
        "input-cursor-foreground": palette.BACKGROUND,
        "input-selection-background": palette.RAW,
        "input-selection-foreground": palette.BRIGHT,
        "scrollbar": palette.BORDER,
        "scrollbar-hover": palette.DIM,
        "scrollbar-active": palette.DIM,
        "scrollbar-background": palette.BACKGROUND,
        "scrollbar-background-hover": palette.BACKGROUND,
        "scrollbar-background-active": palette.BACKGROUND,
        "scrollbar-corner-color": palette.BACKGROUND,
        "text": palette.TEXT,
        "text-muted": palette.DIM,
        "text-disabled": palette.DIM,
    },
)
