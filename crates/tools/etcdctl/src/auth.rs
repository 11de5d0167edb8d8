//! auth, user and role.

use std::future::Future;

use bytes::Bytes;
use mainstay_proto::authpb::permission::Type;
use mainstay_proto::authpb::{Permission, UserAddOptions};
use mainstay_proto::etcdserverpb as pb;
use tonic::{Response, Status};

use crate::exit::Failure;
use crate::kv::prefix_end;
use crate::password;
use crate::session::Session;
use crate::show::say;

/// etcdctl's answers to the wrong number of arguments.
fn exactly<'a, const N: usize>(
    session: &'a Session,
    wanted: &str,
) -> Result<&'a [String; N], Failure> {
    session.line.args.as_slice().try_into().map_err(|_| Failure::bad_args(wanted))
}

/// These commands wait for as long as it takes, as etcdctl's do.
async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    Ok(call.await.map_err(Failure::from)?.into_inner())
}

const ROOT: &str = "root";

pub(crate) async fn enable(session: &Session) -> Result<(), Failure> {
    exactly::<0>(session, "auth enable command does not accept any arguments")?;
    let client = session.client().await?;
    let mut auth = client.auth();
    let enabling = async {
        loop {
            match auth.auth_enable(pb::AuthEnableRequest {}).await {
                Ok(_) => return Ok(()),
                Err(status)
                    if status.message() == "etcdserver: root user does not have root role" =>
                {
                    auth.role_add(pb::AuthRoleAddRequest { name: ROOT.into() }).await?;
                    let (user, role) = (ROOT.into(), ROOT.into());
                    auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }).await?;
                }
                Err(status) => return Err(status),
            }
        }
    };
    session.timed(enabling).await?;
    say("Authentication Enabled");
    Ok(())
}

pub(crate) async fn disable(session: &Session) -> Result<(), Failure> {
    exactly::<0>(session, "auth disable command does not accept any arguments")?;
    let client = session.client().await?;
    session.timed(client.auth().auth_disable(pb::AuthDisableRequest {})).await?;
    say("Authentication Disabled");
    Ok(())
}

pub(crate) async fn status(session: &Session) -> Result<(), Failure> {
    exactly::<0>(session, "auth status command does not accept any arguments")?;
    let client = session.client().await?;
    let reply = session.timed(client.auth().auth_status(pb::AuthStatusRequest {})).await?;
    session.show.auth_status(&reply.into_inner())
}

pub(crate) async fn user_add(session: &Session) -> Result<(), Failure> {
    let [given] = exactly(session, "user add command requires user name as its argument")?;
    let line = &session.line;
    let no_password = line.is("no-password");
    let (name, password) = match given.split_once(':') {
        _ if no_password => (given.as_str(), String::new()),
        _ if !line.text("new-user-password").is_empty() => {
            (given.as_str(), line.text("new-user-password").to_owned())
        }
        Some(("", _)) => return Err(Failure::bad_args("empty user name is not allowed")),
        Some((name, password)) => (name, password.to_owned()),
        None => (given.as_str(), new_password(session, given)?),
    };
    let client = session.client().await?;
    let request = pb::AuthUserAddRequest {
        name: name.to_owned(),
        password,
        options: Some(UserAddOptions { no_password }),
        hashed_password: String::new(),
    };
    let reply = answer(client.auth().user_add(request)).await?;
    session.show.auth_done(&reply, reply.header.as_ref(), &format!("User {name} created"))
}

fn new_password(session: &Session, name: &str) -> Result<String, Failure> {
    if session.line.is("interactive") {
        password::ask_new(name)
    } else {
        Ok(password::first_word())
    }
}

pub(crate) async fn user_delete(session: &Session) -> Result<(), Failure> {
    let [name] = exactly(session, "user delete command requires user name as its argument")?;
    let client = session.client().await?;
    let request = pb::AuthUserDeleteRequest { name: name.clone() };
    let reply = answer(client.auth().user_delete(request)).await?;
    session.show.auth_done(&reply, reply.header.as_ref(), &format!("User {name} deleted"))
}

pub(crate) async fn user_get(session: &Session) -> Result<(), Failure> {
    let [name] = exactly(session, "user get command requires user name as its argument")?;
    let client = session.client().await?;
    let mut auth = client.auth();
    let reply = answer(auth.user_get(pb::AuthUserGetRequest { name: name.clone() })).await?;
    if !session.line.is("detail") {
        return session.show.user(name, &reply);
    }
    say(&format!("User: {name}"));
    for role in reply.roles {
        say("");
        let request = pb::AuthRoleGetRequest { role: role.clone() };
        session.show.role(&role, &answer(auth.role_get(request)).await?)?;
    }
    Ok(())
}

pub(crate) async fn user_list(session: &Session) -> Result<(), Failure> {
    exactly::<0>(session, "user list command requires no arguments")?;
    let client = session.client().await?;
    session.show.users(&answer(client.auth().user_list(pb::AuthUserListRequest {})).await?)
}

pub(crate) async fn user_passwd(session: &Session) -> Result<(), Failure> {
    let [name] = exactly(session, "user passwd command requires user name as its argument")?;
    let password = new_password(session, name)?;
    let client = session.client().await?;
    let request = pb::AuthUserChangePasswordRequest {
        name: name.clone(),
        password,
        hashed_password: String::new(),
    };
    let reply = answer(client.auth().user_change_password(request)).await?;
    session.show.auth_done(&reply, reply.header.as_ref(), "Password updated")
}

