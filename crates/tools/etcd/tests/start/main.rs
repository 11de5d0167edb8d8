//! The built `etcd` from outside: how it is told what to do, what it says, and how it ends.
//!
//! Members listen on port 0 and tests read the ports from their logs, so that nothing depends on
//! what else runs on the machine. What the real etcd does is checked beside ours where
//! `MAINSTAY_ETCD_3516` names it.

mod auto_tls;
mod directory;
mod http;
mod kubeadm;
mod listeners;
mod peers;
mod program;
mod refusals;
mod service;
mod sources;
mod terminal;
mod tls;
