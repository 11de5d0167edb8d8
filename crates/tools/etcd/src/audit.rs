//! The audit log, from the flags.

use std::error::Error;
use std::fs;
use std::time::Duration;

use mainstay_audit::{Policy, Settings, Trail};
use mainstay_config::AuditConfig;
use mainstay_server::method::METHODS;

use crate::report;

/// Starts the audit log, if there is to be one. Its policy is read once: a change needs a
/// restart, which the log shows.
///
/// # Errors
/// A policy that cannot be read, or a file that cannot be opened; each names its flag.
pub(crate) fn start(config: Option<&AuditConfig>) -> Result<Option<Trail>, Box<dyn Error>> {
    let Some(config) = config else { return Ok(None) };
    let policy = match &config.policy {
        None => Policy::default(),
        Some(path) => {
            let wrong = |why: String| format!("--audit-policy-file {}: {why}", path.display());
            let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            let calls: Vec<&str> = METHODS.iter().map(|method| &method.path[1..]).collect();
            Policy::read(&text, &calls).map_err(|error| wrong(error.to_string()))?
        }
    };
    let rotation = config.rotation.map(report::rotation);
    let settings = Settings { path: config.path.clone(), rotation, policy };
    let trail = Trail::start(settings).map_err(|error| format!("--audit-log-path: {error}"))?;
    tracing::info!(path = %config.path.display(), "calls are recorded in the audit log");
    Ok(Some(trail))
}

/// Waits until what was recorded stands in the file; what could not be written by then is lost.
pub(crate) async fn finish(trail: Option<Trail>, patience: Duration) {
    if let Some(trail) = trail {
        let _ = tokio::time::timeout(patience, trail.flush()).await;
    }
}
