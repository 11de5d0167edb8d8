//! Snapshots between ours and the real etcd: saved on one side, restored on the other, started on
//! both; and what both refuse.

mod files;
mod kit;
mod old;
mod refusals;
mod revisions;
mod rounds;
#[expect(dead_code, reason = "other tests raise alarms")]
#[path = "../told/mod.rs"]
mod told;
mod trio;
mod versions;
