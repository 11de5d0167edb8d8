//! What each command prints, in each form.

mod auth;
mod members;

use std::io::Write as _;
use std::time::Duration;

use mainstay_proto::prost::Message;
use mainstay_proto::{etcdserverpb as pb, mvccpb};

use crate::exit::{BAD_FEATURE, Failure};
use crate::messages;
use mainstay_print::duration;
use mainstay_print::json::{Json, Object};
use mainstay_print::quote::{quote, shown};
use mainstay_print::size::humanized;
use mainstay_print::table::table;

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Fields,
    Json,
    Protobuf,
    Simple,
    Table,
}

/// Prints answers.
pub(crate) struct Show {
    pub(crate) form: Form,
    pub(crate) hex: bool,
    pub(crate) value_only: bool,
}

/// Health of one endpoint.
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
}

type Shown = Result<(), Failure>;

impl Show {
    pub(crate) fn new(form: &str, hex: bool) -> Result<Show, Failure> {
        let form = match form {
            "fields" => Form::Fields,
            "json" => Form::Json,
            "protobuf" => Form::Protobuf,
            "simple" => Form::Simple,
            "table" => Form::Table,
            _ => return Err(Failure::new(BAD_FEATURE, "unsupported output format")),
        };
        Ok(Show { form, hex, value_only: false })
    }

    pub(crate) fn put(&self, r: &pb::PutResponse) -> Shown {
        match self.form {
            Form::Simple => {
                say("OK");
                self.simple_kvs(r.prev_kv.as_slice());
                Ok(())
            }
            Form::Fields => {
                self.header(r.header.as_ref());
                if let Some(kv) = &r.prev_kv {
                    self.fields_kv("Prev", kv);
                }
                Ok(())
            }
            _ => self.coded(r, messages::put),
        }
    }

    pub(crate) fn get(&self, r: &pb::RangeResponse) -> Shown {
        match self.form {
            Form::Simple => {
                self.simple_kvs(&r.kvs);
                Ok(())
            }
            Form::Fields => {
                self.header(r.header.as_ref());
                r.kvs.iter().for_each(|kv| self.fields_kv("", kv));
                say(&format!("\"More\" : {}", r.more));
                say(&format!("\"Count\" : {}", r.count));
                Ok(())
            }
            _ => self.coded(r, messages::range),
        }
    }

    pub(crate) fn del(&self, r: &pb::DeleteRangeResponse) -> Shown {
        match self.form {
            Form::Simple => {
                say(&r.deleted.to_string());
                self.simple_kvs(&r.prev_kvs);
                Ok(())
            }
            Form::Fields => {
                self.header(r.header.as_ref());
                say(&format!("\"Deleted\" : {}", r.deleted));
                r.prev_kvs.iter().for_each(|kv| self.fields_kv("Prev", kv));
                Ok(())
            }
            _ => self.coded(r, messages::delete),
        }
    }

    pub(crate) fn txn(&self, r: &pb::TxnResponse) -> Shown {
        use pb::response_op::Response as R;
        match self.form {
            Form::Simple => say(if r.succeeded { "SUCCESS" } else { "FAILURE" }),
            Form::Fields => {
                self.header(r.header.as_ref());
                say(&format!("\"Succeeded\" : {}", r.succeeded));
            }
            _ => return self.coded(r, messages::txn),
        }
        for op in &r.responses {
            if self.form == Form::Simple {
                say("");
            }
            match &op.response {
                Some(R::ResponseRange(r)) => self.get(r)?,
                Some(R::ResponsePut(r)) => self.put(r)?,
                Some(R::ResponseDeleteRange(r)) => self.del(r)?,
                Some(R::ResponseTxn(r)) => self.txn(r)?,
                None => say("unexpected response: none"),
            }
        }
        Ok(())
    }

    pub(crate) fn watch(&self, r: &pb::WatchResponse) -> Shown {
        let kind = |e: &mvccpb::Event| if e.r#type == 1 { "DELETE" } else { "PUT" };
        match self.form {
            Form::Simple => {
                for event in &r.events {
                    say(kind(event));
                    self.simple_kvs(event.prev_kv.as_slice());
                    self.simple_kvs(event.kv.as_slice());
                }
                Ok(())
            }
            Form::Fields => {
                self.header(r.header.as_ref());
                for event in &r.events {
                    say(&format!("\"Type\" : {}", kind(event)));
                    if let Some(kv) = &event.prev_kv {
                        self.fields_kv("Prev", kv);
                    }
                    if let Some(kv) = &event.kv {
                        self.fields_kv("", kv);
                    }
                }
                Ok(())
            }
            _ => self.coded(r, messages::watch),
        }
    }

