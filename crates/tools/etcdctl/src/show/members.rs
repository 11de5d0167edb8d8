//! What changes of the membership, of the leader and of versions print.

use mainstay_proto::mainstaypb;

use super::{Form, Message, Show, Shown, pb, quote, say, unsupported};
use crate::messages;
use mainstay_print::json::Json;
use mainstay_print::table::table;

impl Show {
    pub(crate) fn member_add(&self, r: &pb::MemberAddResponse) -> Shown {
        let member = r.member.clone().unwrap_or_default();
        let word = if member.is_learner { "added as learner to" } else { "added to" };
        let json = || messages::member_add(r, self.hex);
        self.member_changed(member.id, word, r.header.as_ref(), r, json)
    }

    pub(crate) fn member_remove(&self, id: u64, r: &pb::MemberRemoveResponse) -> Shown {
        let json = || messages::members(r.header.as_ref(), &r.members, self.hex);
        self.member_changed(id, "removed from", r.header.as_ref(), r, json)
    }

    pub(crate) fn member_update(&self, id: u64, r: &pb::MemberUpdateResponse) -> Shown {
        let json = || messages::members(r.header.as_ref(), &r.members, self.hex);
        self.member_changed(id, "updated in", r.header.as_ref(), r, json)
    }

    pub(crate) fn member_promote(&self, id: u64, r: &pb::MemberPromoteResponse) -> Shown {
        let json = || messages::members(r.header.as_ref(), &r.members, self.hex);
        self.member_changed(id, "promoted in", r.header.as_ref(), r, json)
    }

    fn member_changed(
        &self,
        id: u64,
        word: &str,
        header: Option<&pb::ResponseHeader>,
        message: &impl Message,
        json: impl Fn() -> Json,
    ) -> Shown {
        let cluster = header.map_or(0, |header| header.cluster_id);
        self.plain(&format!("Member {id:16x} {word} cluster {cluster:16x}"), message, json)
    }

    /// Who is to be started, and how.
    pub(crate) fn how_to_start(&self, name: &str, peer_urls: &str, r: &pb::MemberAddResponse) {
        if self.form != Form::Simple {
            return;
        }
        let added = r.member.as_ref().map_or(0, |member| member.id);
        let mut cluster = Vec::new();
        for member in &r.members {
            let name = if member.id == added { name } else { member.name.as_str() };
            cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
        }
        say("");
        say(&format!("ETCD_NAME={}", quote(name.as_bytes())));
        say(&format!("ETCD_INITIAL_CLUSTER={}", quote(cluster.join(",").as_bytes())));
        say(&format!("ETCD_INITIAL_ADVERTISE_PEER_URLS={}", quote(peer_urls.as_bytes())));
        say("ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
    }

    pub(crate) fn move_leader(&self, from: u64, to: u64, r: &pb::MoveLeaderResponse) -> Shown {
        let line = format!("Leadership transferred from {from:x} to {to:x}");
        self.plain(&line, r, || messages::move_leader(r))
    }

    pub(crate) fn downgrade(&self, action: &str, r: &pb::DowngradeResponse) -> Shown {
        let line = format!("Downgrade {action} success, cluster version {}", r.version);
        self.plain(&line, r, || messages::downgrade(r))
    }

    pub(crate) fn finalized(&self, r: &mainstaypb::FinalizeResponse) -> Shown {
        let (from, to) = (&r.previous_version, &r.cluster_version);
        let line = if from == to {
            format!("The cluster version is {to} already")
        } else {
            format!("Cluster version raised from {} to {to}", or_none(from))
        };
        self.plain(&line, r, || messages::finalized(r))
    }

    /// One line, JSON or protobuf; there are no other forms of it.
    fn plain(&self, line: &str, message: &impl Message, json: impl Fn() -> Json) -> Shown {
        match self.form {
            Form::Simple => {
                say(line);
                Ok(())
            }
            Form::Fields => Err(unsupported("fields")),
            Form::Json | Form::Protobuf | Form::Table => self.coded(message, |_| json()),
        }
    }

    pub(crate) fn upgrade(&self, r: &mainstaypb::StatusResponse) -> Shown {
        match self.form {
            Form::Simple | Form::Table => self.upgrade_lines(r),
            Form::Fields => self.upgrade_fields(r),
            Form::Json | Form::Protobuf => return self.coded(r, messages::upgrade),
        }
        Ok(())
    }

    fn upgrade_lines(&self, r: &mainstaypb::StatusResponse) {
        let head = ["ID", "NAME", "VERSION", "CLUSTER VERSION", "IS LEARNER"];
        let row = |member: &mainstaypb::MemberVersion| {
            vec![
                format!("{:x}", member.id),
                member.name.clone(),
                or_none(&member.server_version).to_owned(),
                or_none(&member.cluster_version).to_owned(),
                member.is_learner.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = r.members.iter().map(row).collect();
        if self.form == Form::Table {
            say(&table(&head, &rows));
        } else {
            rows.iter().for_each(|row| say(&row.join(", ")));
        }
        say(&format!("cluster version: {}", or_none(&r.cluster_version)));
        say(&format!("storage version: {}", or_none(&r.storage_version)));
        r.holds.iter().for_each(|hold| say(&format!("held: {hold}")));
        if !r.target_version.is_empty() && r.target_version != r.cluster_version {
            say(&format!("`etcdctl upgrade finalize` would set {}", r.target_version));
        }
    }

    fn upgrade_fields(&self, r: &mainstaypb::StatusResponse) {
        self.header(r.header.as_ref());
        say(&format!("\"ClusterVersion\" : {}", quote(r.cluster_version.as_bytes())));
        say(&format!("\"StorageVersion\" : {}", quote(r.storage_version.as_bytes())));
        say(&format!("\"TargetVersion\" : {}", quote(r.target_version.as_bytes())));
        r.holds.iter().for_each(|hold| say(&format!("\"Hold\" : {}", quote(hold.as_bytes()))));
        for member in &r.members {
            say(&format!("\"ID\" : {}", self.id(member.id)));
            say(&format!("\"Name\" : {}", quote(member.name.as_bytes())));
            say(&format!("\"Version\" : {}", quote(member.server_version.as_bytes())));
            say(&format!(
                "\"MemberClusterVersion\" : {}",
                quote(member.cluster_version.as_bytes())
            ));
            say(&format!("\"IsLearner\" : {}", member.is_learner));
            say("");
        }
    }
}

fn or_none(version: &str) -> &str {
    if version.is_empty() { "none" } else { version }
}
