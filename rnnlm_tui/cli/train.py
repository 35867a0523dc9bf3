"""The verbs `train` and `follow`.

`train --from RUN@CHECKPOINT`: find the parent checkpoint and check that the config fits it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.options import (
    ConfigOption,
    DetachOption,
    FollowOption,
    JsonOption,
    PresetOption,
    RunArgument,
    SetOption,
    check_exclusive,
    checkpoint_path,
    complete_address,
    split_address,
)
from rnnlm_tui.errors import ConfigError, Problem

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.store.paths import RunDirectory


FIRST_STEP_SECONDS = 10.0
"""Maximum wait of `--detach` for the first step, to report errors that only the worker detects."""


def train(
    preset: PresetOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The run's name (default: a random one).", show_default=False
        ),
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN[@CHECKPOINT]",
            help="Start from this checkpoint's weights (default: @best) and its run's config.",
            show_default=False,
            autocompletion=complete_address,
        ),
    ] = None,
    follow: FollowOption = False,
    detach: DetachOption = False,
    draft: Annotated[
        bool,
        typer.Option("--draft", help="Create the run without starting it; `resume` starts it."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Start a training run.

    The run trains in the background and continues when you close the terminal. Without --follow or
    --detach the app opens on the run or, without a terminal, its progress is printed until it ends.
    """
    from rnnlm_tui.cli.config import build_config, runnable_config
    from rnnlm_tui.cli.output import note, warn_of_logout
    from rnnlm_tui.cli.start import open_app, should_open_app
    from rnnlm_tui.client.preflight import check_before_start
    from rnnlm_tui.client.start import discard_refused, start_run, wait_for_training
    from rnnlm_tui.store.runs import create_run

    check_exclusive(follow=follow, detach=detach, draft=draft)
    check_exclusive(
        "--from uses the config of its run",
        preset=preset is not None,
        **{"from": parent is not None},
    )
    if parent is not None:
        address, base = config_of_parent(parent)
        if "@" not in parent:
            note(
                f"starting from {address} (the default is @best, or @last if no checkpoint was"
                " evaluated)"
            )
        wanted = build_config(None, config, assignments, base=base)
    else:
        address, base = None, None
        wanted = runnable_config(preset, config, assignments)
    showing = should_open_app(follow, detach, draft, json)
    if base is not None:
        check_fits_parent(wanted, base)
    if draft:
        check_before_start(wanted)
        print_run(
            create_run(wanted, name, address),
            "draft created; `rnnlm-tui resume {run}` starts it",
            json=json,
        )
        return
    directory = start_run(wanted, name, address, warn=lambda words: note(f"warning: {words}"))
    warn_of_logout()
    if detach:
        wait_for_training(directory, FIRST_STEP_SECONDS)
        print_run(
            directory,
            "started; `rnnlm-tui show {run}` shows its figures, `rnnlm-tui open {run}` its charts",
            json=json,
        )
    elif showing:
        open_app(directory, "train")
    else:
        from rnnlm_tui.cli.watch import follow_run

        code = follow_run(directory, json=json)
        if discard_refused(directory) is not None:
            note(f"{directory.name} never started and was moved to the trash")
        raise typer.Exit(code)


def print_run(directory: RunDirectory, words: str, *, json: bool) -> None:
    """Print a run's name, or its summary as JSON, on stdout, and what to do next on stderr."""
    from rnnlm_tui.cli.output import line, note, print_json
    from rnnlm_tui.client.monitor import summarize

    if json:
        print_json(summarize(directory).model_dump(mode="json"))
    else:
        line(directory.name)
        note(words.format(run=directory.name))


def follow(run: RunArgument, json: JsonOption = False) -> None:
    """Print a run's progress until it ends; Ctrl-C detaches."""
    from rnnlm_tui.cli.watch import follow_run
    from rnnlm_tui.store.runs import find_run

    raise typer.Exit(follow_run(find_run(run), json=json))


FREE: frozenset[str] = frozenset(
    {
        "corpus.url",
        "model.dropout",
        "model.variational_dropout",
        "model.embedding_dropout",
        "model.weight_dropout",
        "model.initialization",
        "model.init_scale",
    }
)
"""Fields that may differ from the parent: they affect neither weight shapes nor vocabulary."""


def config_of_parent(address: str) -> tuple[str, RunConfig]:
    """Return the full address `RUN@STEP` and the run's config; the default is the best checkpoint.

    Raises:
        UnknownRunError, UnknownCheckpointError: no such run or checkpoint.
        CheckpointError: the checkpoint is damaged.
    """
    from rnnlm_tui.store.verify import verify_checkpoint

    directory, which = split_address(address)
    path = checkpoint_path(directory, which)
    verify_checkpoint(path)
    return f"{directory.name}@{int(path.name.rpartition('-')[2])}", directory.read_config()


def check_fits_parent(config: RunConfig, parent: RunConfig) -> None:
    """Raise ConfigError if the config doesn't fit the parent's weights and vocabulary."""
    sections = (
        ("model", "tokenizer")
        if parent.tokenizer.kind in ("byte", "pretrained")
        else ("model", "tokenizer", "corpus")
    )
    problems = []
    for section in sections:
        wanted, trained = _values(config, section), _values(parent, section)
        for name in sorted({*wanted, *trained}):
            path = f"{section}.{name}"
            if path not in FREE and wanted.get(name) != trained.get(name):
                problems.append(
                    Problem(
                        path,
                        f"is {wanted.get(name)!r}, but the checkpoint was trained with"
                        f" {trained.get(name)!r}",
                        "start a run without --from to change it",
                    )
                )
    if problems:
        raise ConfigError(problems)


def _values(config: RunConfig, section: str) -> dict[str, object]:
    from rnnlm_tui.schema.validation import config_to_raw

    values = config_to_raw(config)[section]
    return dict(values) if isinstance(values, dict) else {}
