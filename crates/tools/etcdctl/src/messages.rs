//! etcd's messages as JSON, field by field as Go's structs have their tags.

use mainstay_proto::{etcdserverpb as pb, mainstaypb, mvccpb};

use mainstay_print::json::{Json, Object};

/// `"header":{…}`, also flattened by some commands.
pub(crate) fn header(header: Option<&pb::ResponseHeader>) -> Json {
    header_fields(Object::default(), header).end()
}

pub(crate) fn header_fields(object: Object, header: Option<&pb::ResponseHeader>) -> Object {
    let Some(h) = header else { return object };
    object
        .opt_number("cluster_id", h.cluster_id)
        .opt_number("member_id", h.member_id)
        .opt_number("revision", h.revision)
        .opt_number("raft_term", h.raft_term)
}

fn with_header(h: Option<&pb::ResponseHeader>) -> Object {
    Object::default().opt("header", h.map(|h| header(Some(h))))
}

pub(crate) fn key_value(kv: &mvccpb::KeyValue) -> Json {
    Object::default()
        .opt_bytes("key", &kv.key)
        .opt_number("create_revision", kv.create_revision)
        .opt_number("mod_revision", kv.mod_revision)
        .opt_number("version", kv.version)
        .opt_bytes("value", &kv.value)
        .opt_number("lease", kv.lease)
        .end()
}

pub(crate) fn only_header(header: Option<&pb::ResponseHeader>) -> Json {
    with_header(header).end()
}

pub(crate) fn auth_status(r: &pb::AuthStatusResponse) -> Json {
    with_header(r.header.as_ref())
        .opt_true("enabled", r.enabled)
        .opt_number("authRevision", r.auth_revision)
        .end()
}

/// A list of users or roles.
pub(crate) fn names(
    header: Option<&pb::ResponseHeader>,
    name: &'static str,
    names: &[String],
) -> Json {
    let names = names.iter().map(|name| Json::Text(name.clone())).collect();
    with_header(header).opt_list(name, names).end()
}

pub(crate) fn role(r: &pb::AuthRoleGetResponse) -> Json {
    let perm = r.perm.iter().map(|perm| {
        Object::default()
            .opt_number("permType", perm.perm_type)
            .opt_bytes("key", &perm.key)
            .opt_bytes("range_end", &perm.range_end)
            .end()
    });
    with_header(r.header.as_ref()).opt_list("perm", perm.collect()).end()
}

fn key_values(kvs: &[mvccpb::KeyValue]) -> Vec<Json> {
    kvs.iter().map(key_value).collect()
}

pub(crate) fn put(r: &pb::PutResponse) -> Json {
    with_header(r.header.as_ref()).opt("prev_kv", r.prev_kv.as_ref().map(key_value)).end()
}

pub(crate) fn range(r: &pb::RangeResponse) -> Json {
    with_header(r.header.as_ref())
        .opt_list("kvs", key_values(&r.kvs))
        .opt_true("more", r.more)
        .opt_number("count", r.count)
        .end()
}

pub(crate) fn delete(r: &pb::DeleteRangeResponse) -> Json {
    with_header(r.header.as_ref())
        .opt_number("deleted", r.deleted)
        .opt_list("prev_kvs", key_values(&r.prev_kvs))
        .end()
}

pub(crate) fn txn(r: &pb::TxnResponse) -> Json {
    use pb::response_op::Response as R;
    let responses = r.responses.iter().map(|op| {
        let inner = match &op.response {
            Some(R::ResponseRange(r)) => Object::default().with("response_range", range(r)).end(),
            Some(R::ResponsePut(r)) => Object::default().with("response_put", put(r)).end(),
            Some(R::ResponseDeleteRange(r)) => {
                Object::default().with("response_delete_range", delete(r)).end()
            }
            Some(R::ResponseTxn(r)) => Object::default().with("response_txn", txn(r)).end(),
            None => Json::Null,
        };
        Object::default().with("Response", inner).end()
    });
    let responses = responses.collect();
    with_header(r.header.as_ref())
        .opt_true("succeeded", r.succeeded)
        .opt_list("responses", responses)
        .end()
}

