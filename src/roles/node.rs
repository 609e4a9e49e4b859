//! The roles `node` and `bootnode`: a libp2p node with its admin API.

use std::sync::Arc;

use super::node_admin;
use super::runtime::{Context, Facts, RoleError, Started};
use crate::p2p::transport::CertificateError;
use crate::p2p::{self, Identity, IdentityError, NodeConfig, NodeRole, StartError};
use crate::telemetry::instruments::P2pInstruments;

/// Starts a node.
///
/// # Errors
/// A damaged identity or a wrong configuration is fatal; a taken port or a full disk is passing.
pub async fn start(context: Context, config: NodeConfig, role: NodeRole) -> Result<Started, RoleError> {
    let identity = Identity::open(&context.process.data_dir).map_err(|error| match error {
        IdentityError::Damaged { .. } | IdentityError::Exposed { .. } => RoleError::fatal(error),
        other => RoleError::passing(other),
    })?;
    let instruments = P2pInstruments::new(&context.meter);
    let node =
        p2p::start(config, identity, role, instruments, &context.meter).await.map_err(
            |error| match error {
                StartError::InUse(_) | StartError::Listen { .. } | StartError::Setup(_) => {
                    RoleError::passing(error)
                }
                StartError::WebRtc(CertificateError::Read { .. } | CertificateError::Write { .. }) => {
                    RoleError::passing(error)
                }
                wrong => RoleError::fatal(wrong),
            },
        )?;
    let gone = |error: p2p::Gone| RoleError::passing(error);
    let addresses = node.handle.listen_addrs().await.map_err(gone)?;
    let facts = Facts {
        peer_id: Some(node.handle.peer_id().to_string()),
        addresses: addresses.iter().map(ToString::to_string).collect(),
    };
    let admin = {
        let handle = node.handle.clone();
        Arc::new(move |request| -> futures::future::BoxFuture<'static, _> {
            let handle = handle.clone();
            Box::pin(async move { node_admin::handle(&handle, request).await })
        })
    };
    let beside = {
        let (mut moved, tell) = (node.handle.addresses(), context.addresses);
        Box::pin(async move {
            while moved.changed().await.is_ok() {
                tell.send_replace(moved.borrow_and_update().iter().map(ToString::to_string).collect());
            }
        })
    };
    let stop = Box::pin(async move {
        node.handle.shutdown().await;
        let _ = node.task.await;
    });
    Ok(Started { facts, admin: Some(admin), beside: Some(beside), stop })
}
