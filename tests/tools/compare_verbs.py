"""Compare two checkouts' command lines: `python -m tests.tools.compare_verbs BEFORE AFTER`.

Runs the help of every verb, every verb that has --json, and a list of good and bad calls in both
checkouts, each on a data home that its own code has just made. Prints what differs: help, JSON,
exit codes; with --texts also the other outputs. What differs between two runs of BEFORE, such as
times, counts as equal.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = """\
[corpus]
source = "elman"

[tokenizer]
kind = "character"
vocab_size = 64

[model]
embedding_dim = 16
hidden_size = 16
num_layers = 1
dropout = 0.1

[schedule]
warmup_steps = 5

[training]
max_steps = 400
batch_size = 2
bptt = 48
threads = 1
deterministic = true
device = "cpu"

[evaluation]
every = 100
prompts = ["the boy"]

[checkpoint]
every = 100
keep_last = 2

[sampling]
max_new_tokens = 12
"""
FINISHED, KILLED, PAUSED, DRAFT, DELETED = (
    "plain-otter",
    "brisk-heron",
    "calm-badger",
    "dusty-lynx",
    "stern-crane",
)
PROMPT = "the boy"
TRAIN = "train --config config.toml --name"
HOME = f"""
{TRAIN} {FINISHED} --follow
tag {FINISHED} paper small
note {FINISHED} the first one that works
pin {FINISHED} {FINISHED}@400
{TRAIN} {DELETED} --set training.max_steps=20 --follow
delete {DELETED}
{TRAIN} {DRAFT} --draft
"""
ENDED_STEPS = 2_000
"""Steps of the runs whose workers are killed on the way, after their first checkpoint."""
CALLS = f"""
runs --json
runs --json --filter otter
runs --json --filter step>300
runs --json --sort -step
runs --json --filter nothing
runs --filter a<b<c
runs --sort nothing
show {FINISHED} --json
show {KILLED} --json
show {DRAFT} --json
show {FINISHED} --once --ascii
show nothing
show
compare {FINISHED} {KILLED} --json
compare {FINISHED}
follow {FINISHED} --json
follow {KILLED} --json
metrics {FINISHED} --json
metrics {KILLED}
metrics {DRAFT} --json
checkpoints {FINISHED} --json
checkpoints {DRAFT} --json
verify {FINISHED} --json
verify {KILLED} --json
verify {DRAFT} --json
train --draft --name new-one --preset elman --json
train --draft --name new-one --preset elman
train --draft --name wrong/name
train --draft --preset nothing
train --draft --set nothing=1
train --draft --set model.hidden_size=none
train --draft --set model.hidden_size=-3 --set training.bptt=0
train --draft --config missing.toml
train --draft --from {FINISHED}@best --name child --json
train --draft --from {FINISHED}@7
train --follow --detach
train --draft --json --follow
pause {FINISHED} --json
pause nothing
resume {FINISHED} --json
resume nothing
stop {FINISHED} --json
checkpoint {FINISHED} --json
evaluate {FINISHED} --json
set {FINISHED} optimizer.learning_rate=0.1 --json
set {FINISHED} nothing=1
set {FINISHED}
tag {FINISHED} --json
tag {FINISHED} +one -paper --json
tag {FINISHED} a,b
note {FINISHED} --json
note {FINISHED} another note --json
pin {KILLED} --json
pin {KILLED}@200 --json
pin {KILLED}@7
unpin {KILLED} {KILLED}@200 --json
rename {DRAFT} renamed --json
rename renamed {FINISHED}
rename renamed {DRAFT} --json
trash --json
restore {DELETED} --as restored --json
restore nothing
delete restored --json
delete nothing
purge
purge --yes --json
sample {FINISHED} "{PROMPT}" --greedy --json
sample {FINISHED}@last "{PROMPT}" --samples 2 --seed 3 --json
sample {FINISHED}@7 "{PROMPT}"
sample {DRAFT} "{PROMPT}"
sample {FINISHED} "{PROMPT}" --temperature -1
sample {FINISHED} "{PROMPT}" --greedy --temperature 2
sample {FINISHED}@now "{PROMPT}"
estimate --preset elman --json
estimate --preset demo
estimate --set model.nothing=1
corpus --json
corpus
corpus remove nothing
corpus remove elman
corpus nothing
config show {FINISHED}
config show demo
config show nothing
config presets
config presets --json
config
doctor --json
open {FINISHED}
open nothing
runs --nothing
nothing
--version
resume {PAUSED} --follow --json
resume {KILLED} --detach --json
follow {KILLED} --json
"""
"""In this order, for the later ones see what the earlier ones changed."""


TIMED_OUT = 124


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call printed and how it exited."""

    code: int
    output: str
    errors: str


def answers(checkout: Path, folder: Path) -> dict[str, Answer]:
    """Every call's answer, with this checkout's code on a home that it made."""
    make_home(checkout, folder)
    found: dict[str, Answer] = {}
    helps = [f"{verb} --help".strip() for verb in ("", *verbs(checkout, folder))]
    for call in (*helps, *filter(None, CALLS.splitlines())):
        print(f"… {checkout.name}: {call}", file=sys.stderr)  # noqa: T201
        found[call] = answer(checkout, folder, call)
    return found


def make_home(checkout: Path, folder: Path) -> None:
    """Make runs of each kind: finished, crashed, crashed while paused, a draft, deleted."""

    def call(words: str) -> str:
        done = answer(checkout, folder, words)
        if done.code:
            sys.exit(f"{words}: exit code {done.code}\n{done.errors}")
        return done.output

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG)
    for words in filter(None, HOME.splitlines()):
        call(words)
    for run in (PAUSED, KILLED):
        call(f"{TRAIN} {run} --set training.max_steps={ENDED_STEPS} --detach")
        while (shown := json.loads(call(f"show {run} --json")))["step"] < 150:
            pass
        if run == PAUSED:
            call(f"pause {run}")
        os.kill(shown["pid"], signal.SIGKILL)


