"""A data home full of hostile text; `python -m tests.faults.hostile_home` runs every verb on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rnnlm_tui.cli.app import VERBS
from rnnlm_tui.cli.main import run as run_verb
from rnnlm_tui.cli.output import line
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.lineage import Parent
from rnnlm_tui.schema.metrics import AttemptRow, EvaluationRow, EventKind, EventRow, SampleRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.labels import labels_file
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import PARENT_NAME, RunDirectory, home, states_dir
from rnnlm_tui.store.runs import create_run
from tests.fakes.manifests import corpus_manifest, store_manifest
from tests.faults.hostile import TEXTS, hostile
from tests.unit.store.rows import step_row, write_model
from tests.unit.store.test_kept_samples import keep as keep_sample
from tests.unit.store.test_kept_samples import make as make_sample
from tests.unit.store.test_states import keep as keep_state

ENDS: dict[str, EventKind] = {
    "done-run": "finished",
    "bad-run": "failed",
    "gone-run": "running",
    "left-run": "stopped",
}
"""Runs by name, with the last event of each."""
SLOW = ("sample", "score", "resume", "doctor", "train")
"""Slow verbs, tried once; the others are tried with --json too."""


def fill(text: str) -> None:
    """Create the runs, a corpus and worker logs."""
    from rnnlm_tui.store.checkpoints import write_checkpoint

    config = hostile(
        parse_config(
            merge(
                DEMO,
                {"sampling.stop": ["stop"], "corpus.test_source": "test", "tokenizer.name": "name"},
            )
        ),
        text,
    )
    create_run(config, "a-draft")
    for name, end in ENDS.items():
        run = create_run(config, name)
        parent = Parent(
            run=text, checkpoint="7", step=7, hash=text, created=0.0,
            changed={"corpus.source": (text, text), text: (text, text)},
        )  # fmt: skip
        (run.path / PARENT_NAME).write_text(parent.model_dump_json())
        write_checkpoint(
            run, 20, write_model, f"{text}@7", {"device": text, "torch": text, "train_loss": 4.5}
        )
        _fill_log(run, text, end)
        labels_file(run).path.write_text(
            json.dumps(
                {"tags": [text, "fine"], "note": text, "pinned": text, "notes": {"20": text}}
            ),
            encoding="utf-8",
        )
        run.log_path.write_text(
            f"{text}\n{text}: the end\n", encoding="utf-8", errors="surrogateescape"
        )
    _prepare_corpus(config, text)
    _keep(text)


def _keep(text: str) -> None:
    """Keep samples and states."""
    for number in range(2):
        sample = {"text": text, "run": text, "path": text, "state": text, "reason": text}
        keep_sample(make_sample(text, **sample, id=f"{number}{text}"))
    facts = {"run": text, "text": text, "note": text, "cell_type": text, "tokenizer": text}
    keep_state("a-state", **facts)
    named = states_dir() / f"{text.replace(chr(0), '').replace('/', '')}.safetensors"
    named.write_bytes((states_dir() / "a-state.safetensors").read_bytes())
    named.with_stem(f"{named.stem}-damaged").write_bytes(b"?")


def _fill_log(run: RunDirectory, text: str, end: EventKind) -> None:
    now = time.time()
    kinds: tuple[EventKind, ...] = ("note", "setting", "running", end)
    with RunLog.begin(run, AttemptRow(1, 1, text, text, text, 0, {text: text}, now)) as log:
        log.append(
            Facts.model_validate(
                {name: text for name, field in fields_of(Facts).items() if field.annotation is str}
            ),
            Facts(corpus_notes=(text,), settings={text: text}),
            *(step_row(step) for step in range(1, 31)),
            EvaluationRow(1, 20, "validation", text, 4.0, 1_000, 1.6, 0.1, now),
            SampleRow(1, 20, text, text, 12, 7, now),
            *(EventRow(1, 30, kind, text, now) for kind in kinds),
        )


def _prepare_corpus(config: RunConfig, text: str) -> None:
    manifest = corpus_manifest(
        config.corpus,
        config.tokenizer,
        hash="0" * 64,
        title=text,
        source_hash=text,
        bigram={text: 4.0},
        notes=(text,),
    )
    store_manifest(home(), manifest)


COMMANDS = """
runs
runs --filter ARG
runs --filter ARG<3
runs --filter ppl<ARG
runs --filter tag=fine
runs --sort ARG
runs --sort note
show RUN
show RUN --once
follow ENDED
show ENDED --watch
metrics RUN
metrics done-run --csv --evaluations
metrics done-run --evaluations
metrics done-run --csv
checkpoints RUN
verify RUN
pause RUN
stop RUN
checkpoint RUN
evaluate RUN
config show RUN
config show done-run --explain
config show done-run --origin
config diff done-run demo
pin done-run@20
pin done-run@ARG
pin ARG@20
unpin done-run@20
unpin done-run@ARG
resume bad-run --detach
set left-run ARG=ARG
set left-run learning_rate=ARG
sample done-run ARG --json
sample done-run@ARG The
sample done-run The --stop ARGARGARG --temperature 0
sample done-run The --seed ARG
samples
samples --run ARG
samples --limit ARG
samples --delete ARG
samples --export OUT
samples --export OUT
samples --export -
samples --export - --format ARG
samples --delete 0 --yes
score done-run FILE
score done-run ARG ARG2
score done-run@ARG FILE
state list
state keep done-run ARG ARG
state keep done-run new-state ARG --note ARG
state keep done-run new-state x --state ARG
state show a-state
state show ARG-damaged
state delete ARG a-state --yes
CONFIG --set ARG=ARG
CONFIG --preset ARG
CONFIG --config ARG
CONFIG --config FILE
CONFIG --ARG
train --set corpus.source=ARG
train --set corpus.source=HERE/ARG --detach
train --name ARG --set corpus.source=elman --draft
train --from ARG@ARG
train --from done-run@ARG
train --from done-run@20 --draft
archive ARG HERE/run.tar.zst
archive done-run HERE/run.tar.zst
unarchive HERE/run.tar.zst ARG
unarchive FILE
average ARG --last 2
average done-run@20 done-run@ARG
export done-run OUT --format ARG
export done-run@ARG ARG
import FILE ARG
prune done-run --dry-run
queue pause
queue add --preset ARG
queue add a-draft
queue move ARG 1
queue move a-draft ARG
queue move a-draft 1
queue
queue list
queue remove a-draft
queue resume
corpus
corpus remove ARG --yes
config presets
doctor
docs
ARG
--fps ARG
--ARG
compare a-draft done-run bad-run gone-run left-run
compare done-run ARG
tag done-run ARG
tag done-run
tag ARG ARG
note done-run ARG
note done-run
note ARG ARG
rename done-run ARG
rename done-run other-run
rename ARG ARG
delete left-run
trash
restore left-run --as ARG
restore left-run
delete left-run
purge ARG --yes
purge left-run --yes
""".strip().splitlines()
"""Commands with hostile runs and arguments; none of them trains."""


def commands(text: str, file: Path) -> Iterator[list[str]]:
    """Yield each verb with a hostile argument alone, and the commands of the table."""
    argument = text.replace("\0", "")
    for verb in VERBS:
        yield [*verb.name.split(), argument]
    # Following a draft waits until it is started.
    several = {
        "RUN": ("a-draft", *ENDS),
        "ENDED": tuple(ENDS),
        "CONFIG": ("train", "estimate", "config show", "bench"),
    }
    one = {"ARG": argument, "FILE": str(file), "HERE": str(file.parent)}
    one["OUT"] = str(file.parent / argument.replace("/", ""))
    for command in COMMANDS:
        name = next((name for name in several if name in command.split()), "")
        for value in several.get(name, ("",)):
            words = (command.replace(name, value) if name else command).split()
            for place, path in one.items():
                words = [word.replace(place, path) for word in words]
            yield words


def main() -> None:
    """Run all commands; the last line sums up their exit codes."""
    text = TEXTS[sys.argv[1]]
    sys.stdin = StringIO()  # a verb that asks would wait
    fill(text)
    file = Path(sys.argv[2])
    file.write_text(
        f'preset = "demo"\n[corpus]\nsource = {json.dumps(text)}\n{json.dumps(text)} ='
        f" {json.dumps(text)}\n",
        encoding="utf-8",
    )
    codes = []
    for arguments in commands(text, file):
        codes.append(run_verb(arguments))
        if arguments[0] not in SLOW:
            codes.append(run_verb([*arguments, "--json"]))
    line(f"commands {len(codes)}, codes {sorted(set(codes))}")


if __name__ == "__main__":
    main()
