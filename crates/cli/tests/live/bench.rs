//! The load generator against a real node, in small.

use crate::common::{json_lines, output, roomcast};

#[track_caller]
fn clean(args: &[&str]) -> serde_json::Value {
    let short = ["--json", "--duration", "300ms", "--warmup", "100ms"];
    let ran = output(roomcast().arg("bench").args(args).args(short));
    assert!(ran.status.success(), "{args:?}: {ran:?}");
    let outcome = json_lines(&ran.stdout).remove(0);
    for fault in ["lost", "repeated", "reordered"] {
        assert_eq!(outcome[fault], 0, "{args:?}: {outcome}");
    }
    assert!(outcome["server"]["threads_ms"].is_object(), "{args:?}: {outcome}");
    outcome
}

#[test]
fn every_kind_of_job_runs_clean_in_small() {
    let paced = clean(&["paced", "--members", "20", "--rate", "50"]);
    assert_eq!(paced["deliveries"], 15 * 20, "{paced}");
    let burst = clean(&["burst", "--members", "20", "--format", "msgpack"]);
    assert_eq!(burst["deliveries"], 24 * 20, "{burst}");
    let small = clean(&["small-rooms", "--rooms", "5", "--members", "3", "--rate", "100"]);
    assert_eq!(small["deliveries"], 30 * 3, "{small}");
    let saturated = clean(&["saturated", "--members", "20"]);
    assert!(saturated["publications"].as_u64().unwrap() > 16, "{saturated}");
    let ingest = clean(&["ingest", "--publishers", "2", "--outstanding", "8"]);
    assert!(ingest["acks"].as_u64().unwrap() > 8, "{ingest}");
    let idle = clean(&["idle", "--rooms", "2", "--members", "10"]);
    assert_eq!((idle["connections"].as_u64(), idle["deliveries"].as_u64()), (Some(20), Some(0)));
    let connect = clean(&["connect", "--rooms", "2", "--members", "10"]);
    assert!(connect["server"]["connect_us"].as_f64().unwrap() > 0.0, "{connect}");
}

#[test]
fn jobs_around_a_redis_start_their_own_and_run_clean_in_small() {
    let relay = clean(&["relay", "--rate", "1000"]);
    assert!(relay["publications"].as_u64().unwrap() >= 290, "{relay}");
    let exact = clean(&["relay-exact", "--rate", "1000"]);
    assert_eq!(exact["errors"], serde_json::json!({}), "{exact}");
    let cluster = clean(&["cluster", "--rooms", "2", "--members", "3", "--rate", "100"]);
    assert_eq!(cluster["deliveries"], 30 * 3, "{cluster}");
    assert!(cluster["publishing"]["us_per_publication"].as_f64().unwrap() > 0.0, "{cluster}");
    let refused = output(roomcast().args(["bench", "relay", "--url", "ws://127.0.0.1:1"]));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("leave --url out"), "{refused:?}");
}

#[test]
fn the_bare_loop_runs_clean_and_tells_its_cost() {
    for args in [["floor", "--members", "10"].as_slice(), &["floor", "--members", "10", "--tight"]]
    {
        let floor = clean(args);
        assert!(floor["server"]["us_per_delivery"].as_f64().unwrap() > 0.0, "{floor}");
        assert_eq!(floor["frame_bytes"].as_f64(), Some(204.0), "{floor}");
    }
}

#[test]
fn jobs_that_make_no_sense_are_refused() {
    for args in [["--rooms", "0"].as_slice(), &["--rate", "0"], &["--url", "http://x"]] {
        let refused = output(roomcast().arg("bench").args(args));
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {refused:?}");
    }
}
