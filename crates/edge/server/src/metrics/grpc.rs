//! Counters per call, one set per shard, so that counting touches no other core.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mainstay_driver::stats::Histogram;

use crate::method::{METHODS, Method};
use crate::status::{Code, Status};

/// The counters of one call.
#[derive(Debug, Default)]
pub(crate) struct MethodCells {
    /// `grpc_server_started_total`.
    pub(crate) started: AtomicU64,
    /// `grpc_server_handled_total`, by code.
    pub(crate) handled: [AtomicU64; Code::ALL.len()],
    /// `grpc_server_msg_received_total`.
    pub(crate) received: AtomicU64,
    /// `grpc_server_msg_sent_total`.
    pub(crate) sent: AtomicU64,
}

/// The counters of one shard.
#[derive(Debug)]
pub(crate) struct ShardCells {
    /// In the order of [`METHODS`].
    pub(crate) methods: Vec<MethodCells>,
    /// `etcd_network_client_grpc_received_bytes_total`.
    pub(crate) received_bytes: AtomicU64,
    /// `etcd_network_client_grpc_sent_bytes_total`.
    pub(crate) sent_bytes: AtomicU64,
    /// `grpc_server_handling_seconds`, in the order of [`METHODS`]; with `--metrics=extensive`.
    pub(crate) handling: Option<Vec<Histogram>>,
}

impl ShardCells {
    /// Zeros; `extensive` also counts how long calls take.
    pub(crate) fn new(extensive: bool) -> ShardCells {
        let histogram = |_| Histogram::with_bounds(HANDLING_BOUNDS.to_vec());
        ShardCells {
            methods: METHODS.iter().map(|_| MethodCells::default()).collect(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            handling: extensive.then(|| METHODS.iter().map(histogram).collect()),
        }
    }
}

/// Buckets of handling times in seconds: Prometheus' own defaults, which etcd keeps.
const HANDLING_BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A shard's own handle on its counters.
#[derive(Debug)]
pub(crate) struct GrpcCells(Arc<ShardCells>);

impl GrpcCells {
    pub(crate) fn new(cells: Arc<ShardCells>) -> Rc<GrpcCells> {
        Rc::new(GrpcCells(cells))
    }

    /// Counts a message that has arrived.
    pub(crate) fn received(&self, method: &Method, bytes: usize) {
        add(&self.0.methods[method.rpc as usize].received, 1);
        add(&self.0.received_bytes, bytes as u64);
    }
}

/// Counts one call. A tally that is dropped before its end is a call that the
/// client gave up.
pub(crate) struct Tally {
    cells: Rc<GrpcCells>,
    method: &'static Method,
    /// When handling times are counted.
    begun: Option<Instant>,
    ended: bool,
}

impl Tally {
    pub(crate) fn start(cells: &Rc<GrpcCells>, method: &'static Method) -> Tally {
        let begun = cells.0.handling.as_ref().map(|_| Instant::now());
        let tally = Tally { cells: Rc::clone(cells), method, begun, ended: false };
        add(&tally.own().started, 1);
        tally
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.cells.received(self.method, bytes);
    }

    pub(crate) fn sent(&mut self, messages: u64) {
        if messages > 0 {
            add(&self.own().sent, messages);
        }
    }

    pub(crate) fn sent_bytes(&mut self, bytes: u64) {
        add(&self.cells.0.sent_bytes, bytes);
    }

    pub(crate) fn end(&mut self, result: &Result<(), Status>) {
        let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
        self.end_with(code);
    }

    fn end_with(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            add(&self.own().handled[code as usize], 1);
            if let Some((begun, handling)) = self.begun.zip(self.cells.0.handling.as_ref()) {
                handling[self.method.rpc as usize].observe(begun.elapsed());
            }
        }
    }

    fn own(&self) -> &MethodCells {
        &self.cells.0.methods[self.method.rpc as usize]
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.end_with(Code::Canceled);
    }
}

fn add(cell: &AtomicU64, n: u64) {
    cell.fetch_add(n, Ordering::Relaxed);
}
