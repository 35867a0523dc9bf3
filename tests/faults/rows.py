"""The faults, what must happen with each, and the tests that cause it.

`python -m tests.faults.rows` prints the list.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault."""

    fault: str
    expected: str
    tests: tuple[str, ...]
    """`file::test`; the file is in this folder, without `.py`."""


ROWS: tuple[Row, ...] = (
    Row(
        "kill -9 of the worker at random, and in each phase of saving a checkpoint",
        "it resumes from the newest valid checkpoint to bit-identical weights in exact mode;"
        " temporary files are removed",
        (
            "test_crash_points::test_a_run_that_crashes_inside_a_checkpoint_ends_with_the_weights_of_an_undisturbed_one",
            "test_crash_points::test_a_writer_that_crashes_leaves_the_old_or_the_new_checkpoint_valid_even_of_the_same_step",
            "test_exact_resume::test_random_kills_in_mid_run_and_in_mid_save_lose_nothing",
            "test_exact_resume::test_a_run_stopped_at_random_steps_or_sampled_ends_bit_identical",
            "test_exact_resume::test_steps_repeated_by_later_attempts_replace_the_old_ones",
        ),
    ),
    Row(
        "SIGTERM; a second SIGTERM",
        "a checkpoint and exit code 0 within a step; exits at once",
        (
            "test_processes::test_sigterm_checkpoints_within_a_step_and_exits_with_0",
            "test_processes::test_sigterm_during_a_pause_saves_a_checkpoint_and_exits_with_0",
            "test_processes::test_a_second_sigterm_exits_at_once_and_the_run_resumes",
            "test_processes::test_a_stop_while_the_largest_step_is_tried_interrupts_it",
            "test_processes::test_a_second_sigterm_exits_at_once_during_a_trial_step_too",
            "test_processes::test_sigusr1_saves_a_checkpoint_and_the_run_survives_sighup",
        ),
    ),
    Row(
        "kill -9 of the app, terminal closed, app suspended for minutes",
        "the worker continues at the same speed; the app ends within 2 s and leaves no process;"
        " reopened it shows every point",
        (
            "test_processes::test_a_run_continues_when_the_session_that_started_it_is_killed",
            "test_processes_app::test_a_killed_app_leaves_no_process_and_a_run_that_continues_with_every_point",
            "test_processes_app::test_a_suspended_app_delays_nothing_and_shows_every_point_afterwards",
            "test_processes_app::test_an_app_on_a_terminal_that_takes_no_output_quits_on_a_signal",
            "test_processes_app::test_an_app_quits_while_a_command_is_unanswered",
            "test_processes::test_a_child_ends_with_its_killed_parent_even_if_it_reads_nothing",
        ),
    ),
    Row(
        "kill -9 of a worker before its first step, while the verb waits",
        "the verb fails with the cause, the next command and an exit code",
        (
            "test_processes_start::test_a_worker_killed_while_train_detach_waits_is_not_reported_as_started",
        ),
    ),
    Row(
        "two workers on one run",
        "the second is refused with the pid and start time, even after kill -9 of the first",
        (
            "test_processes::test_a_second_worker_is_refused_with_pid_and_time_even_after_kill_9_of_the_first",
            "test_processes::test_of_two_workers_started_at_once_one_trains",
        ),
    ),
    Row(
        "kill -9 of the queue's process in a start and around its records; all terminals closed",
        "the next command continues; no waiting run is lost or started twice, a failed one doesn't"
        " stop the others",
        ("test_queue::test_three_runs_end_one_after_the_other_with_all_terminals_closed",),
    ),
    Row(
        "two apps on one run",
        "both show and control the run; the journal keeps the order, and nothing acts twice",
        (
            "test_processes_app::test_two_apps_show_and_control_one_run_and_the_journal_keeps_the_order",
            "test_processes_app::test_simultaneous_commands_act_one_after_the_other_and_none_twice",
            "test_processes_commands::test_a_repeated_id_acts_once",
            "test_processes_commands::test_an_id_repeated_in_the_next_attempt_is_answered_and_has_no_effect",
            "test_processes_commands::test_commands_that_a_killed_worker_had_not_read_never_act",
        ),
    ),
    Row(
        "disk full: at metrics, at a checkpoint, at the start",
        "training continues as degraded and keeps its rows; old checkpoints intact, no partial one,"
        " retried; refused with need and have",
        (
            "test_full_disk::test_training_continues_degraded_when_the_disk_is_full_and_says_why",
            "test_full_disk::test_no_row_is_lost_or_duplicated_once_a_full_disk_has_space_again",
            "test_full_disk::test_a_full_disk_leaves_no_partial_checkpoint_and_touches_no_old_one",
            "test_full_disk::test_the_last_checkpoint_needs_its_size_once_and_not_twice",
            "test_full_disk::test_every_verb_reads_a_finished_run_when_no_byte_is_free",
            "test_full_disk::test_a_full_disk_at_the_start_is_refused_with_need_and_have",
            "test_full_disk::test_a_corpus_that_does_not_fit_fails_the_run_with_the_cause_and_leaves_nothing_incomplete",
        ),
    ),
    Row(
        "a run's folder removed or moved during training; one that can't be written",
        "the run ends with the reason and nothing is created again; refused with the path, or"
        " degraded until it can be written",
        (
            "test_run_directory::test_a_run_directory_removed_during_training_ends_the_run_and_is_not_created_again",
            "test_run_directory::test_a_run_directory_moved_away_and_back_resumes_from_its_last_checkpoint",
            "test_run_directory::test_a_read_only_run_directory_is_refused_with_the_path_and_what_to_do",
            "test_run_directory::test_a_run_is_degraded_while_its_checkpoints_can_not_be_written",
            "test_run_directory::test_a_run_directory_that_may_not_be_entered_is_reported_and_hides_no_other_run",
        ),
    ),
    Row(
        "a run on a network filesystem, resumed on another host",
        "its database is on the local disk, and every row is restored from the log beside its"
        " config",
        (
            "test_network_filesystem::test_a_run_resumes_on_another_host_with_every_row",
            "test_network_filesystem::test_rows_that_were_committed_before_a_kill_are_in_the_log",
            "test_network_filesystem::test_a_damaged_or_forged_log_gives_its_valid_rows_and_nothing_else",
            "test_network_filesystem::test_rows_lost_by_a_full_server_are_written_again_once_it_has_space",
            "test_network_filesystem::test_a_renamed_host_reads_a_copy_and_does_not_touch_the_database_of_a_living_worker",
        ),
    ),
    Row(
        "any umask; names and links that lead out of the home",
        "0700 and 0600, and nothing is read, written or removed outside",
        (
            "test_private_files::test_everything_that_a_run_writes_is_0700_and_0600_whatever_the_umask",
            "test_private_files::test_a_name_never_leads_out_of_the_home",
            "test_private_files::test_nothing_is_written_or_removed_through_a_link_in_a_run",
        ),
    ),
    Row(
        "a login manager that ends a session's processes",
        "reported when a run is started, with what keeps it alive",
        (
            "test_processes_logout::test_a_login_session_ends_a_run_at_logout_and_a_user_scope_does_not",
            "test_processes_logout::test_processes_of_the_user_manager_end_with_it_unless_the_user_lingers",
            "test_processes_logout::test_starting_a_run_from_the_command_line_warns",
            "test_processes_logout::test_starting_a_run_in_the_app_warns",
        ),
    ),
    Row(
        "truncated, zeroed or bit-flipped file in a checkpoint; missing or wrong manifest; path"
        " tricks in it",
        "found by hash; the previous one is used, and it says so",
        (
            "test_damaged_checkpoints::test_a_damaged_checkpoint_is_moved_aside_and_the_run_ends_with_the_same_weights",
            "test_damaged_checkpoints::test_every_flipped_bit_of_a_checkpoint_is_found",
            "test_damaged_checkpoints::test_a_checkpoint_that_is_cut_off_anywhere_is_found",
            "test_damaged_checkpoints::test_verify_names_damaged_files_and_exits_with_5",
        ),
    ),
    Row(
        "a pickle or .pt in place of a checkpoint or tokenizer",
        "refused by kind, never opened",
        (
            "test_no_pickle::test_a_pt_file_in_place_of_a_checkpoint_is_refused_by_its_kind",
            "test_no_pickle::test_a_pickle_under_the_name_of_a_checkpoints_file_is_never_opened",
            "test_no_pickle::test_a_pickle_in_place_of_a_tokenizer_is_refused_by_its_kind",
            "test_no_pickle::test_a_pickle_under_the_name_of_a_tokenizers_file_is_never_opened",
        ),
    ),
    Row(
        "run.db truncated, random, of a newer schema",
        "moved aside and rebuilt, or reported as made by a newer version and not changed",
        (
            "test_database::test_a_damaged_database_is_moved_aside_and_rebuilt_from_manifests_and_readable_rows",
            "test_database::test_damage_that_sqlite_does_not_see_is_reported_and_repaired_too",
            "test_database::test_a_rebuild_that_the_disk_has_no_space_for_changes_nothing",
            "test_database::test_a_run_with_a_damaged_database_resumes_to_the_same_weights",
            "test_database::test_a_database_of_a_newer_version_is_reported_and_not_changed",
        ),
    ),
    Row(
        "NaN or inf in loss or gradient",
        "the update is skipped and marked; after a set number the run fails with its last good"
        " weights; never the best",
        (
            "test_guards::test_a_run_whose_gradients_overflow_fails_with_the_weights_of_its_last_good_step",
            "test_guards::test_the_checkpoint_of_a_failed_run_is_finite_and_the_run_resumes_and_fails_again",
            "test_guards::test_a_spike_is_marked_once_and_changes_nothing_else",
        ),
    ),
    Row(
        "a periodic evaluation or sample that fails; sampling settings of an earlier version that"
        " can't be computed",
        "an event says why, and the run trains to its end; such settings are read as the nearest"
        " valid ones",
        (
            "test_evaluations::test_evaluations_that_fail_are_reported_and_the_run_trains_to_its_end",
            "test_evaluations::test_a_kill_between_the_last_validation_and_the_test_leaves_one_row_per_step_and_set",
            "test_evaluations::test_a_run_with_an_invalid_temperature_of_an_earlier_version_trains_and_samples",
        ),
    ),
    Row(
        "out of memory in the trial before the first step, in a step, in a sample",
        "a message with the shapes and a batch size that should fit; a sample's doesn't end"
        " training",
        (
            "test_out_of_memory::test_a_run_too_large_for_the_memory_is_started_with_a_warning",
            "test_out_of_memory::test_a_run_too_large_for_the_memory_is_started_in_the_app_with_a_warning",
            "test_out_of_memory::test_a_step_that_memory_cannot_hold_is_refused_before_the_first_with_a_batch_that_fits",
            "test_out_of_memory::test_a_step_out_of_memory_ends_the_run_with_the_saved_step_and_resumes_bit_equal",
            "test_out_of_memory::test_an_evaluation_or_a_sample_out_of_memory_is_told_and_training_goes_on",
        ),
    ),
    Row(
        "corpus missing, empty, shorter than a window, invalid UTF-8, binary, directory, FIFO, one"
        " 1 GB line, CRLF, BOM, NULs; changed between stop and resume",
        "refused by kind with the fact, or works in constant memory; a change is refused with both"
        " hashes",
        (
            "test_inputs_corpora::test_invalid_corpora_are_rejected_by_kind_and_no_run_is_created",
            "test_inputs_corpora::test_a_damaged_gzip_and_invalid_records_are_rejected_with_the_position",
            "test_inputs_corpora::test_all_line_endings_and_a_byte_order_mark_give_the_same_text",
            "test_inputs_corpora::test_one_huge_line_is_prepared_in_constant_memory",
            "test_exact_resume::test_a_changed_corpus_is_refused_with_both_hashes",
            "test_exact_resume::test_a_changed_tokenizer_is_refused_with_both_hashes",
        ),
    ),
    Row(
        "config: 0, negative, 1e9, NaN, wrong type, unknown key",
        "every problem at once with its field, the range and a similar name",
        (
            "test_inputs_config::test_all_problems_of_a_config_are_reported_with_field_range_and_suggestion",
            "test_inputs_config::test_assignments_are_reported_like_a_file",
            "test_inputs_config::test_an_invalid_config_file_is_rejected_by_name",
            "test_inputs_fields::test_any_value_of_a_field_is_accepted_unchanged_or_rejected_by_path",
            "test_inputs_fields::test_a_number_out_of_range_is_rejected_with_the_range",
            "test_inputs_fields::test_a_damaged_config_is_reported_and_other_runs_are_listed",
        ),
    ),
    Row(
        "run names ../x, /abs, a/b, empty, -rf, NUL, 300 characters",
        "refused",
        (
            "test_inputs_config::test_an_invalid_run_name_is_rejected_with_the_allowed_characters",
            "test_inputs_config::test_no_verb_accepts_an_invalid_name_or_a_path",
        ),
    ),
    Row(
        "socket: unknown verb, half a line, 1 MB, not JSON, 1,000 connects, slow reader, another"
        " user",
        "rejected or closed; a step takes less than 2 % longer",
        (
            "test_processes_socket::test_what_is_no_command_is_refused_or_dropped_and_the_run_goes_on",
            "test_processes_socket::test_another_user_is_hung_up_on_even_where_the_socket_lets_everybody_in",
            "test_processes_socket::test_a_flood_gets_two_percent_of_a_core_and_commands_are_still_answered",
        ),
    ),
    Row(
        "ESC, OSC 52, DCS, C1, bidi, [red], [/, [@click=app.quit] in prompts, generated text,"
        " names, corpus, exceptions, logs",
        "shown literally; no control byte reaches the terminal from any view",
        (
            "test_hostile_text::test_hostile_text_is_shown_literally_on_the_panes_of_a_run",
            "test_hostile_text::test_hostile_prompts_and_generated_text_are_shown_literally",
            "test_hostile_text::test_hostile_text_is_shown_literally_in_the_runs_list_and_its_overlays",
            "test_hostile_text::test_a_hostile_path_is_shown_literally_at_the_first_launch",
            "test_hostile_text::test_no_verb_lets_hostile_text_reach_the_terminal",
            "test_hostile_text::test_hostile_text_from_a_corpus_and_its_model_is_shown_literally",
        ),
    ),
    Row(
        "prompt: empty, 1 MB paste, NULs, lone surrogate, text outside the vocabulary",
        "a stated limit; unknown characters shown; cancellable",
        (
            "test_inputs_prompts::test_an_endless_prompt_is_rejected_with_the_limit_in_constant_memory",
            "test_inputs_prompts::test_a_prompt_of_invalid_utf_8_is_rejected",
            "test_inputs_prompts::test_unusual_prompts_are_continued_and_unknown_characters_reported",
            "test_inputs_prompts::test_a_paste_of_a_megabyte_is_cut_at_the_limit_and_keys_still_work",
            "test_inputs_prompts::test_ctrl_c_stops_a_sample_and_leaves_no_process",
        ),
    ),
    Row(
        "clock jumps, DST",
        "rates and remaining time from the monotonic clock; order by step",
        (
            "test_clock::test_a_clock_that_jumps_changes_no_rate_no_remaining_time_and_no_order",
            "test_clock::test_the_end_of_summer_time_in_mid_run_changes_no_order_in_any_verb",
        ),
    ),
    Row(
        "resize 1×1 to 300×100 in a loop on every screen while data arrives",
        "no exception, and a window made small and large again shows everything",
        (
            "test_resize::test_resizing_on_every_screen_while_data_arrives_raises_nothing",
            "test_resize::test_a_window_made_small_and_large_again_at_once_shows_everything",
        ),
    ),
    Row(
        "resume with another batch size, model size, dtype, number of processes",
        "refused with the difference, or explicitly a new run with a parent",
        (
            "test_exact_resume::test_a_resume_with_another_setting_is_refused_with_every_difference",
            "test_exact_resume::test_exact_mode_refuses_another_thread_count_and_fast_mode_reports_it",
        ),
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
"""In the order of RELIABILITY.md; a test checks that each names existing tests."""


def main() -> int:
    """Print each fault with its tests."""
    for row in ROWS:
        sys.stdout.write("\n  ".join([row.fault, f"→ {row.expected}", *row.tests]) + "\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
