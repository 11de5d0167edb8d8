//! What a cluster's members are asked by its tests.

use std::future::Future;
use std::time::Duration;

use mainstay_client::{Client, Options};
use mainstay_proto::etcdserverpb as pb;

use super::{Cluster, Node};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(8);

/// What a member says about itself.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its member id.
    pub id: u64,
    /// Who leads, or 0.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// Revision of its store.
    pub revision: i64,
    /// Index that it has applied.
    pub applied: u64,
    /// Whether it has no vote.
    pub learner: bool,
}

/// Asks one question over a connection of its own.
async fn ask<T, F>(endpoint: String, question: impl FnOnce(Client) -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, tonic::Status>>,
{
    let options = Options { dial_timeout: Duration::from_secs(1), ..Options::default() };
    let asked = async {
        let client = Client::connect(&endpoint, &options).await.map_err(|e| e.to_string())?;
        question(client).await.map_err(|e| e.message().to_owned())
    };
    tokio::time::timeout(QUESTION, asked).await.map_err(|_| "no answer".to_owned())?
}

fn header(header: Option<pb::ResponseHeader>) -> Result<pb::ResponseHeader, tonic::Status> {
    header.ok_or_else(|| tonic::Status::internal("an answer without a header"))
}

impl Cluster {
    /// Asks member `n`.
    ///
    /// # Errors
    /// The member's words, or that it does not answer.
    pub fn ask<T, F>(&self, n: usize, question: impl FnOnce(Client) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        self.runtime.block_on(ask(self.nodes[n].endpoint(), question))
    }

    /// The revision of a linearizable read through member `n`.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub fn linearizable(&self, n: usize) -> Result<i64, String> {
        self.ask(n, |client| async move {
            let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
            Ok(header(client.kv().range(request).await?.into_inner().header)?.revision)
        })
    }

    /// What member `n` says about itself.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub fn status(&self, n: usize) -> Result<Told, String> {
        self.ask(n, |client| async move {
            let told = client.maintenance().status(pb::StatusRequest {}).await?.into_inner();
            let header = header(told.header)?;
            Ok(Told {
                id: header.member_id,
                leader: told.leader,
                term: told.raft_term,
                revision: header.revision,
                applied: told.raft_applied_index,
                learner: told.is_learner,
            })
        })
    }

    /// Notes the ids of the members that answer.
    pub fn learn_ids(&mut self) {
        for n in self.running() {
            if let Ok(told) = self.status(n) {
                self.nodes[n].id = told.id;
            }
        }
    }

    /// Who leads, when all running members that vote agree on it.
    pub fn leader_now(&self) -> Option<usize> {
        let mut leader = None;
        for n in self.running() {
            let told = self.status(n).ok()?;
            if told.leader == 0 || leader.is_some_and(|l| l != told.leader) {
                return None;
            }
            leader = Some(told.leader);
        }
        self.nodes.iter().position(|node| node.id != 0 && Some(node.id) == leader)
    }

    /// Waits until a leader is known to all, and says who.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn leader(&mut self) -> usize {
        self.eventually("a leader", |cluster| cluster.leader_now())
    }

    /// Hands leadership to member `to`, and waits until all know.
    ///
    /// # Panics
    /// When that is refused or does not happen in time.
    pub fn move_leader(&mut self, to: usize) {
        let target = self.nodes[to].id;
        let what = format!("member {} leads", to + 1);
        self.eventually(&what, |cluster| {
            let leader = cluster.leader_now()?;
            if leader == to {
                return Some(());
            }
            let request = pb::MoveLeaderRequest { target_id: target };
            let moved = cluster.ask(leader, |client| async move {
                client.maintenance().move_leader(request).await.map(drop)
            });
            if let Err(why) = moved {
                eprintln!("move-leader: {why}");
            }
            None
        });
    }

    /// Adds member `n` to the cluster through member `via`.
    ///
    /// # Errors
    /// The member's words.
    pub fn add(&mut self, via: usize, n: usize, learner: bool) -> Result<(), String> {
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![self.nodes[n].peer_url()],
            is_learner: learner,
        };
        let added = self.ask(via, |client| async move {
            Ok(client.cluster().member_add(request).await?.into_inner())
        })?;
        self.nodes[n].id = added.member.map_or(0, |member| member.id);
        Ok(())
    }

    /// Starts member `n`, which was added, as one that joins `of`.
    pub fn join(&mut self, n: usize, of: &[usize]) {
        let pair = |node: &Node| format!("{}={}", node.name, node.peer_url());
        let mut pairs: Vec<String> = of.iter().map(|m| pair(&self.nodes[*m])).collect();
        pairs.push(pair(&self.nodes[n]));
        let initial = format!("--initial-cluster={}", pairs.join(","));
        self.spawn(n, &[initial, "--initial-cluster-state=existing".to_owned()]);
    }

    /// Gives learner `n` a vote, once it is up to date.
    ///
    /// # Panics
    /// When it is never.
    pub fn promote(&mut self, via: usize, n: usize) {
        let id = self.nodes[n].id;
        self.eventually("the learner is promoted", |cluster| {
            let request = pb::MemberPromoteRequest { id };
            let promoted = cluster.ask(via, |client| async move {
                client.cluster().member_promote(request).await.map(drop)
            });
            match promoted {
                Ok(()) => Some(()),
                Err(why) if why.contains("is not a learner") => Some(()),
                Err(_) => None,
            }
        });
    }

    /// Removes member `n` through member `via`.
    ///
    /// # Errors
    /// The member's words.
    pub fn remove(&mut self, via: usize, n: usize) -> Result<(), String> {
        let request = pb::MemberRemoveRequest { id: self.nodes[n].id };
        self.ask(
            via,
            |client| async move { client.cluster().member_remove(request).await.map(drop) },
        )
    }

    /// The ids in member `n`'s list, after a linearizable read.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub fn list(&self, n: usize) -> Result<Vec<pb::Member>, String> {
        self.ask(n, |client| async move {
            let request = pb::MemberListRequest { linearizable: true };
            Ok(client.cluster().member_list(request).await?.into_inner().members)
        })
    }

    /// The body of an HTTP GET on member `n`'s client port.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn http_get(&self, n: usize, path: &str) -> Result<String, String> {
        crate::member::http_get(&self.nodes[n].endpoint(), path)
    }

    /// The cluster version as member `n` tells it.
    pub fn cluster_version(&self, n: usize) -> Option<String> {
        let body = self.http_get(n, "/version").ok()?;
        let told: serde_json::Value = serde_json::from_str(&body).ok()?;
        told["etcdcluster"].as_str().map(str::to_owned)
    }

    /// Every running member has the same history: the same hash at the same revision.
    /// Answers the revision. The cluster must be at rest.
    ///
    /// # Panics
    /// When two differ, or one does not get there in time.
    pub fn same_everywhere(&mut self) -> i64 {
        let members = self.running();
        let revision =
            self.eventually("a revision", |cluster| cluster.linearizable(members[0]).ok());
        let mut first = None;
        for n in members {
            let hash = self.eventually(&format!("hash of member {}", n + 1), |cluster| {
                let told = cluster.status(n).ok()?;
                (told.revision >= revision).then_some(())?;
                let hash = cluster.ask(n, |client| async move {
                    let request = pb::HashKvRequest { revision };
                    let told = client.maintenance().hash_kv(request).await?.into_inner();
                    Ok((told.hash, told.compact_revision))
                });
                hash.ok()
            });
            let (name, make) = (&self.nodes[n].name, self.nodes[n].make);
            let first = first.get_or_insert((hash, n));
            assert_eq!(
                first.0, hash,
                "{name} ({make:?}) and member {} differ at revision {revision}",
                first.1
            );
        }
        revision
    }
}
