"""A data home full of hostile text; `python -m tests.faults.hostile_home` runs every verb on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rnnlm_tui.cli.app import VERBS
from rnnlm_tui.cli.main import run as run_verb
from rnnlm_tui.cli.output import line
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.lineage import Parent
from rnnlm_tui.schema.metrics import AttemptRow, EvaluationRow, EventKind, EventRow, SampleRow
from rnnlm_tui.schema.presets import DEMO
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
                {
                    name: text
                    for name, field in Facts.model_fields.items()
                    if field.annotation is str
                }
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


def commands(text: str, file: Path) -> Iterator[list[str]]:
    """Yield commands for every verb, with hostile runs and arguments; none of them trains."""
    argument = text.replace("\0", "")
    on_runs = (
        "show",
        "show --once",
        "follow",
        "metrics",
        "checkpoints",
        "verify",
        "pause",
        "stop",
        "checkpoint",
        "evaluate",
        "config show",
        "open",
    )
    yield ["runs"]
    for verb in on_runs:
        # Following a draft waits until it is started.
        runs = () if verb == "open" else ENDS if verb == "follow" else ("a-draft", *ENDS)
        for run in runs:
            yield [*verb.split(), run]
        yield [*verb.split(), argument]
    for more in (["--csv", "--evaluations"], ["--evaluations"], ["--csv"]):
        yield ["metrics", "done-run", *more]
    yield ["config", "show", "done-run", "--explain"]
    yield ["config", "show", "done-run", "--origin"]
    yield ["config", "diff", "done-run", "demo"]
    for verb in ("pin", "unpin"):
        yield [verb, "done-run@20"]
        yield [verb, f"done-run@{argument}"]
        yield [verb, f"{argument}@20"]
    yield ["resume", "bad-run", "--detach"]
    yield ["resume", argument]
    yield ["set", "left-run", f"{argument}={argument}"]
    yield ["set", "left-run", f"learning_rate={argument}"]
    yield ["sample", "done-run", argument, "--json"]
    yield ["sample", f"done-run@{argument}", "The"]
    yield ["sample", "done-run", "The", "--stop", argument * 3, "--temperature", "0"]
    yield ["sample", "done-run", "The", "--seed", argument]
    for more in (
        [],
        [argument],
        ["--run", argument],
        ["--limit", argument],
        ["--delete", argument],
    ):
        yield ["samples", *more]
    exported = str(file.parent / argument.replace("/", ""))
    for more in ([exported], [exported], ["-"], ["-", "--format", argument]):
        yield ["samples", "--export", *more]
    yield ["samples", "--delete", "0", "--yes"]
    yield ["score", "done-run", str(file)]
    yield ["score", "done-run", argument, f"{argument}2"]
    yield ["score", f"done-run@{argument}", str(file)]
    yield ["state", "list"]
    yield ["state", "keep", "done-run", argument, argument]
    yield ["state", "keep", "done-run", "new-state", argument, "--note", argument]
    yield ["state", "keep", "done-run", "new-state", "x", "--state", argument]
    for name in ("a-state", argument, f"{argument}-damaged"):
        yield ["state", "show", name]
    yield ["state", "delete", argument, "a-state", "--yes"]
    for verb in ("train", "estimate", "config show", "bench"):
        words = verb.split()
        yield [*words, "--set", f"{argument}={argument}"]
        yield [*words, "--preset", argument]
        yield [*words, "--config", argument]
        yield [*words, "--config", str(file)]
        yield [*words, f"--{argument}"]
    yield ["train", "--set", f"corpus.source={argument}"]
    yield ["train", "--set", f"corpus.source={file.parent / argument}", "--detach"]
    yield ["train", "--name", argument, "--set", "corpus.source=elman", "--draft"]
    yield ["train", "--from", f"{argument}@{argument}"]
    yield ["train", "--from", f"done-run@{argument}"]
    yield ["train", "--from", "done-run@20", "--draft"]
    packed = str(file.parent / "run.tar.zst")
    yield ["archive", argument, packed]
    yield ["archive", "done-run", packed]
    for more in ([packed, argument], [str(file)], [argument]):
        yield ["unarchive", *more]
    yield ["average", argument, "--last", "2"]
    yield ["average", "done-run@20", f"done-run@{argument}"]
    yield ["export", "done-run", exported, "--format", argument]
    yield ["export", f"done-run@{argument}", argument]
    yield ["import", str(file), argument]
    yield ["import", argument]
    yield ["prune", argument]
    yield ["prune", "done-run", "--dry-run"]
    yield ["queue", "pause"]
    yield ["queue", "add", argument]
    yield ["queue", "add", "--preset", argument]
    yield ["queue", "add", "a-draft"]
    for run, place in ((argument, "1"), ("a-draft", argument), ("a-draft", "1")):
        yield ["queue", "move", run, place]
    yield ["queue"]
    yield ["queue", "list"]
    yield ["queue", "remove", argument]
    yield ["queue", "remove", "a-draft"]
    yield ["queue", "resume"]
    yield ["corpus"]
    yield ["corpus", "remove", argument, "--yes"]
    yield ["config", "presets"]
    yield ["doctor"]
    yield ["docs"]
    yield ["docs", argument]
    yield [argument]
    yield ["config", argument]
    yield ["--fps", argument]
    yield [f"--{argument}"]
    for more in (
        ["--filter", argument],
        ["--filter", f"{argument}<3"],
        ["--filter", f"ppl<{argument}"],
        ["--filter", "tag=fine"],
        ["--sort", argument],
        ["--sort", "note"],
    ):
        yield ["runs", *more]
    for run in ENDS:
        yield ["show", run, "--once"]
        yield ["show", run, "--watch"]
    yield ["compare", "a-draft", *ENDS]
    yield ["compare", "done-run", argument]
    for verb in ("tag", "note", "rename"):
        yield [verb, "done-run", *([] if verb == "rename" else [argument])]
        yield [verb, argument, argument]
    yield ["tag", "done-run"]
    yield ["note", "done-run"]
    yield ["rename", "done-run", argument]
    yield ["rename", "done-run", "other-run"]
    yield ["delete", argument]
    yield ["delete", "left-run"]
    yield ["trash"]
    yield ["restore", argument]
    yield ["restore", "left-run", "--as", argument]
    yield ["restore", "left-run"]
    yield ["delete", "left-run"]
    yield ["purge", argument, "--yes"]
    yield ["purge", "left-run", "--yes"]


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
    tried = set()
    codes = []
    for arguments in commands(text, file):
        tried |= {
            verb.name for verb in VERBS if verb.name.split() == arguments[: len(verb.name.split())]
        }
        codes.append(run_verb(arguments))
        if arguments[0] not in SLOW:
            codes.append(run_verb([*arguments, "--json"]))
    untried = {verb.name for verb in VERBS} - tried
    line(f"commands {len(codes)}, codes {sorted(set(codes))}, not tried {sorted(untried)}")


if __name__ == "__main__":
    main()
