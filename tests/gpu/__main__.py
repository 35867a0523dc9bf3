"""Prove on a GPU what can't be proven without one: `python -m tests.gpu`, at most nine minutes.

It prints a table for each part and, as the last line, one JSON object. `--dry-run` walks the same
list on the CPU with tiny shapes and says what it skipped. The exit code is 0 if nothing failed and
no part was cut; goals that were missed are listed and don't change it.

It needs torch 2.11 or later, Python 3.11 or later and pytest; of pytest's plugins and of the app's
packages (textual, rich, typer) none but those in `NEEDED`. A rented machine without
a network gets missing packages as wheels: download them where there is one,

    python -m pip download --only-binary=:all: --python-version 3.12 \\
        --platform manylinux_2_17_x86_64 -d wheels pydantic platformdirs tomlkit

copy the folder (3 MB) beside the clone, and run `python -m tests.gpu --wheels wheels`, or set
RNNLM_TUI_WHEELS to it. They are installed to a temporary folder. What is printed may be long: with
`--out FOLDER`, three files stay there: the table, the logs and the JSON, complete up to the part
that was done last.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

NEEDED = (
    *("torch", "numpy", "safetensors", "tokenizers", "psutil", "pynvml", "pytest"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_inspection", "platformdirs"),
    "tomlkit",
)
"""Modules without which the proof can't run."""
WHEELS_VARIABLE = "RNNLM_TUI_WHEELS"
TOTAL_SECONDS = 530.0
"""From the start of the command to its end, below nine minutes."""
SMALLEST_SECONDS, MOST_SECONDS = 5.0, 3_600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proof; returns the exit code."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--only", action="append", metavar="PART", help="may be given repeatedly")
    parser.add_argument(
        "--seconds",
        type=float,
        default=TOTAL_SECONDS,
        help=f"of the whole command (default {TOTAL_SECONDS:g}); each part gets its share",
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--list", action="store_true", help="list the parts and their shares")
    parser.add_argument(
        "--wheels",
        metavar="FOLDER",
        default=os.environ.get(WHEELS_VARIABLE),
        help=f"wheels of packages that are missing here (default: {WHEELS_VARIABLE})",
    )
    parser.add_argument("--out", metavar="FOLDER", help="keep table, logs and JSON here")
    parser.add_argument("--bench-command", default="", help=argparse.SUPPRESS)
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)  # what the command itself starts
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--case", default="", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if not SMALLEST_SECONDS <= given.seconds <= MOST_SECONDS and not given.part:
        parser.error(
            f"--seconds must be from {SMALLEST_SECONDS:g} to {MOST_SECONDS:,.0f},"
            f" not {given.seconds:g}"
        )
    with tempfile.TemporaryDirectory(prefix="rnnlm-tui-gpu-") as scratch:
        if given.wheels and not given.part:
            problem = install(Path(given.wheels), Path(scratch) / "packages")
            if problem:
                parser.error(problem)
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            parser.error(
                f"missing here: {', '.join(missing)}\nInstall them, or carry them as wheels:"
                " see the first lines of tests/gpu/__main__.py"
            )
        # Only now: these need the packages.
        from tests.gpu.proof import Options, prove, run_one

        if given.part:
            return run_one(given.part, given.setting, given.until, given.case)
        out = Path(given.out) if given.out else Path(scratch) / "out"
        out.mkdir(parents=True, exist_ok=True)
        options = Options(
            dry=given.dry_run,
            only=tuple(given.only or ()),
            seconds=given.seconds,
            device=given.device,
            fresh=given.fresh,
            began=began,
            scratch=Path(scratch) / "work",
            out=out,
            bench_command=tuple(shlex.split(given.bench_command)),
        )
        if given.list:
            return options.list_parts()
        return prove(options)


def install(wheels: Path, folder: Path) -> str:
    """Install a folder of wheels for this process and those that it starts, without a network;
    returns what is wrong."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        return f"no wheels (*.whl) in {wheels}"
    command = [
        *(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"),
        *("--no-compile", "--no-cache-dir", "--target", str(folder), *map(str, files)),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return f"can't install {wheels}: {answer.stderr.strip().splitlines()[-1:]}"
    sys.path.insert(0, str(folder))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([before] if before else [])])
    return ""


if __name__ == "__main__":
    sys.exit(main())
