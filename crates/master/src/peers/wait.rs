//! What a master does that is to be taken into a group: it waits for a leader to call it by an id.

use super::gate::Gate;
use super::{Group, Identity, Inbox, MESSAGE_BYTES};
use journal::Membership;
use proto::internal::peers_server::PeersServer;
use rpc::{ClusterKey, Routes, Server};
use std::sync::Arc;
use std::time::Duration;
use types::Entropy;

/// How long the call that brought the id may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Serves until this master has an id, which is on disk when it returns. Cancel-safe.
///
/// - `address`: where others reach it, for the log line.
pub async fn wait_for_admission(
    server: Server,
    group: Group,
    address: &str,
    key: &ClusterKey,
    entropy: Arc<dyn Entropy>,
) -> Result<(), rpc::Error> {
    let members = Arc::new(Membership::founding([]));
    let identity = Arc::new(Identity::new(group, address.to_owned(), members, key, Arc::default(), || false));
    let gate = Arc::new(Gate::new(identity.clone(), Arc::new(Inbox::default()), entropy));
    let mut admitted = gate.admitted();
    let routes = Routes::new().service(PeersServer::from_arc(gate).max_decoding_message_size(MESSAGE_BYTES));
    let running = server.serve(move |_| routes.clone())?;
    tracing::warn!(
        "this master waits to be taken into a group: run `goosefs fsadmin journal quorum add -address {address}`, or `replace` if it stands for one whose disk was lost"
    );
    // The gate lives as long as the server.
    let _ = admitted.wait_for(|admitted| *admitted).await;
    running.stop(ENDS_WITHIN).await;
    tracing::info!(member = %identity.group.lock().own, "this master was taken into the group");
    Ok(())
}
