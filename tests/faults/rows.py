"""What can go wrong, what must happen then, and which tests make it happen; `python -m tests.faults.rows` prints the list."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault."""

    fault: str
    expected: str
    tests: tuple[str, ...]
    """`file::test`, the file's name without `.py`, in this folder."""


ROWS: tuple[Row, ...] = (
    Row(
        "kill -9 of the worker at random, and inside each phase of a checkpoint's writing",
        "it resumes from the newest valid checkpoint to bit-equal weights in exact mode; temporary files are swept",
        ("test_crash_points::test_a_run_that_breaks_inside_a_checkpoint_ends_in_the_weights_of_an_undisturbed_one",),
    ),
    Row(
        "SIGTERM; a second SIGTERM",
        "a checkpoint and exit code 0 within a step; leaves now",
        (
            "test_processes::test_sigterm_checkpoints_within_a_step_and_exits_with_0",
            "test_processes::test_a_second_sigterm_leaves_now_and_the_run_resumes",
        ),
    ),
    Row(
        "kill -9 of the app, terminal closed, app stopped for minutes",
        "the worker goes on at the same speed; the app is gone within 2 s and leaves no process; opened again it shows every point",
        (),
    ),
    Row(
        "two workers on one run",
        "the second refuses with the pid and since when, also after kill -9 of the first",
        ("test_processes::test_a_second_worker_is_refused_with_pid_and_time_also_after_kill_9_of_the_first",),
    ),
    Row("two apps on one run", "both see, both may steer; the journal keeps the order, and nothing acts twice", ()),
    Row(
        "disk full: at metrics, at a checkpoint, at the start",
        "training goes on as degraded with its rows kept; old checkpoints intact, no partial one, tried again; refused with need and have",
        (
            "test_full_disk::test_training_goes_on_degraded_when_the_disk_is_full_and_says_why",
            "test_full_disk::test_no_row_is_lost_and_none_comes_twice_once_a_full_disk_has_space_again",
            "test_full_disk::test_a_full_disk_leaves_no_partial_checkpoint_and_touches_no_old_one",
            "test_full_disk::test_a_full_disk_at_the_start_is_refused_with_need_and_have",
        ),
    ),
    Row(
        "a run's folder removed or moved under its worker; one that can't be written",
        "the run ends with the reason and nothing is made anew; refused with the path, or degraded until it can be",
        (
            "test_run_directory::test_a_run_directory_removed_under_its_worker_ends_the_run_with_the_reason_and_is_not_made_again",
            "test_run_directory::test_a_run_directory_moved_away_and_back_resumes_from_its_last_checkpoint",
            "test_run_directory::test_a_read_only_run_directory_is_refused_with_the_path_and_what_to_do",
            "test_run_directory::test_checkpoints_that_may_not_be_written_make_the_run_degraded_until_they_may",
        ),
    ),
    Row(
        "truncated, zeroed or bit-flipped file in a checkpoint; missing or wrong manifest; path tricks in it",
        "found by hash; the previous one is used, and it says so",
        (),
    ),
    Row("a pickle or .pt offered as checkpoint or tokenizer", "refused by kind, never opened", ()),
    Row(
        "run.db truncated, random, of a newer schema",
        "moved aside and rebuilt, or named as made by a newer version and left alone",
        (
            "test_database::test_a_damaged_database_is_moved_aside_and_rebuilt_from_manifests_and_what_can_be_read",
            "test_database::test_a_database_of_a_newer_version_is_named_and_left_as_it_is",
        ),
    ),
    Row(
        "NaN or inf in loss or gradient",
        "the update is not applied, and a mark says so; after a set number the run fails with its last good weights; never the best",
        (),
    ),
    Row(
        "out of memory in the rehearsal before the first step, in a step, in a sample",
        "a message with the shapes and a batch size that should fit; a sample's doesn't end training",
        (),
    ),
    Row(
        "corpus missing, empty, shorter than a window, invalid UTF-8, binary, directory, FIFO, one 1 GB line, CRLF, BOM, NULs; changed between stop and resume",
        "refused by kind with the fact, or works in constant memory; a change is refused with both hashes",
        (),
    ),
    Row("config: 0, negative, 1e9, NaN, wrong type, unknown key", "every problem at once with its field, the range and a near spelling", ()),
    Row("run names ../x, /abs, a/b, empty, -rf, NUL, 300 characters", "refused", ()),
    Row(
        "socket: unknown verb, half a line, 1 MB, not JSON, 1,000 connects, slow reader, another user",
        "refused or dropped; a step takes less than 2 % longer",
        (),
    ),
    Row(
        "ESC, OSC 52, DCS, C1, bidi, [red], [/, [@click=app.quit] in prompts, generated text, names, corpus, exceptions, logs",
        "shown literally; no control byte reaches the terminal from any view",
        (
            "test_hostile_text::test_hostile_text_is_shown_literally_on_the_panes_of_a_run",
            "test_hostile_text::test_hostile_prompts_and_generated_text_are_shown_literally",
            "test_hostile_text::test_hostile_text_is_shown_literally_in_the_list_of_runs_and_what_lies_over_it",
        ),
    ),
    Row("prompt: empty, 1 MB paste, NULs, lone surrogate, text outside the vocabulary", "a stated limit; unknown characters shown; cancellable", ()),
    Row("clock jumps, DST", "rates and remaining time from the monotonic clock; order by step", ()),
    Row("resize 1×1 to 300×100 in a loop on every screen while data arrives", "no exception", ()),
    Row(
        "resume with another batch size, model size, dtype, number of processes",
        "refused with the difference, or explicitly a new run with a parent",
        (),
    ),
    Row(
        "a million steps, accelerated",
        "memory, descriptors, threads and the write-ahead log stay flat",
        (
            "test_soak::test_memory_descriptors_threads_and_log_stay_flat_over_a_long_run",
            "test_soak::test_a_long_run_ends_with_every_step_stored",
        ),
    ),
)
"""In the order in which they are told; a test checks that each names tests and that they are there."""


def main() -> int:
    """Print each fault with its tests."""
    for row in ROWS:
        sys.stdout.write("\n  ".join([row.fault, f"→ {row.expected}", *row.tests]) + "\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