def verbs(checkout: Path, folder: Path) -> list[str]:
    """The names of all verbs, from the help: `runs`, `config`, `config show`, …."""
    text = answer(checkout, folder, "--help").output
    names = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", text, re.MULTILINE)
    return sorted({*names, *(name.partition(" ")[0] for name in names)})


def answer(checkout: Path, folder: Path, call: str) -> Answer:
    """Run one call without a terminal."""
    python = checkout / ".venv" / "bin" / "python"
    variables = {
        "PYTHONPATH": str(checkout.resolve()),
        "RNNLM_TUI_HOME": str(folder / "home"),
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        str(python if python.exists() else sys.executable),
        "-m",
        "rnnlm_tui",
        *shlex.split(call),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            env={**os.environ, **variables},
            cwd=folder,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(TIMED_OUT, "", "no end within two minutes")
    return Answer(done.returncode, done.stdout, done.stderr)


def json_values(text: str) -> Any:
    """The JSON of an output: one value, or a list of those on its lines; None for other text."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines()] or None
    except ValueError:
        return None


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every key of a JSON value and what it holds, such as `checkpoints.last` → 400."""
    if isinstance(value, dict):
        inner = [leaves(part, f"{path}.{name}".lstrip(".")) for name, part in value.items()]
    elif isinstance(value, list):
        inner = [leaves(part, f"{path}[{place}]") for place, part in enumerate(value)]
    else:
        return {path: value}
    return {name: part for one in inner for name, part in one.items()} or {path: value}


def json_differences(before: str, again: str, after: str) -> list[str]:
    """Keys that came or went, and values that changed though they are the same each time before."""
    old, repeated, new = json_values(before), json_values(again), json_values(after)
    if old is None or new is None:
        return [] if old is new else [f"JSON before: {old is not None}, after: {new is not None}"]
    one, two, three = leaves(old), leaves(repeated), leaves(new)
    stable = {name for name in one if name in two and one[name] == two[name]}
    same_keys = {name for name in {*one, *three} if (name in one) == (name in two)}
    return [
        *(f"- {name}" for name in sorted(same_keys) if name not in three),
        *(f"+ {name}" for name in sorted(same_keys) if name not in one),
        *(
            f"{name}: {one[name]!r} → {three[name]!r}"
            for name in one
            if name in stable and name in three and one[name] != three[name]
        ),
        *(
            f"{name}: {type(one[name]).__name__} → {type(three[name]).__name__}"
            for name in one
            if name in three and name not in stable and type(one[name]) is not type(three[name])
        ),
    ]


def text_differences(before: str, after: str, *, numbers: bool) -> list[str]:
    """The changed lines; without `numbers`, every number counts as equal."""
    old, new = (
        (text if numbers else re.sub(r"\d[\d.,:]*", "#", text)).splitlines()
        for text in (before, after)
    )
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    return [line for line in lines if not line.startswith("@@")]


def report(
    before: dict[str, Answer], again: dict[str, Answer], after: dict[str, Answer], *, texts: bool
) -> str:
    """What differs, by kind."""
    sections: dict[str, list[str]] = {
        "verbs": [],
        "exit codes": [],
        "JSON": [],
        "help": [],
        "texts": [],
    }
    empty = Answer(-1, "", "")
    for call in dict.fromkeys((*before, *after)):
        old, repeated, new = before.get(call, empty), again.get(call, empty), after.get(call, empty)
        if call not in before or call not in after:
            sections["verbs"].append(f"{call}: only {'after' if call in after else 'before'}")
        elif old.code != new.code:
            sections["exit codes"].append(
                f"{call}: {old.code} → {new.code}\n    {new.errors.strip()[:300]}"
            )
        is_help, is_json = call.endswith("--help"), "--json" in call
        outputs = [one.output for one in (old, repeated, new)]
        if "follow" in call:  # the lines before the last are printed at any step
            outputs = [output.rstrip().rpartition("\n")[2] for output in outputs]
        if is_json and (found := json_differences(*outputs)):
            sections["JSON"] += [call, *(f"    {line}" for line in found)]
        if is_help or texts:
            pairs = [(old.errors, new.errors), *([] if is_json else [(old.output, new.output)])]
            found = [line for pair in pairs for line in text_differences(*pair, numbers=is_help)]
            sections["help" if is_help else "texts"] += (
                [call, *(f"    {line}" for line in found)] if found else []
            )
    sections = {name: lines for name, lines in sections.items() if name != "texts" or texts}
    counted = ", ".join(
        f"{sum(not line.startswith('    ') for line in lines)} differ in {name}"
        for name, lines in sections.items()
    )
    return "\n".join(
        [
            *(
                line
                for name, lines in sections.items()
                if lines
                for line in (f"=== {name}", *lines, "")
            ),
            f"{len(before)} calls: {counted}",
        ]
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, metavar="BEFORE")
    parser.add_argument("after", type=Path, metavar="AFTER")
    parser.add_argument(
        "--texts", action="store_true", help="also compare outputs that are neither help nor JSON"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rnnlm-verbs-") as root:
        folder = Path(root) / "work"
        before, again, after = (
            answers(checkout, folder) for checkout in (given.before, given.before, given.after)
        )
    print(report(before, again, after, texts=given.texts))  # noqa: T201


if __name__ == "__main__":
    main()
