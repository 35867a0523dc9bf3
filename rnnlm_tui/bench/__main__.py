"""`bench` without the command line's packages: `python -m rnnlm_tui.bench` prints the JSON
report."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TextIO

from rnnlm_tui.bench.runner import BenchOptions, bench_config, process_counts, run_bench
from rnnlm_tui.errors import EXIT_INTERRUPTED, RnnlmError
from rnnlm_tui.schema.formatting import safe


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rnnlm_tui.bench",
        description="Measure how fast this machine trains and samples.",
    )
    parser.add_argument("--preset", default="book")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=["training", "sampling"])
    parser.add_argument("--processes", metavar="N,…")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true", help="default, and the only format here")
    given = parser.parse_args()
    try:
        options = BenchOptions(
            bench_config(given.preset, given.device, given.set),
            seconds=given.seconds,
            only=given.only,
            processes=process_counts(given.processes),
        )
        report = run_bench(options, lambda text: _write(sys.stderr, text))
    except RnnlmError as error:
        _write(sys.stderr, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _write(sys.stderr, "interrupted")
        return EXIT_INTERRUPTED
    # pydantic writes null for non-finite numbers, json writes ASCII.
    _write(sys.stdout, json.dumps(json.loads(report.model_dump_json()), indent=2))
    return 0


def _write(stream: TextIO, text: str) -> None:
    """Write without control characters: titles, errors and output of child processes are
    untrusted."""
    stream.write(safe(text) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
