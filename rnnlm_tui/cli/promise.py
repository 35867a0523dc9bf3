"""What a run guarantees, for the help; the README has the details."""

from __future__ import annotations

GUARANTEES_TITLE = "Guarantees"

GUARANTEES: tuple[tuple[str, str], ...] = (
    (
        "Always",
        "After a crash of the worker, the app, the connection or the machine, `resume` continues from"
        " the last verified checkpoint with the same data order, schedule, counters, random state and"
        " hidden state: no window is skipped or repeated. No committed metrics are lost.",
    ),
    (
        "Exact mode",
        "With training.deterministic = true, on the same machine, device, versions, thread count and"
        " settings, a run that is repeated, or interrupted and resumed any number of times, ends with"
        " bit-identical weights. It may be slower. An operation that can't be deterministic stops the"
        " run and is named in the error.",
    ),
    ("Fast mode", "The default. After a resume the loss continues within rounding error."),
    ("Not promised", "Equal results across CPU and GPU, GPU models, versions or thread counts."),
    ("Power cut", "Checkpoints are safe; the last few metrics may be lost, but no row is ever partial."),
)
"""Each guarantee by its name, in the order of the README."""

VERBS_WITH_GUARANTEES = ("train", "resume")
"""The verbs whose own help lists the guarantees too."""
