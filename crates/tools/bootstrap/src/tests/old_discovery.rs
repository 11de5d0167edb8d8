//! `--discovery URL`: the old keys API, as a fake serves it. The real one is asked in the tests of
//! `mainstay-interop`.

use super::{founders, refusal};
use crate::fakes::{FakeNames, FakePeer, Reply, ok};

/// The identity of a member alone at `http://localhost:2380` under `token`.
fn own_id(token: &str) -> String {
    mainstay_membership::member_id(&["http://localhost:2380".to_owned()], token, None).to_string()
}

const GET: &str = "quorum=false&recursive=false&sorted=false";

fn indexed(body: &str, index: u64) -> Reply {
    (200, vec![("X-Etcd-Index", index.to_string())], body.to_owned())
}

fn size(service: &FakePeer, body: &str) {
    service.on(&format!("GET /v2/keys/d/_config/size?{GET}"), ok(body));
}

fn node(name: &str, value: &str, index: u64) -> String {
    format!(
        "{{\"key\":\"/d/{name}\",\"value\":\"{value}\",\"modifiedIndex\":{index},\"createdIndex\":{index}}}"
    )
}

fn folder(service: &FakePeer, nodes: &[String], index: u64) {
    let body = format!(
        "{{\"action\":\"get\",\"node\":{{\"key\":\"/d\",\"dir\":true,\"nodes\":[{}]}}}}",
        nodes.join(",")
    );
    service.on(&format!("GET /v2/keys/d?{GET}"), indexed(&body, index));
}

fn registers(service: &FakePeer, me: &str, index: u64) {
    let body = format!(
        "{{\"action\":\"create\",\"node\":{}}}",
        node(me, "default=http://localhost:2380", index)
    );
    service.on(&format!("PUT /v2/keys/d/{me}?prevExist=false"), (201, vec![], body.clone()));
    service
        .on(&format!("GET /v2/keys/d/{me}?recursive=false&wait=true&waitIndex={index}"), ok(&body));
}

#[test]
fn members_come_from_the_folder_in_the_order_of_their_registration() {
    let service = FakePeer::start();
    let url = format!("{}/v2/keys/d", service.url());
    let me = own_id(&url);
    size(&service, "{\"node\":{\"value\":\"3\"}}");
    let config = node("_config", "", 1);
    let first = node("a1", "a=http://a:1", 5);
    folder(&service, &[config.clone(), first.clone()], 6);
    registers(&service, &me, 7);
    let mine = node(&me, "default=http://localhost:2380", 7);
    folder(&service, &[mine, config, first], 9);
    // The first wait ends without news, as etcd's does after a while.
    let wait = "GET /v2/keys/d?recursive=true&wait=true&waitIndex=10";
    service.on(wait, ok(""));
    service.on(wait, ok(&format!("{{\"node\":{}}}", node("b1", "b=http://b:1", 12))));
    let discovery = format!("--discovery={url}");
    let mut names = founders(&[&discovery], FakeNames::default());
    names.iter_mut().for_each(|member| *member = member.split_once(' ').expect("id").1.to_owned());
    names.sort();
    assert_eq!(names, ["a http://a:1", "b http://b:1", "default http://localhost:2380"]);
    let asked = service.asked();
    let put = format!(
        "PUT /v2/keys/d/{me}?prevExist=false value=default%3Dhttp%3A%2F%2Flocalhost%3A2380"
    );
    assert_eq!(asked[2], put, "{asked:?}");
    assert_eq!(asked.iter().filter(|line| *line == wait).count(), 2, "{asked:?}");
}

