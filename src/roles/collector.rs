//! The role `collector`: the metric store as a process of its own.

use std::time::Duration;

use super::runtime::{Context, Facts, RoleError, Started};
use crate::telemetry::collector::{Collector, CollectorConfig};

/// Time for replies under way when the collector stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts a collector.
///
/// # Errors
/// When its address cannot be listened on or a client's token is none.
pub async fn start(context: Context, config: CollectorConfig) -> Result<Started, RoleError> {
    let process = &context.process;
    let collector = Collector::bind(&config, context.listener, &process.name, &process.data_dir)
        .await
        .map_err(RoleError::passing)?;
    Ok(Started {
        facts: Facts { peer_id: None, addresses: vec![format!("http://{}/metrics", collector.local_addr())] },
        admin: None,
        beside: None,
        stop: Box::pin(collector.shutdown(DRAIN)),
    })
}
