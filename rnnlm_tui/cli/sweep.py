"""Sweeps: `train --sweep …` puts a grid of runs into the queue, `sweep` shows what they found."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.cli.options import arg, complete_field, grouped
from rnnlm_tui.cli.output import (
    Answer,
    ProgressLine,
    check_agreed,
    line,
    note,
    table,
    warn,
    warn_of_logout,
)
from rnnlm_tui.cli.summaries import queue_places
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted, first_of

if TYPE_CHECKING:
    from rnnlm_tui.client.sweeps import Effect, Sweep
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.store.lineage import ParentCheckpoint

ASK_ABOVE = 100
"""A sweep of more runs is asked about."""
SHOWN_VALUES = 4


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """The options that make a sweep of a new run."""

    sweep: list[str] | None = grouped(
        "--sweep KEY=A,B,…",
        "Put a run for each value into the queue; can be repeated, for all combinations.",
        complete=complete_field,
    )
    sweep_random: int = grouped(
        "--sweep-random N",
        "Draw N settings instead; --sweep then also takes KEY=A..B and KEY=log:A..B.",
        0,
    )
    sweep_seed: int | None = grouped("--sweep-seed N", "The seed of --sweep-random.")
    sweep_name: str = grouped(
        "--sweep-name NAME", "The sweep's name, for its tag and its runs.", ""
    )
    sweep_prune: int = grouped(
        "--sweep-prune STEP",
        "Stop a run that is worse than the median of the others at this step.",
        0,
    )
    yes: bool = grouped("--yes -y", "Don't ask before a sweep of many runs.", False)


def queue_sweep(options: SweepOptions, base: RunConfig, parent: ParentCheckpoint | None) -> Answer:
    """Put the runs of a sweep into the queue.

    Args:
        base: the config of which the swept keys change.

    Raises:
        ConfigError: all problems of the swept keys, values and combinations; nothing was created.
        InputError: contradicting options, or the user can't be asked.
    """
    from rnnlm_tui.schema.validation import merge, parse_config

    draws, seed, sweeps = options.sweep_random, options.sweep_seed, client.sweeps
    if draws < 0 or (seed is not None and not draws):
        raise InputError("--sweep-seed needs --sweep-random N, with N above 0")
    if options.sweep_name:
        sweeps.check_name(options.sweep_name)
    choices = sweeps.parse_sweep(options.sweep or (), drawn=draws > 0)
    if options.sweep_prune:
        base = parse_config(merge(base, {"evaluation.prune_step": options.sweep_prune}))
    number = draws or sweeps.grid_size(choices)
    if number > sweeps.MOST_RUNS:
        raise InputError(
            f"a sweep of {number:,} runs: at most {sweeps.MOST_RUNS:,} are allowed",
            hint="leave out values, or draw some settings with --sweep-random N",
        )
    if number > ASK_ABOVE:
        question = f"Put {counted(number, 'run')} into the queue?"
        check_agreed(question, "sweep", yes=options.yes, otherwise="nothing was created")
    if draws and seed is None:
        seed = secrets.randbelow(10**6)
    settings = sweeps.settings_of(choices, draws, seed or 0)
    configs = list(dict.fromkeys(sweeps.configs_of(base, settings, parent)))
    name = options.sweep_name or sweeps.name_of(configs)
    warn(client.gpus.unused_gpu_warning(base.training.device))
    with ProgressLine() as shown:
        queued = sweeps.queue_sweep(
            name, configs, parent, lambda done: shown(f"{done:,} of {len(configs):,} runs created")
        )
    warn_of_logout()
    said = [
        f"sweep {name}: {counted(len(queued.created), 'run')} added to the queue",
        f"drawn with --sweep-seed {seed}" if draws else "",
        f"left out {counted(number - len(configs), 'duplicate')}" if number > len(configs) else "",
        f"{counted(len(queued.again), 'draft')} of it put back into the queue"
        if queued.again
        else "",
        f"{counted(len(queued.known), 'run')} of it existed already" if queued.known else "",
        f"`rnnlm-tui sweep {name}` shows it",
    ]
    value = {"sweep": name, "seed": seed, "duplicates": number - len(configs), **queued._asdict()}
    names = "\n".join([*queued.created, *queued.again])
    return Answer(value, names, "; ".join(filter(None, said)))


def check_options(options: SweepOptions) -> None:
    """Refuse the options of a sweep without `--sweep`."""
    given = [name for name, value in asdict(options).items() if value not in (None, "", 0)]
    if given and not options.sweep:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{names} without --sweep", hint="add --sweep KEY=A,B,…")


def complete_sweep() -> list[str]:
    """List the names of sweeps, for the shell."""
    return list(client.sweeps.sweeps_in(client.listing.listed_runs().runs))


def sweep(
    name: str = arg("[NAME]", "A sweep's name or its first characters.", "", complete_sweep),
) -> Answer:
    """Show a sweep, the best settings first, or list sweeps.

    The spread of a key is the difference between the best settings with each of its values.
    """
    listing = client.listing.listed_runs()
    known = client.sweeps.sweeps_in(listing.runs)
    if not name:
        found = [
            client.sweeps.read_sweep(one, runs, listing.config_of) for one, runs in known.items()
        ]
        return Answer(found, lambda: _print_sweeps(found))
    wanted = client.sweeps.find_sweep(name, known)
    one = client.sweeps.read_sweep(wanted, known[wanted], listing.config_of)
    return Answer(one, lambda: _print_sweep(one))


def _print_sweeps(found: Sequence[Sweep]) -> None:
    places = queue_places()
    rows = [
        (
            one.name,
            client.sweeps.states_words(one, places),
            _best(one),
            ", ".join(one.keys) or "seeds",
        )
        for one in found
    ]
    none = "no sweeps yet: `rnnlm-tui train --sweep KEY=A,B` starts one"
    table(("sweep", "runs", ">best", "keys"), rows, none=none)


def _best(found: Sweep) -> str:
    best = found.settings[0]
    return client.sweeps.figure_text(found, best.figure, best.deviation)


def _print_sweep(found: Sweep) -> None:
    places, figure_text = queue_places(), client.sweeps.figure_text
    line(f"{found.name}: {client.sweeps.states_words(found, places)}")
    heads = (">ppl" if found.measure == "ppl" else ">bits per byte", "run", "state", ">step")
    rows = []
    for place, setting in enumerate(found.settings):
        figure = figure_text(found, setting.figure, setting.deviation)
        figure += " *" if place == 0 and setting.figure is not None else "  "
        values = [value for _, value in setting.values]
        for at, run in enumerate(setting.runs):
            state = client.sweeps.state_of(run, places)
            head = (*values, figure) if at == 0 else ("",) * (len(values) + 1)
            rows.append((*head, run.run, state, f"{run.step:,}"))
    table((*(key.rpartition(".")[2] for key in found.keys), *heads), rows)
    if found.effects:
        line()
        cells = [_effect_cells(found, effect) for effect in found.effects]
        table(("key", ">spread", "best", "values"), cells)
    for run in found.runs:
        if run.message:
            note(f"{run.run} {client.sweeps.state_of(run, places)}: {run.message}")


def _effect_cells(found: Sweep, effect: Effect) -> tuple[str, ...]:
    figures = [f"{value} {client.sweeps.figure_text(found, one)}" for value, one in effect.figures]
    return (
        effect.key,
        client.sweeps.figure_text(found, effect.spread),
        effect.figures[0][0],
        first_of(figures, SHOWN_VALUES),
    )