    pub(crate) fn grant(&self, r: &pb::LeaseGrantResponse) -> Shown {
        let simple = format!("lease {:016x} granted with TTL({}s)", r.id, r.ttl);
        let fields = [("ID", self.lease(r.id)), ("TTL", r.ttl.to_string())];
        self.lease_answer(&simple, r.header.as_ref(), &fields, || messages::grant(r))
    }

    pub(crate) fn revoke(&self, id: i64, r: &pb::LeaseRevokeResponse) -> Shown {
        let simple = format!("lease {id:016x} revoked");
        match self.form {
            Form::Protobuf => self.coded(r, messages::revoke),
            _ => self.lease_answer(&simple, r.header.as_ref(), &[], || messages::revoke(r)),
        }
    }

    pub(crate) fn keep_alive(&self, r: &pb::LeaseKeepAliveResponse) -> Shown {
        let simple = format!("lease {:016x} keepalived with TTL({})", r.id, r.ttl);
        let fields = [("ID", self.lease(r.id)), ("TTL", r.ttl.to_string())];
        self.lease_answer(&simple, r.header.as_ref(), &fields, || messages::keep_alive(r))
    }

    pub(crate) fn time_to_live(&self, r: &pb::LeaseTimeToLiveResponse, keys: bool) -> Shown {
        let mut simple = if r.granted_ttl == 0 && r.ttl == -1 {
            format!("lease {:016x} already expired", r.id)
        } else {
            let (id, granted, left) = (r.id, r.granted_ttl, r.ttl);
            format!("lease {id:016x} granted with TTL({granted}s), remaining({left}s)")
        };
        let text = |k: &[u8]| String::from_utf8_lossy(k).into_owned();
        if keys && r.ttl != -1 {
            let keys: Vec<String> = r.keys.iter().map(|k| text(k)).collect();
            simple.push_str(&format!(", attached keys([{}])", keys.join(" ")));
        }
        let mut fields = vec![
            ("ID", self.lease(r.id)),
            ("TTL", r.ttl.to_string()),
            ("GrantedTTL", r.granted_ttl.to_string()),
        ];
        fields.extend(r.keys.iter().map(|k| ("Key", quote(k))));
        self.lease_answer(&simple, r.header.as_ref(), &fields, || messages::time_to_live(r))
    }

    pub(crate) fn leases(&self, r: &pb::LeaseLeasesResponse) -> Shown {
        let mut simple = format!("found {} leases", r.leases.len());
        for lease in &r.leases {
            simple.push_str(&format!("\n{:016x}", lease.id));
        }
        let fields: Vec<_> = r.leases.iter().map(|l| ("ID", self.lease(l.id))).collect();
        self.lease_answer(&simple, r.header.as_ref(), &fields, || messages::leases(r))
    }

    /// Lease commands print only the header in protobuf form (a quirk of Go's embedding).
    fn lease_answer(
        &self,
        simple: &str,
        header: Option<&pb::ResponseHeader>,
        fields: &[(&str, String)],
        json: impl Fn() -> Json,
    ) -> Shown {
        match self.form {
            Form::Simple => say(simple),
            Form::Json => say(&json().line()),
            Form::Protobuf => write(&header.map(Message::encode_to_vec).unwrap_or_default()),
            Form::Fields => {
                self.header(header);
                fields.iter().for_each(|(name, value)| say(&format!("{name:?} : {value}")));
            }
            Form::Table => return Err(unsupported("table")),
        }
        Ok(())
    }

    pub(crate) fn member_list(&self, r: &pb::MemberListResponse) -> Shown {
        match self.form {
            Form::Json => say(&messages::members(r.header.as_ref(), &r.members, self.hex).line()),
            Form::Protobuf => write(&r.encode_to_vec()),
            Form::Fields => {
                self.header(r.header.as_ref());
                for m in &r.members {
                    say(&format!("\"ID\" : {}", self.id(m.id)));
                    say(&format!("\"Name\" : {}", quote(m.name.as_bytes())));
                    for url in &m.peer_ur_ls {
                        say(&format!("\"PeerURL\" : {}", quote(url.as_bytes())));
                    }
                    for url in &m.client_ur_ls {
                        say(&format!("\"ClientURL\" : {}", quote(url.as_bytes())));
                    }
                    say(&format!("\"IsLearner\" : {}", m.is_learner));
                    say("");
                }
            }
            Form::Simple | Form::Table => {
                let head = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
                let rows = r.members.iter().map(|m| {
                    let status = if m.name.is_empty() { "unstarted" } else { "started" };
                    vec![
                        format!("{:x}", m.id),
                        status.to_owned(),
                        m.name.clone(),
                        m.peer_ur_ls.join(","),
                        m.client_ur_ls.join(","),
                        m.is_learner.to_string(),
                    ]
                });
                self.rows(&head, rows.collect());
            }
        }
        Ok(())
    }

