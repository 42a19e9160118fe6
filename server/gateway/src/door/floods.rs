//! What refusals beyond those recorded one by one leave: a record with their count, after each minute.

use crate::access::floods::Untold;
use crate::gate::Gate;
use coretex_engine::audit::Record;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether a minute is over.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Records the counts for as long as the server lives.
pub(crate) async fn count_floods(gate: Arc<Gate>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        tell_floods(&gate, false).await;
    }
}

/// Records what is left to tell of a minute that is over, or of the last one.
pub(crate) async fn tell_floods(gate: &Gate, is_last: bool) {
    for untold in gate.floods.untold(gate.engine.env().clock.now().mono, is_last) {
        if let Err(refusal) = gate.engine.audit(record(untold)).await {
            tracing::error!(%refusal, "a count of refusals was not recorded");
        }
    }
}

fn record(Untold { source, count }: Untold) -> Record {
    let (address, actor) =
        source.map_or_else(Default::default, |(address, actor)| (address.to_string(), actor));
    let detail = match address.is_empty() {
        true => format!("{count} more calls of many addresses were refused within a minute"),
        false => format!("{count} more calls were refused within a minute"),
    };
    Record {
        // Who shows no valid credential is nobody.
        outcome: if actor.is_empty() { "UNAUTHENTICATED" } else { "REFUSED" }.into(),
        actor_kind: if actor.is_empty() { "anonymous" } else { "system" }.into(),
        actor,
        address: address.into(),
        detail: detail.into(),
        ..Record::default()
    }
}
