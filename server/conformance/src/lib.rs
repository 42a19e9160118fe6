//! What a store must do, as one suite of named cases that every backend runs.
//!
//! A backend implements [`Harness`] and calls [`suite!`]; each case becomes a test of its own name.
//! A bug found in one backend becomes a case here, for all of them.

pub mod backup;
pub mod commits;
pub mod events;
pub mod kit;
pub mod payloads;
pub mod reads;
pub mod reopen;
pub mod resources;
pub mod retention;
pub mod rows;
pub mod scans;

use coretex_ports::Store;
use std::path::PathBuf;
use std::sync::Arc;

/// How a case gets at its store. One harness is one place where data is kept.
pub trait Harness: Send + Sync {
    /// Opens the store in its place, which is empty the first time.
    fn open(&self) -> Arc<dyn Store>;
    /// Lets go of a store as a killed process would, without closing it.
    fn crash(&self, store: Arc<dyn Store>);
    /// A directory for a backup; None if the backend has none.
    fn backup_directory(&self) -> Option<PathBuf>;
    /// Opens a store made of a backup.
    fn restore(&self, backup: PathBuf) -> Option<Arc<dyn Store>>;
}

#[doc(hidden)]
pub use futures::executor::block_on;

/// Stamps one test per case; `$harness` is an expression that makes a fresh harness.
#[macro_export]
macro_rules! suite {
    ($harness:expr) => {
        $crate::cases! { $harness;
            commits: a_claim_raises_the_epoch, commits_before_a_claim_are_refused,
                an_old_epoch_is_fenced, a_future_epoch_is_fenced, an_empty_group_commits, a_group_is_all_there,
                a_refused_group_leaves_nothing, groups_apply_in_the_order_of_the_calls,
                pipelined_commits_all_answer, later_versions_win, sixty_four_writers_lose_nothing,
                one_key_under_contention_has_one_winner_per_commit, a_group_of_a_thousand_jobs_commits,
                a_job_twice_in_a_group_keeps_the_last, stats_count_commits, a_claim_hands_out_what_is_open,
                a_claim_reports_the_highest_sequences, claims_repeat_and_epochs_never_do;
            reads: an_answered_commit_is_read_at_once, absent_jobs_are_none, reads_keep_the_order_of_the_ids,
                another_namespace_sees_nothing, names_are_found_in_their_namespace_only,
                every_field_survives, a_job_is_read_through_all_its_states, derived_ids_are_found,
                reads_after_indexing_are_the_same, long_histories_survive, checkpoints_survive_later_changes,
                a_dropped_checkpoint_stays_dropped, an_edited_input_is_kept;
            rows: a_key_names_its_job, an_absent_key_is_none, keys_are_apart_by_namespace,
                a_key_row_is_replaced_by_a_newer_one, keys_survive_indexing, sessions_come_back_at_a_claim,
                an_ended_session_is_gone, a_resumed_session_keeps_one_row, topics_come_back_whole,
                the_newest_topic_wins, secrets_come_back, output_is_read_in_order,
                output_pages_go_on_where_they_stopped, output_streams_are_apart, rows_commit_with_their_job;
            scans: jobs_come_in_create_order, descending_is_the_reverse, ties_are_broken_by_id,
                pages_join_without_gaps_ascending, pages_join_without_gaps_descending,
                bounds_are_inclusive, a_walk_skips_other_namespaces, new_jobs_do_not_disturb_a_walk,
                a_filtered_walk_finds_all_that_match, a_walk_by_state_sees_the_newest_state,
                an_empty_walk_says_so, dead_letters_are_walked, a_walk_mixes_old_and_new_rows,
                deleted_dead_letters_are_not_walked, a_dead_letter_deleted_with_a_change_of_its_job_is_gone,
                dead_letters_are_found_by_id,
                a_dead_letter_apart_from_its_job_is_walked, a_page_of_one_still_moves;
            payloads: empty_and_small_payloads_survive, large_payloads_survive, content_types_survive,
                hostile_text_survives, results_survive_every_byte, large_results_and_failures_survive;
            retention: due_jobs_are_removed, jobs_not_yet_due_stay, open_jobs_are_never_removed,
                jobs_of_an_open_run_stay_and_its_parts_go_with_it,
                cleaning_is_bounded, the_next_due_time_is_told, everything_of_a_job_goes_with_it,
                a_cleaned_name_can_be_used_again, cleaning_an_empty_store_is_fine,
                a_reused_key_survives_the_cleaning_of_its_first_job;
            events: events_come_in_commit_order, events_resume_where_they_stopped,
                every_event_says_from_and_to, events_after_the_end_are_none, events_carry_topic_and_labels,
                events_of_many_shards_resume_exactly, several_events_of_one_commit_come_in_order,
                attempts_and_workers_are_told, events_survive_indexing;
            reopen: a_clean_close_keeps_everything, a_crash_keeps_what_was_answered,
                epochs_rise_over_a_reopen, a_closed_store_refuses, many_reopens_lose_nothing,
                ids_that_tell_another_time_are_found,
                deltas_survive_a_crash, rows_survive_a_crash, a_deleted_dead_letter_stays_deleted, events_survive_a_reopen,
                a_large_payload_is_written_once_and_survives, an_owner_before_a_reopen_is_fenced;
            resources: resources_are_found_by_key, the_newest_resource_wins, a_removed_resource_is_gone,
                resources_are_walked_in_order, live_resources_come_back_at_a_claim, due_resources_are_removed,
                resources_survive_a_reopen;
            backup: a_backup_is_whole, a_restored_store_fences_the_old_owner, a_backup_while_writing_is_consistent,
                a_backup_needs_an_empty_directory;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($harness:expr; $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[test]
            fn $case() {
                let harness = super::harness();
                $crate::block_on($crate::$module::$case(&harness));
            })+
        })+
        fn harness() -> impl $crate::Harness {
            $harness
        }
    };
}