    pub(crate) fn health(&self, all: &[Health]) -> Shown {
        match self.form {
            Form::Simple => {
                for h in all {
                    let took = duration::show(h.took);
                    match &h.error {
                        None => say(&format!(
                            "{} is healthy: successfully committed proposal: took = {took}",
                            h.endpoint
                        )),
                        Some(error) => complain(&format!(
                            "{} is unhealthy: failed to commit proposal: {error}",
                            h.endpoint
                        )),
                    }
                }
            }
            Form::Json => {
                let list = all.iter().map(|h| {
                    Object::default()
                        .text("endpoint", &h.endpoint)
                        .with("health", Json::Bool(h.error.is_none()))
                        .text("took", &duration::show(h.took))
                        .opt_text("error", h.error.as_deref().unwrap_or_default())
                        .end()
                });
                say(&Json::List(list.collect()).line());
            }
            Form::Fields => {
                for h in all {
                    say(&format!("\"Endpoint\" : {}", quote(h.endpoint.as_bytes())));
                    say(&format!("\"Health\" : {}", h.error.is_none()));
                    say(&format!("\"Took\" : {}", duration::show(h.took)));
                    say(&format!("\"Error\" : {}", h.error.as_deref().unwrap_or_default()));
                    say("");
                }
            }
            Form::Table => {
                let rows = all.iter().map(|h| {
                    let error = h.error.clone().unwrap_or_default();
                    let healthy = h.error.is_none().to_string();
                    vec![h.endpoint.clone(), healthy, duration::show(h.took), error]
                });
                self.rows(&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], rows.collect());
            }
            Form::Protobuf => return Err(unsupported("protobuf")),
        }
        Ok(())
    }

    pub(crate) fn status(&self, all: &[(String, pb::StatusResponse)]) -> Shown {
        match self.form {
            Form::Json => {
                let list = all.iter().map(|(e, r)| messages::status(e, r)).collect();
                say(&Json::List(list).line());
            }
            Form::Fields => all.iter().for_each(|(e, r)| self.status_fields(e, r)),
            Form::Simple | Form::Table => {
                let rows = all.iter().map(|(e, r)| status_row(e, r)).collect();
                self.rows(&STATUS_HEAD, rows);
            }
            Form::Protobuf => return Err(unsupported("protobuf")),
        }
        Ok(())
    }

    fn status_fields(&self, endpoint: &str, r: &pb::StatusResponse) {
        self.header(r.header.as_ref());
        let downgrade = r.downgrade_info.clone().unwrap_or_default();
        for (name, value) in [
            ("Version", quote(r.version.as_bytes())),
            ("StorageVersion", quote(r.storage_version.as_bytes())),
            ("DBSize", r.db_size.to_string()),
            ("DBSizeInUse", r.db_size_in_use.to_string()),
            ("DBSizeQuota", r.db_size_quota.to_string()),
            ("Leader", self.id(r.leader)),
            ("IsLearner", r.is_learner.to_string()),
            ("RaftIndex", r.raft_index.to_string()),
            ("RaftTerm", r.raft_term.to_string()),
            ("RaftAppliedIndex", r.raft_applied_index.to_string()),
            ("Errors", quote(r.errors.join(", ").as_bytes())),
            ("Endpoint", quote(endpoint.as_bytes())),
            ("DowngradeTargetVersion", quote(downgrade.target_version.as_bytes())),
            ("DowngradeEnabled", downgrade.enabled.to_string()),
        ] {
            say(&format!("{name:?} : {value}"));
        }
        say("");
    }

    pub(crate) fn hash_kv(&self, all: &[(String, pb::HashKvResponse)]) -> Shown {
        match self.form {
            Form::Json => {
                let list = all.iter().map(|(e, r)| messages::hash_kv(e, r)).collect();
                say(&Json::List(list).line());
            }
            Form::Fields => {
                for (endpoint, r) in all {
                    self.header(r.header.as_ref());
                    say(&format!("\"Endpoint\" : {endpoint:?}"));
                    say(&format!("\"Hash\" : {}", r.hash));
                    say(&format!("\"HashRevision\" : {}", r.hash_revision));
                }
            }
            Form::Simple | Form::Table => {
                let row = |(endpoint, r): &(String, pb::HashKvResponse)| {
                    vec![endpoint.clone(), r.hash.to_string(), r.hash_revision.to_string()]
                };
                self.rows(&["ENDPOINT", "HASH", "HASH REVISION"], all.iter().map(row).collect());
            }
            Form::Protobuf => return Err(unsupported("protobuf")),
        }
        Ok(())
    }

    pub(crate) fn alarms(&self, r: &pb::AlarmResponse) -> Shown {
        let name =
            |alarm: i32| pb::AlarmType::try_from(alarm).map_or("UNKNOWN", |a| a.as_str_name());
        match self.form {
            Form::Simple => {
                for a in &r.alarms {
                    say(&format!("memberID:{} alarm:{} ", a.member_id, name(a.alarm)));
                }
                Ok(())
            }
            Form::Fields => {
                self.header(r.header.as_ref());
                for a in &r.alarms {
                    say(&format!("\"MemberID\" : {}", self.id(a.member_id)));
                    say(&format!("\"AlarmType\" : {}", name(a.alarm)));
                    say("");
                }
                Ok(())
            }
            _ => self.coded(r, messages::alarms),
        }
    }

    fn coded<M: Message>(&self, message: &M, json: impl Fn(&M) -> Json) -> Shown {
        match self.form {
            Form::Json => say(&json(message).line()),
            Form::Protobuf => write(&message.encode_to_vec()),
            Form::Table => return Err(unsupported("table")),
            Form::Simple | Form::Fields => unreachable!("each caller prints these itself"),
        }
        Ok(())
    }

    fn rows(&self, head: &[&str], rows: Vec<Vec<String>>) {
        if self.form == Form::Table {
            say(&table(head, &rows));
        } else {
            rows.iter().for_each(|row| say(&row.join(", ")));
        }
    }

    fn header(&self, header: Option<&pb::ResponseHeader>) {
        let h = header.cloned().unwrap_or_default();
        say(&format!("\"ClusterID\" : {}", self.id(h.cluster_id)));
        say(&format!("\"MemberID\" : {}", self.id(h.member_id)));
        if h.revision > 0 {
            say(&format!("\"Revision\" : {}", h.revision));
        }
        say(&format!("\"RaftTerm\" : {}", h.raft_term));
    }

    fn fields_kv(&self, prefix: &str, kv: &mvccpb::KeyValue) {
        say(&format!("\"{prefix}Key\" : {}", quote(&kv.key)));
        say(&format!("\"{prefix}CreateRevision\" : {}", kv.create_revision));
        say(&format!("\"{prefix}ModRevision\" : {}", kv.mod_revision));
        say(&format!("\"{prefix}Version\" : {}", kv.version));
        say(&format!("\"{prefix}Value\" : {}", quote(&kv.value)));
        say(&format!("\"{prefix}Lease\" : {}", self.lease(kv.lease)));
    }

    fn simple_kvs(&self, kvs: &[mvccpb::KeyValue]) {
        let mut out = Vec::new();
        for kv in kvs {
            if !self.value_only {
                out.extend(shown(&kv.key, self.hex));
                out.push(b'\n');
            }
            out.extend(shown(&kv.value, self.hex));
            out.push(b'\n');
        }
        write(&out);
    }

    fn id(&self, id: u64) -> String {
        if self.hex { format!("{id:x}") } else { id.to_string() }
    }

    fn lease(&self, id: i64) -> String {
        if self.hex { format!("{id:016x}") } else { id.to_string() }
    }
}

