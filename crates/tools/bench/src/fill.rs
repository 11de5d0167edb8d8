//! Fills a server: every key once, by single puts or by transactions of many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;

use crate::loads::{Dice, key};
use crate::wire::{Connection, Endpoint, WireError, frame};

/// How to fill.
#[derive(Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) keys: u64,
    /// Random keys below this are put instead, as many times as there are `keys`; those of one
    /// request each from a part of them, because a transaction may not put a key twice.
    pub(crate) among: Option<u64>,
    pub(crate) value_bytes: usize,
    /// Puts in one request: 1 is a Put, more a Txn.
    pub(crate) batch: u64,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
}

/// Puts every key once.
pub(crate) async fn fill(endpoint: &Endpoint, plan: Fill) -> Result<(), WireError> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        connections.push(Connection::open(endpoint).await?);
    }
    for number in 0..plan.clients {
        let connection = connections[number % connections.len()].clone();
        tasks.push(tokio::spawn(one_filler(connection, plan, Arc::clone(&next), number as u64)));
    }
    for task in tasks {
        task.await.map_err(|e| WireError::Malformed(e.to_string()))??;
    }
    Ok(())
}

async fn one_filler(
    connection: Connection,
    plan: Fill,
    next: Arc<AtomicU64>,
    seed: u64,
) -> Result<(), WireError> {
    let mut dice = Dice(seed);
    loop {
        let from = next.fetch_add(plan.batch, Ordering::Relaxed);
        if from >= plan.keys {
            return Ok(());
        }
        let to = (from + plan.batch).min(plan.keys);
        let mut puts = (from..to).map(|n| pb::PutRequest {
            key: key(plan.among.map_or(n, |keys| {
                let part = (keys / plan.batch).max(1);
                (n - from) * part + dice.below(part)
            })),
            value: random_value(&mut dice, plan.value_bytes),
            ..Default::default()
        });
        if plan.batch == 1 {
            let put = puts.next().expect("from is below to");
            connection.unary_bytes("/etcdserverpb.KV/Put", frame(&put)).await?;
        } else {
            let success = puts
                .map(|put| pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestPut(put)),
                })
                .collect();
            let txn = pb::TxnRequest { success, ..Default::default() };
            connection.unary_bytes("/etcdserverpb.KV/Txn", frame(&txn)).await?;
        }
    }
}

fn random_value(dice: &mut Dice, bytes: usize) -> Bytes {
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend_from_slice(&dice.roll().to_be_bytes());
    }
    value.truncate(bytes);
    Bytes::from(value)
}
