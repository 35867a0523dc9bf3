"""What a run promises, as the help says it; the README says it in full."""

from __future__ import annotations

PROMISE_TITLE = "What a run promises"

PROMISE: tuple[tuple[str, str], ...] = (
    (
        "Always",
        "After a crash of the worker, the app, the connection or the machine, `resume` goes on from the last verified checkpoint with the same data order, schedule,"
        " counters, random state and hidden state: no window is skipped or seen twice. Metrics committed before are all there.",
    ),
    (
        "Exact mode",
        "With training.deterministic = true, on the same machine, device, versions, thread count and settings, a run that is repeated, or interrupted and resumed any"
        " number of times, ends in bit-identical weights. It may be slower. An operation that can't be deterministic stops the run with its name.",
    ),
    ("Fast mode", "The default. After a resume the loss goes on within rounding noise."),
    ("Not promised", "Equality between CPU and GPU, GPU models, versions, or numbers of threads."),
    ("Power cut", "Checkpoints are safe; the last moments of metrics may be missing, never half a row."),
)
"""Each part by its name, in the order of the README."""

PROMISING = ("train", "resume")
"""The verbs whose own help says it too."""