const STATUS_HEAD: [&str; 16] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];

fn status_row(endpoint: &str, r: &pb::StatusResponse) -> Vec<String> {
    let member = r.header.as_ref().map_or(0, |h| h.member_id);
    let downgrade = r.downgrade_info.clone().unwrap_or_default();
    let used = if r.db_size > 0 { r.db_size_in_use * 100 / r.db_size } else { 100 };
    vec![
        endpoint.to_owned(),
        format!("{member:x}"),
        r.version.clone(),
        r.storage_version.clone(),
        humanized(r.db_size.max(0).unsigned_abs()),
        humanized(r.db_size_in_use.max(0).unsigned_abs()),
        format!("{}%", 100 - used),
        humanized(r.db_size_quota.max(0).unsigned_abs()),
        (r.leader == member).to_string(),
        r.is_learner.to_string(),
        r.raft_term.to_string(),
        r.raft_index.to_string(),
        r.raft_applied_index.to_string(),
        r.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

fn unsupported(form: &str) -> Failure {
    Failure::new(BAD_FEATURE, format!("{form} not supported as output format"))
}

/// A line on standard output.
pub(crate) fn say(line: &str) {
    write(format!("{line}\n").as_bytes());
}

/// Bytes on standard output. When nobody reads any more, there is nobody to tell.
pub(crate) fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// A line on standard error.
pub(crate) fn complain(line: &str) {
    eprintln!("{line}");
}
