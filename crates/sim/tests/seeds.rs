//! A short run of the simulator, and the proof that its checkers see: each planted bug is caught.

use roomcast_sim::{Planted, run};

/// Seeds of the short run; `make sim` and `make test` run more.
const SEEDS: u64 = 20;

/// Within how many seeds a planted bug must be caught.
const CAUGHT_MAX: u64 = 200;

#[test]
fn whatever_goes_wrong_nothing_is_silently_lost() {
    let mut deliveries = 0;
    for seed in 0..SEEDS {
        let outcome = run(seed, None, false);
        assert_eq!(outcome.violation, None, "replay it: make sim SEED={seed}");
        deliveries += outcome.stats.deliveries;
    }
    assert!(deliveries > 10_000 * SEEDS, "{deliveries} deliveries prove little");
}

#[test]
fn a_seed_fixes_its_run() {
    let first = run(7, None, false);
    assert_eq!(first.hash, run(7, None, true).hash, "reading along changes nothing");
    assert_ne!(first.hash, run(8, None, false).hash);
}

#[track_caller]
fn is_caught(planted: Planted) {
    let caught = (0..CAUGHT_MAX).any(|seed| run(seed, Some(planted), false).violation.is_some());
    assert!(caught, "{} is not caught within {CAUGHT_MAX} seeds", planted.name());
}

#[test]
fn an_ack_before_the_append_is_caught() {
    is_caught(Planted::AckBeforeAppend);
}

#[test]
fn publishing_in_two_steps_is_caught() {
    is_caught(Planted::TwoSteps);
}

#[test]
fn an_epoch_kept_over_a_failover_is_caught() {
    is_caught(Planted::KeepEpoch);
}

#[test]
fn a_zombie_whose_lease_is_accepted_is_caught() {
    is_caught(Planted::ZombieLeaseAccepted);
}

#[test]
fn a_cursor_that_moves_on_writes_is_caught() {
    is_caught(Planted::CursorFromWrites);
}

#[test]
fn marks_of_what_was_only_written_are_caught() {
    is_caught(Planted::MarkFromWrites);
}

#[test]
fn losses_that_count_as_told_once_written_are_caught() {
    is_caught(Planted::ToldFromWrites);
}

#[test]
fn losses_from_before_a_cursor_that_are_not_told_are_caught() {
    is_caught(Planted::FirstLossUntold);
}

#[test]
fn an_order_confirmed_before_lanes_carried_it_out_is_caught() {
    is_caught(Planted::ConfirmedEarly);
}

#[test]
fn a_revoked_token_that_is_taken_again_is_caught() {
    is_caught(Planted::RevokedTaken);
}

#[test]
fn events_that_count_as_told_once_they_are_given_are_caught() {
    is_caught(Planted::ToldWhenGiven);
}

#[test]
fn a_copy_that_is_named_anew_each_time_is_caught() {
    is_caught(Planted::CopyNamedAnew);
}

#[test]
fn a_mark_that_goes_backwards_is_caught() {
    is_caught(Planted::MarkToldBack);
}

#[test]
fn an_ack_that_counts_for_all_devices_is_caught() {
    is_caught(Planted::AckForAllDevices);
}

#[test]
fn a_member_that_stays_in_the_room_of_its_group_is_caught() {
    is_caught(Planted::MemberStays);
}

#[test]
fn what_is_numbered_anew_is_caught() {
    is_caught(Planted::OlderNumberedAnew);
}

#[test]
fn a_place_in_a_group_beyond_what_is_acked_is_caught() {
    is_caught(Planted::PlaceBeyondAcks);
}

#[test]
fn forgotten_ids_are_caught() {
    is_caught(Planted::NoDedup);
}

#[test]
fn a_queue_without_a_bound_is_caught() {
    is_caught(Planted::UnboundedQueue);
}

#[test]
fn a_confirmation_matched_by_name_is_caught() {
    is_caught(Planted::ConfirmedByName);
}

#[test]
fn a_skipped_gap_check_is_caught() {
    is_caught(Planted::SkipGapCheck);
}

#[test]
fn an_epoch_switched_back_is_caught() {
    is_caught(Planted::EpochSwitchedBack);
}

#[test]
fn a_stale_permission_is_caught() {
    is_caught(Planted::StalePermission);
}

#[test]
fn a_lost_wake_up_is_caught() {
    is_caught(Planted::LostWakeUp);
}
