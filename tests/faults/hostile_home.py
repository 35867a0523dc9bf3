"""A data home full of hostile text; `python -m tests.faults.hostile_home` runs every verb on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

from rnnlm_tui.cli.app import VERBS
from rnnlm_tui.cli.main import run as run_verb
from rnnlm_tui.cli.output import line
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import MANIFEST_NAME, CorpusManifest, SplitFacts
from rnnlm_tui.schema.facts import Facts, Parent
from rnnlm_tui.schema.metrics import AttemptRow, EvaluationRow, EventKind, EventRow, SampleRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.labels import labels_file
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import PARENT_NAME, RunDirectory, corpora_dir, states_dir
from rnnlm_tui.store.runs import create_run
from tests.faults.hostile import TEXTS
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
COMMANDS = """
runs; runs --filter BAD; runs --filter BAD<3; runs --filter ppl<BAD; runs --filter tag=fine
runs --sort BAD; runs --sort note; compare a-draft ENDS; compare done-run BAD
show RUN; show RUN --health; follow ENDED; follow BAD; open BAD
metrics RUN; metrics done-run --csv --evaluations; metrics done-run --evaluations
metrics done-run --csv; checkpoints RUN; verify RUN
pause RUN; stop RUN; checkpoint RUN; evaluate RUN; resume bad-run --detach; resume BAD
set left-run BAD=BAD; set left-run learning_rate=BAD
config show RUN; config show done-run --explain; config show done-run --origin
config diff done-run demo; config presets; config BAD
pin done-run@20; pin done-run@BAD; pin BAD@20; unpin done-run@20; unpin done-run@BAD; unpin BAD@20
sample done-run BAD --json; sample done-run@BAD The; sample done-run The --seed BAD
sample done-run The --stop BAD --temperature 0
samples; samples BAD; samples --run BAD; samples --limit BAD; samples --delete BAD
samples --export OUT; samples --export OUT; samples --export -; samples --export - --format BAD
samples --delete 0 --yes
score done-run FILE; score done-run BAD BAD2; score done-run@BAD FILE
state list; state keep done-run BAD BAD; state keep done-run new-state BAD --note BAD
state keep done-run new-state x --state BAD; state show a-state; state show BAD
state show BAD-damaged; state delete BAD a-state --yes
train START; estimate START; bench START; config show START
train --set corpus.source=BAD; train --set corpus.source=OUT --detach; train --from BAD@BAD
train --name BAD --set corpus.source=elman --draft; train --from done-run@BAD
train --from done-run@20 --draft
archive BAD PACKED; archive done-run PACKED; unarchive PACKED BAD; unarchive FILE; unarchive BAD
average BAD --last 2; average done-run@20 done-run@BAD
export done-run OUT --format BAD; export done-run@BAD BAD; import FILE BAD; import BAD
prune BAD; prune done-run --dry-run
queue pause; queue add BAD; queue add --preset BAD; queue add a-draft; queue move BAD 1
queue move a-draft BAD; queue move a-draft 1; queue; queue list; queue remove BAD
queue remove a-draft; queue resume
corpus; corpus remove BAD --yes; doctor; docs; docs BAD; BAD; --fps BAD; --BAD
tag done-run BAD; tag BAD BAD; tag done-run; note done-run BAD; note BAD BAD; note done-run
rename done-run; rename BAD BAD; rename done-run BAD; rename done-run other-run
delete BAD; delete left-run; trash; restore BAD; restore left-run --as BAD; restore left-run
delete left-run; purge BAD --yes; purge left-run --yes
"""
"""Commands for every verb; none of them trains."""
STARTS = ("--set BAD=BAD", "--preset BAD", "--config BAD", "--config FILE", "--BAD")


def fill(text: str) -> None:
    """Create the runs, a corpus and worker logs."""
    from rnnlm_tui.store.checkpoints import write_checkpoint

    changes = {
        "corpus.source": text,
        "corpus.test_source": text,
        "tokenizer.name": text,
        "sampling.stop": [text[:100]],
        "evaluation.prompts": [text, text],
    }
    config = parse_config(merge(DEMO, changes))
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
    now = time.time() - 3_600.0  # on another host, as it says: it is lost at once
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
    facts = SplitFacts(documents=1, sentences=10, tokens=100, bytes=400)
    manifest = CorpusManifest(
        hash="0" * 64,
        corpus=config.corpus,
        tokenizer=config.tokenizer,
        title=text,
        source_hash=text,
        vocab_size=2_048,
        eos_id=0,
        pad_id=1,
        eos_text="\n",
        splits={"train": facts, "validation": facts, "test": facts},
        notes=(text,),
        created=0.0,
    )
    folder = corpora_dir() / "0000000000000000"
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")


def commands(text: str, file: Path) -> Iterator[list[str]]:
    """Yield each verb with a hostile argument alone, and the commands of the table."""
    bad = text.replace("\0", "")
    for verb in VERBS:
        yield [*verb.name.split(), bad]
    known = {
        "BAD": bad,
        "FILE": str(file),
        "OUT": str(file.parent / bad.replace("/", "")),
        "PACKED": str(file.parent / "run.tar.zst"),
    }
    several = {"RUN": ("a-draft", *ENDS, "BAD"), "ENDED": (*ENDS,), "START": STARTS}
    for one in COMMANDS.replace("\n", ";").split(";"):
        words = one.replace("ENDS", " ".join(ENDS)).strip()
        each = next((word for word in several if word in words.split()), "")
        for value in several.get(each, (each,)):
            call = words.replace(each, value).split() if each else words.split()
            if call:
                yield [_filled(word, known) for word in call]


def _filled(word: str, known: Mapping[str, str]) -> str:
    for name, value in known.items():
        word = word.replace(name, value)
    return word


def main() -> None:
    """Run all commands; the last line sums up their exit codes."""
    text = TEXTS[sys.argv[1]]
    fill(text)
    file = Path(sys.argv[2])
    file.write_text(
        f'preset = "demo"\n[corpus]\nsource = {json.dumps(text)}\n{json.dumps(text)} ='
        f" {json.dumps(text)}\n",
        encoding="utf-8",
    )
    sys.stdin = StringIO()  # nobody answers questions
    codes = []
    for arguments in commands(text, file):
        codes.append(run_verb(arguments))
        if arguments[0] not in SLOW:
            codes.append(run_verb([*arguments, "--json"]))
    line(f"commands {len(codes)}, codes {sorted(set(codes))}")


if __name__ == "__main__":
    main()
