//! Ctrl-C and the other polite ends, so that what was started can be stopped in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Becomes true when this process is asked to end (SIGINT, SIGTERM, SIGHUP), which does not end it any longer.
///
/// Errors: the system refuses handlers.
pub(crate) fn watch() -> Result<Arc<AtomicBool>, String> {
    let told = |cause: std::io::Error| format!("cannot wait for Ctrl-C: {cause}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(told)?;
    let guard = runtime.enter();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [interrupt, terminate, hangup] = kinds.map(signal);
    let signals = [interrupt.map_err(told)?, terminate.map_err(told)?, hangup.map_err(told)?];
    drop(guard);
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    std::thread::spawn(move || {
        runtime.block_on(any(signals));
        flag.store(true, Ordering::SeqCst);
    });
    Ok(asked)
}

async fn any([mut interrupt, mut terminate, mut hangup]: [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
