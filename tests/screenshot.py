"""Makes the README's picture from the real app: trains the demo, opens the app on it in a terminal, draws what is seen.

    python -m tests.screenshot [--share 0.8] [--size 120x40] [--pane 2]

Text needs the font DejaVu Sans Mono; braille, blocks and lines are drawn, so that no font decides how a chart looks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.terminal import Terminal

PICTURE = Path(__file__).parents[1] / ".github" / "train.png"
RUN_NAME = "plain-otter"
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 10, 20, 16, 8
FOREGROUND, BACKGROUND = "d0d0d0", "121212"
BRAILLE_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LINES = {
    "─": "lr", "━": "LR", "│": "ud", "┃": "UD", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "╭": "rd", "╮": "ld", "╰": "ru", "╯": "lu",
    "├": "udr", "┤": "udl", "┬": "lrd", "┴": "lru", "┼": "lrud", "╸": "L", "╺": "R", "╌": "lr", "╍": "LR",
}  # fmt: skip
"""To which sides a line glyph reaches: left, right, up, down; capitals are heavy."""


def main() -> None:
    """Train, look, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.8, help="of the run that is done when the picture is taken")
    parser.add_argument("--size", default="120x40", help="columns and rows")
    parser.add_argument("--pane", default="2", help="key of the pane")
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args()
    columns, rows = (int(part) for part in options.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="rnnlm-tui-") as home:
        os.environ["RNNLM_TUI_HOME"] = home
        from rnnlm_tui.contract.config import RunConfig
        from rnnlm_tui.supervisor.control_client import send
        from rnnlm_tui.supervisor.monitor import summarize
        from rnnlm_tui.supervisor.start import start_run

        run = start_run(RunConfig(), RUN_NAME)
        while (summary := summarize(run)).step < options.share * (summary.max_steps or 10**9):
            if summary.status not in ("preparing", "running"):
                sys.exit(f"the run {summary.status}: {summary.message}")
            time.sleep(0.5)
        with Terminal([sys.executable, "-m", "rnnlm_tui", "open", RUN_NAME], columns=columns, rows=rows) as terminal:
            terminal.wait_for(RUN_NAME)
            terminal.send(options.pane)
            until = time.monotonic() + 6
            while time.monotonic() < until:
                terminal.read(0.1)
            options.out.parent.mkdir(exist_ok=True)
            draw_screen(terminal).save(options.out, optimize=True)
            print(terminal.text)  # noqa: T201
        if summarize(run).status == "running":
            send(run, "stop")
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")  # noqa: T201


def draw_screen(terminal: Terminal) -> Image.Image:
    """The terminal's cells as a picture of 256 colours."""
    image = Image.new("RGB", (terminal.columns * CELL_WIDTH + 2 * MARGIN, terminal.rows * CELL_HEIGHT + 2 * MARGIN), f"#{BACKGROUND}")
    canvas = ImageDraw.Draw(image)
    fonts = {bold: ImageFont.truetype(f"DejaVuSansMono{'-Bold' if bold else ''}.ttf", FONT_SIZE) for bold in (False, True)}
    for row in range(terminal.rows):
        for column in range(terminal.columns):
            cell = terminal.screen.buffer[row][column]
            colour, ground = _hex(cell.fg, FOREGROUND), _hex(cell.bg, BACKGROUND)
            if cell.reverse:
                colour, ground = ground, colour
            x, y = MARGIN + column * CELL_WIDTH, MARGIN + row * CELL_HEIGHT
            if ground != f"#{BACKGROUND}":
                canvas.rectangle([x, y, x + CELL_WIDTH - 1, y + CELL_HEIGHT - 1], fill=ground)
            _draw_glyph(canvas, cell.data, x, y, colour, fonts[cell.bold])
    return image.quantize(256)


def _draw_glyph(canvas: ImageDraw.ImageDraw, glyph: str, x: int, y: int, colour: str, font: ImageFont.FreeTypeFont) -> None:
    code = ord(glyph[0]) if glyph else 0x20
    right, bottom, middle_x, middle_y = x + CELL_WIDTH - 1, y + CELL_HEIGHT - 1, x + CELL_WIDTH // 2, y + CELL_HEIGHT // 2
    if 0x2800 <= code <= 0x28FF:
        for dot_row, bits in enumerate(BRAILLE_BITS):
            for dot_column, bit in enumerate(bits):
                if code & bit:
                    left, top = x + dot_column * CELL_WIDTH // 2 + 1, y + dot_row * CELL_HEIGHT // 4 + 1
                    canvas.rectangle([left, top, left + 2, top + 2], fill=colour)
    elif glyph in LINES:
        for side in LINES[glyph]:
            half = 1 if side.isupper() else 0
            box = {
                "l": (x, middle_y - half, middle_x, middle_y + half),
                "r": (middle_x, middle_y - half, right, middle_y + half),
                "u": (middle_x - half, y, middle_x + half, middle_y),
                "d": (middle_x - half, middle_y, middle_x + half, bottom),
            }[side.lower()]
            canvas.rectangle(box, fill=colour)
    elif 0x2581 <= code <= 0x2588:
        canvas.rectangle([x, bottom + 1 - round(CELL_HEIGHT * (code - 0x2580) / 8), right, bottom], fill=colour)
    elif 0x2589 <= code <= 0x258F:
        canvas.rectangle([x, y, x + round(CELL_WIDTH * (0x2590 - code) / 8) - 1, bottom], fill=colour)
    elif glyph.strip():
        canvas.text((x, y + 15), glyph, font=font, fill=colour, anchor="ls")


def _hex(colour: str, default: str) -> str:
    named = {"default": default, "black": "000000", "red": "cd0000", "green": "00cd00", "brown": "cdcd00", "blue": "0000ee", "magenta": "cd00cd", "cyan": "00cdcd",
             "white": "e5e5e5"}  # fmt: skip
    return f"#{named.get(colour, colour)}"


if __name__ == "__main__":
    main()