pub(crate) async fn user_grant_role(session: &Session) -> Result<(), Failure> {
    let wanted = "user grant command requires user name and role name as its argument";
    let [user, role] = exactly(session, wanted)?;
    let client = session.client().await?;
    let request = pb::AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let reply = answer(client.auth().user_grant_role(request)).await?;
    let done = format!("Role {role} is granted to user {user}");
    session.show.auth_done(&reply, reply.header.as_ref(), &done)
}

pub(crate) async fn user_revoke_role(session: &Session) -> Result<(), Failure> {
    let wanted = "user revoke-role requires user name and role name as its argument";
    let [user, role] = exactly(session, wanted)?;
    let client = session.client().await?;
    let request = pb::AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
    let reply = answer(client.auth().user_revoke_role(request)).await?;
    let done = format!("Role {role} is revoked from user {user}");
    session.show.auth_done(&reply, reply.header.as_ref(), &done)
}

pub(crate) async fn role_add(session: &Session) -> Result<(), Failure> {
    let [name] = exactly(session, "role add command requires role name as its argument")?;
    let client = session.client().await?;
    let reply =
        answer(client.auth().role_add(pb::AuthRoleAddRequest { name: name.clone() })).await?;
    session.show.auth_done(&reply, reply.header.as_ref(), &format!("Role {name} created"))
}

pub(crate) async fn role_delete(session: &Session) -> Result<(), Failure> {
    let [role] = exactly(session, "role delete command requires role name as its argument")?;
    let client = session.client().await?;
    let request = pb::AuthRoleDeleteRequest { role: role.clone() };
    let reply = answer(client.auth().role_delete(request)).await?;
    session.show.auth_done(&reply, reply.header.as_ref(), &format!("Role {role} deleted"))
}

pub(crate) async fn role_get(session: &Session) -> Result<(), Failure> {
    let [role] = exactly(session, "role get command requires role name as its argument")?;
    let client = session.client().await?;
    let request = pb::AuthRoleGetRequest { role: role.clone() };
    session.show.role(role, &answer(client.auth().role_get(request)).await?)
}

pub(crate) async fn role_list(session: &Session) -> Result<(), Failure> {
    exactly::<0>(session, "role list command requires no arguments")?;
    let client = session.client().await?;
    session.show.roles(&answer(client.auth().role_list(pb::AuthRoleListRequest {})).await?)
}

pub(crate) async fn role_grant(session: &Session) -> Result<(), Failure> {
    let [role, kind, range @ ..] = session.line.args.as_slice() else {
        return Err(role_grant_needs());
    };
    if range.is_empty() {
        return Err(role_grant_needs());
    }
    let perm_type = match kind.to_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => return Err(Failure::bad_args(format!("invalid permission type: {kind}"))),
    };
    let (key, range_end) = place(session, range)?;
    let perm = Some(Permission { perm_type: perm_type.into(), key, range_end });
    let client = session.client().await?;
    let request = pb::AuthRoleGrantPermissionRequest { name: role.clone(), perm };
    let reply = answer(client.auth().role_grant_permission(request)).await?;
    session.show.auth_done(&reply, reply.header.as_ref(), &format!("Role {role} updated"))
}

fn role_grant_needs() -> Failure {
    Failure::bad_args(
        "role grant command requires role name, permission type, and key [endkey] as its argument",
    )
}

pub(crate) async fn role_revoke(session: &Session) -> Result<(), Failure> {
    let wanted =
        "role revoke-permission command requires role name and key [endkey] as its argument";
    let [role, range @ ..] = session.line.args.as_slice() else {
        return Err(Failure::bad_args(wanted));
    };
    let [given, ..] = range else { return Err(Failure::bad_args(wanted)) };
    let (key, range_end) = place(session, range)?;
    let client = session.client().await?;
    let request = pb::AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key,
        range_end: range_end.clone(),
    };
    let reply = answer(client.auth().role_revoke_permission(request)).await?;
    let done = match range_end.as_ref() {
        b"" => format!("Permission of key {given} is revoked from role {role}"),
        b"\0" => {
            format!("Permission of range [{given}, <open ended> is revoked from role {role}")
        }
        end => {
            let end = String::from_utf8_lossy(end);
            format!("Permission of range [{given}, {end}) is revoked from role {role}")
        }
    };
    session.show.auth_done(&reply, reply.header.as_ref(), &done)
}

/// The range of a permission.
fn place(session: &Session, range: &[String]) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (session.line.is("prefix"), session.line.is("from-key"));
    let both = || Failure::bad_args("--from-key and --prefix flags are mutually exclusive");
    let zero = || Bytes::from_static(&[0]);
    let bytes = |text: &String| Bytes::from(text.clone());
    match range {
        [key, ..] if key.is_empty() => match (prefix, from_key) {
            (true, true) => Err(both()),
            (false, false) => Ok((zero(), Bytes::new())),
            _ => Ok((zero(), zero())),
        },
        [key] => match (prefix, from_key) {
            (true, true) => Err(both()),
            (true, false) => Ok((bytes(key), prefix_end(key.as_bytes()))),
            (false, true) => Ok((bytes(key), zero())),
            (false, false) => Ok((bytes(key), Bytes::new())),
        },
        [_, ..] if prefix => {
            Err(Failure::bad_args("unexpected endkey argument with --prefix flag"))
        }
        [_, ..] if from_key => {
            Err(Failure::bad_args("unexpected endkey argument with --from-key flag"))
        }
        [key, end, ..] => Ok((bytes(key), bytes(end))),
        [] => Err(Failure::bad_args("a permission needs a key")),
    }
}
