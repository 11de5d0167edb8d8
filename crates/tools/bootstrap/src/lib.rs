//! How a member that has no log begins: who founds the cluster with it, or which cluster it joins.
//!
//! [`founding`] reads the flags as etcd does (server-flags.md 2, http.md 4): a static list of
//! members, DNS (`--discovery-srv`), a discovery service of the v3 kind (`--discovery-token`) or of
//! the old one (`--discovery`), and a running cluster that is joined
//! (`--initial-cluster-state=existing`). It asks the other members what has to be asked, and
//! refuses in etcd's words. Nothing is written to the disk here.

mod client;
mod dns;
mod error;
mod http;
mod join;
mod list;
mod names;
mod peers;
mod places;
mod plan;
mod proxy;
mod srv;
mod tls;
mod v2;
mod v3;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

use std::time::Duration;

use mainstay_config::Config;
use mainstay_driver::Founding;

pub use dns::parse_answer;
pub use error::Error;
pub use list::MemberList;

use names::System;
use plan::Founder;

/// Decides how the member of `config` begins. Call it only when its data directory has no log.
///
/// Blocks: for seconds when others have to be asked, for up to 30 seconds while a name is not
/// known yet, and without an end while a discovery service cannot be reached or waits for the
/// other members. It registers the member at the service, so call it when everything else that
/// may fail (listeners) is in place.
///
/// # Errors
/// When the flags, the other members or the service do not allow it; in etcd's words.
pub fn founding(config: &Config) -> Result<Founding, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let names = System::from_machine();
    let founder = Founder::new(config, names, Waits::default())?;
    let outcome = runtime.block_on(founder.run());
    // A lookup of a name that hangs in the system's resolver is not waited for.
    runtime.shutdown_background();
    outcome
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Waits {
    /// For a name to become known (etcd: 30 s).
    resolve: Duration,
    /// Between two questions for a name (etcd: 1 s).
    resolve_rest: Duration,
    /// For the list of members of a cluster that is joined (etcd: 10 s).
    members: Duration,
    /// For the list of members that says whether this one was there before (etcd: 1 s).
    before: Duration,
    /// Twice this is the first rest after a failed call of a discovery service (etcd: 1 s).
    backoff: Duration,
    /// For an answer of the old discovery service (etcd: 5 s).
    discovery: Duration,
    /// For a connection to the old discovery service (etcd: 30 s).
    discovery_dial: Duration,
    /// For a change at the old discovery service before it is asked again: a connection that died
    /// without a word must not be waited on for ever.
    poll: Duration,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits {
            resolve: Duration::from_secs(30),
            resolve_rest: Duration::from_secs(1),
            members: Duration::from_secs(10),
            before: Duration::from_secs(1),
            backoff: Duration::from_secs(1),
            discovery: Duration::from_secs(5),
            discovery_dial: Duration::from_secs(30),
            poll: Duration::from_secs(300),
        }
    }
}

impl Waits {
    /// The rest after so many failures of a discovery service in a row: doubled up to the eighth,
    /// as etcd does.
    fn rest_after(&self, failures: u32) -> Duration {
        self.backoff * (1 << failures.min(8))
    }
}
