"""Run the parts one after the other; print their tables and one JSON line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rnnlm_tui import __version__
from rnnlm_tui.errors import did_you_mean
from rnnlm_tui.schema.config import CellType
from tests.gpu.parts import Part, Report, Result, Row, Setting, judge, run_part, serve_part

FORMAT = 1
"""Version of the JSON line; increased when a field changes its meaning."""
FILES = "proof.txt", "logs.txt", "proof.json"
"""What the folder of `--out` gets: the table, what the parts printed, and the JSON line. Three
files, since a lent machine may give back only a few."""
EXIT_USAGE = 2
LEAST_SECONDS = 3.0
"""A part gets at least this long."""
CHECK = """
import sys
from rnnlm_tui.engine.device import resolve_device
from rnnlm_tui.errors import RnnlmError
try:
    resolve_device(sys.argv[1])
except RnnlmError as error:
    sys.exit(str(error))
"""
"""Whether there is such a device, in a process of its own: a driver that this process touched
would be of no use after a fork."""


def _machine(report: Report) -> None:
    from tests.gpu.speed import survey_machine

    survey_machine(report)


def _tests(report: Report) -> None:
    from tests.gpu.processes import run_marked_tests

    run_marked_tests(report)


def _waits(report: Report) -> None:
    from tests.gpu.training import prove_no_waiting

    prove_no_waiting(report)


def _losses(report: Report) -> None:
    from tests.gpu.training import prove_losses

    prove_losses(report)


def _head(report: Report) -> None:
    from tests.gpu.head import measure_head

    measure_head(report)


def _book(report: Report) -> None:
    from tests.gpu.speed import measure_book

    measure_book(report)


def _lstm(report: Report) -> None:
    from tests.gpu.speed import measure_lstm

    measure_lstm(report)


def _memory(report: Report) -> None:
    from tests.gpu.training import prove_memory

    prove_memory(report)


def _resume(report: Report) -> None:
    from tests.gpu.processes import prove_exact_resume

    prove_exact_resume(report)


def _epoch(report: Report) -> None:
    del report  # `prove` has the results of other parts that this one needs


def _profile(report: Report) -> None:
    from tests.gpu.training import show_slowest_kernels

    show_slowest_kernels(report)


def _cells() -> tuple[str, ...]:
    return get_args(CellType)


def _test_files() -> tuple[str, ...]:
    from tests.gpu.processes import gpu_test_files

    return tuple(map(str, gpu_test_files()))


def _loss_cases() -> tuple[str, ...]:
    return (*_cells(), "book")


def _memory_cases() -> tuple[str, ...]:
    from tests.gpu.shapes import SHAPES

    return tuple(f"{shape}, {way}" for shape in SHAPES for way in ("float32", "bf16"))


def _resume_cases() -> tuple[str, ...]:
    from tests.gpu.processes import RESUMED

    return tuple(RESUMED)


MACHINE = Part("machine", "the device, and how fast it copies and multiplies", 20, _machine)
BOOK = Part("book", "speed of the book's model: naive, nn.RNN, engine", 110, _book)
EPOCH = Part("epoch", "the book's epoch worked out, and the goals", 1, _epoch)
PARTS = (
    MACHINE,
    Part("waits", "steps of each cell with every wait for the GPU refused", 40, _waits, _cells),
    Part("losses", "losses of 200 steps against the CPU's", 45, _losses, _loss_cases),
    Part("head", "the output layer: the kernel, torch's operations, torch's loss", 20, _head),
    BOOK,
    Part("lstm", "speed of a 2x1,024 LSTM: naive, nn.LSTM, engine", 95, _lstm),
    Part("memory", "peak memory against the estimate", 25, _memory, _memory_cases),
    Part("resume", "kill -9 and an exact resume", 50, _resume, _resume_cases),
    Part("tests", "pytest -m gpu", 100, _tests, _test_files),  # late: it has what others left
    EPOCH,
    Part("profile", "the slowest kernels of a step", 20, _profile),
)
"""In this order. The imports are in their functions: this module is imported before each."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    dry: bool
    only: tuple[str, ...]
    seconds: float
    device: str
    fresh: bool
    """In a dry run, start each part as new programs, as with a GPU."""
    began: float
    """When the command was started, by the monotonic clock."""
    scratch: Path
    """Where the parts work."""
    out: Path
    """Receives `FILES`."""
    bench_command: tuple[str, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts asked for, in order."""
        return tuple(part for part in PARTS if not self.only or part.name in self.only)

    def list_parts(self) -> int:
        """Print the parts with their shares of the time."""
        whole = sum(part.seconds for part in PARTS)
        for part in PARTS:
            seconds = self.seconds * part.seconds / whole
            sys.stdout.write(f"{part.name:9}{seconds:5.0f} s  {part.title}\n")
        return 0


def run_one(name: str, setting: str, until: float, case: str) -> int:
    """Run one part, or one of its cases, in this process, for the process that started it."""
    part = next(part for part in PARTS if part.name == name)
    return serve_part(part, Setting.decoded(setting), until, case)


class Output:
    """Prints what was found, and keeps it at once in the three `FILES`: whoever ends the command
    early has it up to there."""

    def __init__(self, folder: Path) -> None:
        self._table, self._logs, self._json = (folder / name for name in FILES)
        for file in (self._table, self._logs, self._json):
            file.unlink(missing_ok=True)

    def say(self, text: str) -> None:
        """Print lines of the table."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        with self._table.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def keep(self, log: str, found: Mapping[str, object]) -> str:
        """Keep the log of a part and all that was found so far; returns the latter's JSON line."""
        with self._logs.open("a", encoding="utf-8") as file:
            file.write(log)
        line = json.dumps(found, separators=(",", ":"))
        self._json.write_text(line + "\n", encoding="utf-8")
        return line


def prove(options: Options) -> int:
    """Run the parts and print what they found; returns the exit code."""
    for name in options.only:
        names = [part.name for part in PARTS]
        if name not in names:
            return _refuse(f'no part "{name}", choose from {", ".join(names)}', name, names)
    if not options.dry and (problem := _missing_device(options.device)):
        return _refuse(f"{problem}\nhint: --dry-run walks the whole list on the CPU")
    device = "cpu" if options.dry else options.device
    setting = Setting(device, options.dry, options.scratch, options.bench_command)
    fork = options.dry and not options.fresh
    if fork:
        _warm_up()
    output, results, line = Output(options.out), list[Result](), ""
    scale = options.seconds / sum(part.seconds for part in PARTS)
    for number, part in enumerate(options.parts):
        later = scale * sum(other.seconds for other in options.parts[number + 1 :])
        left = options.seconds - (time.monotonic() - options.began)
        seconds = max(LEAST_SECONDS, left - later)
        results.append(_result(part, setting, seconds, results, fork=fork))
        output.say(shown(results[-1]))
        found = summary(results, dry=options.dry, seconds=time.monotonic() - options.began)
        line = output.keep(results[-1].log, found)
    output.say(overview(results, found))
    sys.stdout.write(line + "\n")
    return 1 if any(result.is_bad for result in results) else 0


def _result(
    part: Part, setting: Setting, seconds: float, before: Sequence[Result], *, fork: bool
) -> Result:
    if part is EPOCH:
        from tests.gpu.speed import judge_epoch

        known = {result.part.name: result for result in before}
        device = str(_facts(before).get("device", setting.device))
        return judge(part, setting, lambda report: judge_epoch(report, known.get("book"), device))
    _note(f"{part.name}: {part.title}, at most {seconds:.0f} s")
    return run_part(part, setting, seconds, fork=fork)


def summary(results: Sequence[Result], *, dry: bool, seconds: float) -> dict[str, object]:
    """The JSON object: what each part found, without logs and details."""
    return {
        "proof": "rnnlm-tui",
        "format": FORMAT,
        "version": __version__,
        "dry_run": dry,
        **_facts(results),
        "seconds": round(seconds, 1),
        "ok": not any(result.is_bad for result in results),
        "goals_missed": [text for result in results for text in result.missed],
        "parts": [_compact(result) for result in results],
    }


def _compact(result: Result) -> dict[str, object]:
    """A part in the JSON line, which should be short: columns once, and no empty list."""
    said = {
        "did": result.did,
        "failed": result.failed,
        "missed": result.missed,
        "skipped": result.skipped,
        "notes": result.notes,
    }
    return {
        "name": result.part.name,
        "status": result.status,
        "seconds": round(result.seconds, 1),
        "budget": round(result.budget, 1),
        **{kind: texts for kind, texts in said.items() if texts},
        "columns": (names := columns(result.rows)),
        "rows": [[row.get(name) for name in names] for row in result.rows],
    }


def columns(rows: Sequence[Row]) -> list[str]:
    """The names of all rows' values, those that are empty everywhere left out."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if any(row.get(name) not in ("", None) for row in rows)]


def _facts(results: Sequence[Result]) -> dict[str, object]:
    """What the machine is."""
    return next((result.facts for result in results if result.part is MACHINE), {})


def shown(result: Result) -> str:
    """A part's table and what it said, in lines."""
    cut = f", cut after {result.budget:.0f} s" if result.cut else ""
    lines = [f"\n{result.part.name}: {result.status} in {result.seconds:.1f} s{cut}"]
    lines += (f"  {text}" for text in (*result.did, *table(result.rows)))
    for kind, texts in (
        ("note", result.notes),
        ("skipped", result.skipped),
        ("missed", result.missed),
        ("FAILED", result.failed),
    ):
        lines += (f"  {kind}: {text}" for text in texts)
    return "\n".join((*lines, *result.details, *(f"  | {line}" for line in result.tail)))


def overview(results: Sequence[Result], found: Mapping[str, object]) -> str:
    """One line a part."""
    rows: list[Row] = [
        {
            "part": result.part.name,
            "status": result.status,
            "seconds": round(result.seconds, 1),
            "of": round(result.budget, 1),
            "found": next(iter((*result.failed, *result.missed, *result.did, *result.skipped)), ""),
        }
        for result in results
    ]
    title = f"\n{found.get('device', '')}, torch {found.get('torch', '')}, {found['seconds']} s"
    return "\n".join((title, *table(rows), ""))


def table(rows: Sequence[Row]) -> list[str]:
    """Rows as aligned columns; numbers to the right."""
    names = columns(rows)
    if not names:
        return []
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    right = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _warm_up() -> None:
    """Import for the forks what all parts need."""
    import torch._dynamo

    import rnnlm_tui.worker.setup
    import tests.gpu.processes
    import tests.gpu.speed
    import tests.gpu.training

    assert torch._dynamo, (rnnlm_tui.worker.setup, tests.gpu.processes, tests.gpu.speed)
    torch.set_num_threads(1)  # before a fork no thread may be started


def _missing_device(name: str) -> str:
    """What is wrong with the device; empty: nothing."""
    if not name.startswith("cuda"):
        return f'--device must be a CUDA GPU such as cuda:0, not "{name}"'
    answer = subprocess.run(
        [sys.executable, "-c", CHECK, name], capture_output=True, text=True, check=False
    )
    return answer.stderr.strip() if answer.returncode else ""


def _refuse(text: str, name: str = "", known: Sequence[str] = ()) -> int:
    hint = did_you_mean(name, known) if known else ""
    _note(f"error: {text}" + (f"\nhint: {hint}" if hint else ""))
    return EXIT_USAGE


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