pub(crate) fn watch(r: &pb::WatchResponse) -> Json {
    let events = r.events.iter().map(|e| {
        Object::default()
            .opt_number("type", e.r#type)
            .opt("kv", e.kv.as_ref().map(key_value))
            .opt("prev_kv", e.prev_kv.as_ref().map(key_value))
            .end()
    });
    Object::default()
        .with("Header", header(r.header.as_ref()))
        .with("Events", Json::List(events.collect()))
        .number("CompactRevision", r.compact_revision)
        .with("Canceled", Json::Bool(r.canceled))
        .with("Created", Json::Bool(r.created))
        .text("CancelReason", &r.cancel_reason)
        .end()
}

pub(crate) fn grant(r: &pb::LeaseGrantResponse) -> Json {
    header_fields(Object::default(), r.header.as_ref())
        .number("ID", r.id)
        .number("TTL", r.ttl)
        .text("Error", &r.error)
        .end()
}

pub(crate) fn revoke(r: &pb::LeaseRevokeResponse) -> Json {
    with_header(r.header.as_ref()).end()
}

pub(crate) fn keep_alive(r: &pb::LeaseKeepAliveResponse) -> Json {
    header_fields(Object::default(), r.header.as_ref())
        .number("ID", r.id)
        .number("TTL", r.ttl)
        .end()
}

pub(crate) fn time_to_live(r: &pb::LeaseTimeToLiveResponse) -> Json {
    let keys: Vec<Json> = r.keys.iter().map(|k| Json::bytes(k)).collect();
    header_fields(Object::default(), r.header.as_ref())
        .number("id", r.id)
        .number("ttl", r.ttl)
        .number("granted-ttl", r.granted_ttl)
        .with("keys", if keys.is_empty() { Json::Null } else { Json::List(keys) })
        .end()
}

pub(crate) fn leases(r: &pb::LeaseLeasesResponse) -> Json {
    let leases = r.leases.iter().map(|l| Object::default().number("id", l.id).end()).collect();
    header_fields(Object::default(), r.header.as_ref()).with("leases", Json::List(leases)).end()
}

/// Header and members: what every answer about the membership has.
pub(crate) fn members(h: Option<&pb::ResponseHeader>, members: &[pb::Member], hex: bool) -> Json {
    with_members(Object::default().with("header", member_header(h, hex)), members, hex)
}

pub(crate) fn member_add(r: &pb::MemberAddResponse, hex: bool) -> Json {
    let object = Object::default()
        .with("header", member_header(r.header.as_ref(), hex))
        .opt("member", r.member.as_ref().map(|m| member(m, hex)));
    with_members(object, &r.members, hex)
}

fn with_members(object: Object, members: &[pb::Member], hex: bool) -> Json {
    object.opt_list("members", members.iter().map(|m| member(m, hex)).collect()).end()
}

fn member_header(header: Option<&pb::ResponseHeader>, hex: bool) -> Json {
    let h = header.copied().unwrap_or_default();
    let object = id(Object::default(), "cluster_id", h.cluster_id, hex);
    id(object, "member_id", h.member_id, hex)
        .opt_number("revision", h.revision)
        .opt_number("raft_term", h.raft_term)
        .end()
}

fn member(m: &pb::Member, hex: bool) -> Json {
    id(Object::default(), "ID", m.id, hex)
        .opt_text("name", &m.name)
        .opt_list("peerURLs", texts(&m.peer_ur_ls))
        .opt_list("clientURLs", texts(&m.client_ur_ls))
        .opt_true("isLearner", m.is_learner)
        .end()
}

fn id(object: Object, name: &'static str, id: u64, hex: bool) -> Object {
    if hex { object.text(name, &format!("{id:x}")) } else { object.opt_number(name, id) }
}

fn texts(list: &[String]) -> Vec<Json> {
    list.iter().cloned().map(Json::Text).collect()
}

pub(crate) fn move_leader(r: &pb::MoveLeaderResponse) -> Json {
    with_header(r.header.as_ref()).end()
}

pub(crate) fn downgrade(r: &pb::DowngradeResponse) -> Json {
    with_header(r.header.as_ref()).opt_text("version", &r.version).end()
}

pub(crate) fn upgrade(r: &mainstaypb::StatusResponse) -> Json {
    let members = r.members.iter().map(|m| {
        Object::default()
            .opt_number("ID", m.id)
            .opt_text("name", &m.name)
            .opt_true("isLearner", m.is_learner)
            .opt_text("serverVersion", &m.server_version)
            .opt_text("clusterVersion", &m.cluster_version)
            .end()
    });
    with_header(r.header.as_ref())
        .opt_text("clusterVersion", &r.cluster_version)
        .opt_text("storageVersion", &r.storage_version)
        .opt_list("members", members.collect())
        .opt_list("holds", texts(&r.holds))
        .opt_text("targetVersion", &r.target_version)
        .end()
}

pub(crate) fn finalized(r: &mainstaypb::FinalizeResponse) -> Json {
    with_header(r.header.as_ref())
        .opt_text("clusterVersion", &r.cluster_version)
        .opt_text("previousVersion", &r.previous_version)
        .end()
}

pub(crate) fn status(endpoint: &str, r: &pb::StatusResponse) -> Json {
    let downgrade = r.downgrade_info.as_ref().map(|d| {
        Object::default()
            .opt_true("enabled", d.enabled)
            .opt_text("targetVersion", &d.target_version)
            .end()
    });
    let status = with_header(r.header.as_ref())
        .opt_text("version", &r.version)
        .opt_number("dbSize", r.db_size)
        .opt_number("leader", r.leader)
        .opt_number("raftIndex", r.raft_index)
        .opt_number("raftTerm", r.raft_term)
        .opt_number("raftAppliedIndex", r.raft_applied_index)
        .opt_list("errors", texts(&r.errors))
        .opt_number("dbSizeInUse", r.db_size_in_use)
        .opt_true("isLearner", r.is_learner)
        .opt_text("storageVersion", &r.storage_version)
        .opt_number("dbSizeQuota", r.db_size_quota)
        .opt("downgradeInfo", downgrade);
    Object::default().text("Endpoint", endpoint).with("Status", status.end()).end()
}

pub(crate) fn hash_kv(endpoint: &str, r: &pb::HashKvResponse) -> Json {
    let hash = with_header(r.header.as_ref())
        .opt_number("hash", r.hash)
        .opt_number("compact_revision", r.compact_revision)
        .opt_number("hash_revision", r.hash_revision);
    Object::default().text("Endpoint", endpoint).with("HashKV", hash.end()).end()
}

pub(crate) fn alarms(r: &pb::AlarmResponse) -> Json {
    let alarms = r.alarms.iter().map(|a| {
        Object::default().opt_number("memberID", a.member_id).opt_number("alarm", a.alarm).end()
    });
    with_header(r.header.as_ref()).opt_list("alarms", alarms.collect::<Vec<_>>()).end()
}