#[test]
fn every_fault_of_the_service_has_its_text() {
    type Case = (&'static str, &'static [(&'static str, u64)], &'static str);
    let cases: [Case; 7] = [
        ("{\"node\":{\"value\":\"2\"}}", &[("a1", 5), ("b1", 6)], "discovery: cluster is full"),
        ("{\"node\":{\"value\":\"none\"}}", &[], "discovery: size key is bad"),
        ("{\"node\":{\"value\":\"0\"}}", &[], "discovery: size key is bad"),
        ("{\"node\":{\"value\":\"-1\"}}", &[], "discovery: size key is bad"),
        ("{\"node\":{\"value\":\"9999999\"}}", &[], "discovery: size key is bad"),
        ("not json", &[], "discovery: bad discovery endpoint"),
        ("", &[], "client: response body is empty"),
    ];
    for (body, nodes, text) in cases {
        let service = FakePeer::start();
        size(&service, body);
        let nodes: Vec<String> = nodes
            .iter()
            .map(|(name, index)| node(name, &format!("{name}=http://{name}:1"), *index))
            .collect();
        folder(&service, &nodes, 9);
        let url = format!("--discovery={}/v2/keys/d", service.url());
        let told = refusal(&[&url], FakeNames::default());
        assert_eq!(told, format!("failed to join discovery cluster ({text})"), "{body}");
    }
    for (url, text) in
        [("http://h:1/v2?x", "discovery: invalid URL"), ("h", "discovery: invalid URL")]
    {
        let told = refusal(&[&format!("--discovery={url}")], FakeNames::default());
        assert_eq!(told, format!("failed to join discovery cluster ({text})"));
    }
}

#[test]
fn a_token_is_used_once() {
    let service = FakePeer::start();
    let url = format!("{}/v2/keys/d", service.url());
    let me = own_id(&url);
    size(&service, "{\"node\":{\"value\":\"1\"}}");
    folder(&service, &[], 4);
    let exists =
        "{\"errorCode\":105,\"message\":\"Key already exists\",\"cause\":\"/d/x\",\"index\":9}";
    service.on(&format!("PUT /v2/keys/d/{me}?prevExist=false"), (412, vec![], exists.to_owned()));
    let told = refusal(&[&format!("--discovery={url}")], FakeNames::default());
    assert_eq!(told, "failed to join discovery cluster (discovery: found duplicate id)");

    let missing = "{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/d\",\"index\":9}";
    let service = FakePeer::start();
    let reply = (404, vec![], missing.to_owned());
    service.on(&format!("GET /v2/keys/d/_config/size?{GET}"), reply);
    let told =
        refusal(&[&format!("--discovery={}/v2/keys/d", service.url())], FakeNames::default());
    assert_eq!(told, "failed to join discovery cluster (100: Key not found (/d) [9])");
}

#[test]
fn two_members_of_one_name_are_refused_and_a_leaderless_service_is_asked_again() {
    let service = FakePeer::start();
    let url = format!("{}/v2/keys/d", service.url());
    let me = own_id(&url);
    service.on(&format!("GET /v2/keys/d/_config/size?{GET}"), (503, vec![], "{}".to_owned()));
    service.on(&format!("GET /v2/keys/d/_config/size?{GET}"), (500, vec![], "{}".to_owned()));
    size(&service, "{\"node\":{\"value\":\"2\"}}");
    let other = node("a1", "default=http://a:1", 5);
    folder(&service, std::slice::from_ref(&other), 6);
    registers(&service, &me, 7);
    folder(&service, &[node(&me, "default=http://localhost:2380", 7), other], 9);
    let told = refusal(&[&format!("--discovery={url}")], FakeNames::default());
    assert_eq!(told, "failed to join discovery cluster (discovery: found duplicate name)");
}

#[test]
fn the_service_may_send_us_to_another_one() {
    let (first, second) = (FakePeer::start(), FakePeer::start());
    let url = format!("{}/v2/keys/d", first.url());
    let me = own_id(&url);
    let to = format!("{}/v2/keys/d/_config/size?{GET}", second.url());
    let moved = (307, vec![("Location", to)], String::new());
    first.on(&format!("GET /v2/keys/d/_config/size?{GET}"), moved);
    size(&second, "{\"node\":{\"value\":\"1\"}}");
    folder(&first, &[], 6);
    registers(&first, &me, 7);
    folder(&first, &[node(&me, "default=http://localhost:2380", 7)], 9);
    assert_eq!(founders(&[&format!("--discovery={url}")], FakeNames::default()).len(), 1);

    // A circle is left after ten turns, and the service asked again.
    let around = FakePeer::start();
    let path = format!("/v2/keys/d/_config/size?{GET}");
    for _ in 0..11 {
        let back = (302, vec![("Location", format!("{}{path}", around.url()))], String::new());
        around.on(&format!("GET {path}"), back);
    }
    size(&around, "never");
    let told = refusal(&[&format!("--discovery={}/v2/keys/d", around.url())], FakeNames::default());
    assert_eq!(told, "failed to join discovery cluster (discovery: bad discovery endpoint)");
    assert_eq!(around.asked().len(), 12);
}

#[test]
fn a_proxy_is_asked_for_the_whole_url() {
    let proxy = FakePeer::start();
    let url = "http://discovery.invalid/v2/keys/d";
    let me = own_id(url);
    let base = "http://discovery.invalid:80";
    let on = |line: &str, reply: Reply| {
        proxy.on(&line.replace(" /", &format!(" {base}/")), reply);
    };
    on(&format!("GET /v2/keys/d/_config/size?{GET}"), ok("{\"node\":{\"value\":\"1\"}}"));
    let mine = node(&me, "default=http://localhost:2380", 7);
    let folder = |nodes: &str| {
        format!(
            "{{\"action\":\"get\",\"node\":{{\"key\":\"/d\",\"dir\":true,\"nodes\":[{nodes}]}}}}"
        )
    };
    on(&format!("GET /v2/keys/d?{GET}"), indexed(&folder(""), 6));
    let made = format!("{{\"action\":\"create\",\"node\":{mine}}}");
    on(&format!("PUT /v2/keys/d/{me}?prevExist=false"), (201, vec![], made.clone()));
    on(&format!("GET /v2/keys/d/{me}?recursive=false&wait=true&waitIndex=7"), ok(&made));
    on(&format!("GET /v2/keys/d?{GET}"), indexed(&folder(&mine), 9));
    let flags = [format!("--discovery={url}"), format!("--discovery-proxy={}", proxy.url())];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(founders(&flags, FakeNames::default()).len(), 1);
    assert!(proxy.asked().iter().all(|line| line.contains(base)), "{:?}", proxy.asked());
    let told = refusal(&[flags[0], "--discovery-proxy=h:x"], FakeNames::default());
    assert_eq!(told, "failed to join discovery cluster (invalid proxy address \"h:x\")");
}
