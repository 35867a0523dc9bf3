"""SQL statements that compute roll-ups of steps and of machine readings."""

from __future__ import annotations

from rnnlm_tui.contract.metrics import MACHINE_COLUMNS, METRIC_COLUMNS
from rnnlm_tui.store.schema import ROLLUP_READINGS, ROLLUP_STEPS

_PARTS = [f"{name}_{part}" for name in METRIC_COLUMNS for part in ("n", "min", "max", "sum")]
_WORKED_OUT = [f"{how}({name}) AS {name}_{part}" for name in METRIC_COLUMNS for how, part in (("count", "n"), ("min", "min"), ("max", "max"), ("sum", "sum"))]
_MACHINE_PARTS = [f"{part}{index}" for index in range(len(MACHINE_COLUMNS)) for part in "nlhs"]
_MACHINE_WORKED_OUT = [
    f"{how}({name}) AS {part}{index}" for index, name in enumerate(MACHINE_COLUMNS) for how, part in (("count", "n"), ("min", "l"), ("max", "h"), ("sum", "s"))
]

# A bucket is always computed from all its rows, so it is right after a repeated batch or a resume; 1,024 rows take 0.5 ms.
ROLL_UP_STEPS = f"""
INSERT OR REPLACE INTO rollups
SELECT :bucket, whole.last_step, newest.tokens_seen, newest.epoch, newest.active_seconds, newest.time, whole.nonfinite_rows, {", ".join(f"whole.{part}" for part in _PARTS)}
FROM (
    SELECT max(step) AS last_step, count(nonfinite) AS nonfinite_rows, {", ".join(_WORKED_OUT)}
    FROM steps WHERE superseded = 0 AND step > :bucket * {ROLLUP_STEPS} AND step <= (:bucket + 1) * {ROLLUP_STEPS}
) AS whole JOIN steps AS newest ON newest.step = whole.last_step AND newest.superseded = 0
"""
"""Computes one `bucket`; does nothing if it has no steps."""

ROLL_UP_READINGS = f"""
INSERT OR REPLACE INTO hardware_rollups
SELECT :bucket, whole.last_id, newest.time, {", ".join(f"whole.{part}" for part in _MACHINE_PARTS)}
FROM (
    SELECT max(id) AS last_id, {", ".join(_MACHINE_WORKED_OUT)}
    FROM hardware WHERE id > :bucket * {ROLLUP_READINGS} AND id <= (:bucket + 1) * {ROLLUP_READINGS}
) AS whole JOIN hardware AS newest ON newest.id = whole.last_id
"""
"""Computes one `bucket`; does nothing if it has no readings."""

BUCKETS_OF_STEPS = f"SELECT DISTINCT (step - 1) / {ROLLUP_STEPS} FROM steps WHERE superseded = 0"
BUCKETS_OF_READINGS = f"SELECT DISTINCT (id - 1) / {ROLLUP_READINGS} FROM hardware"
