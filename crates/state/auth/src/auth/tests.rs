//! The rules of semantics 11, and random changes beside a naive model.

use std::path::Path;

use mainstay_backend::{Backend, OpenOptions};
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_types::{Index, Term};

use super::*;

mod model;

fn batch() -> Batch {
    Batch::new((Index(5), Term(1)))
}

fn user(name: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest {
        name: name.to_owned(),
        hashed_password: "aGFzaA==".to_owned(),
        ..Default::default()
    }
}

fn permission(kind: Type, key: &str, end: &str) -> Permission {
    let bytes = |text: &str| Bytes::from(text.to_owned());
    Permission { perm_type: kind as i32, key: bytes(key), range_end: bytes(end) }
}

fn grant(role: &str, perm: Permission) -> pb::AuthRoleGrantPermissionRequest {
    pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) }
}

fn revoke(role: &str, key: &str, end: &str) -> pb::AuthRoleRevokePermissionRequest {
    let Permission { key, range_end, .. } = permission(Type::Read, key, end);
    pb::AuthRoleRevokePermissionRequest { role: role.to_owned(), key, range_end }
}

fn who(user: &str, revision: u64) -> Identity {
    Identity { user: user.to_owned(), revision }
}

/// Users root and alice, roles root and r (write on a..c); on.
fn enabled() -> Auth {
    let mut auth = Auth::default();
    let b = &mut batch();
    for name in ["root", "alice"] {
        auth.add_user(&user(name), b).unwrap();
    }
    auth.grant_role("root", "root", b).unwrap();
    auth.add_role("r", b).unwrap();
    auth.grant_permission(grant("r", permission(Type::Write, "a", "c")), b).unwrap();
    auth.grant_role("alice", "r", b).unwrap();
    assert!(auth.enable(b).unwrap());
    auth
}

#[test]
fn what_moves_the_revision() {
    let mut auth = Auth::default();
    assert_eq!(auth.revision(), 1);
    let mut expected = 1;
    let mut moved = |auth: &Auth, by: u64, what: &str| {
        expected += by;
        assert_eq!(auth.revision(), expected, "{what}");
    };
    let b = &mut batch();
    auth.add_user(&user("root"), b).unwrap();
    moved(&auth, 1, "user add");
    auth.grant_role("root", "root", b).unwrap();
    moved(&auth, 1, "user grant role");
    auth.grant_role("root", "root", b).unwrap();
    moved(&auth, 0, "the same again");
    auth.add_role("r", b).unwrap();
    moved(&auth, 1, "role add");
    auth.grant_permission(grant("r", permission(Type::Read, "k", "")), b).unwrap();
    moved(&auth, 1, "role grant permission");
    auth.grant_permission(grant("r", permission(Type::Read, "k", "")), b).unwrap();
    moved(&auth, 1, "the same again");
    auth.revoke_permission(&revoke("r", "k", ""), b).unwrap();
    moved(&auth, 1, "role revoke permission");
    let change = pb::AuthUserChangePasswordRequest { name: "root".into(), ..Default::default() };
    auth.change_password(&change, b).unwrap();
    moved(&auth, 1, "user change password");
    assert_eq!(auth.enable(b), Ok(true));
    assert_eq!(auth.enable(b), Ok(false));
    moved(&auth, 0, "enable");
    assert!(auth.disable(b));
    moved(&auth, 1, "disable");
    assert!(!auth.disable(b));
    moved(&auth, 0, "disable again");
    auth.revoke_role("root", "root", b).unwrap();
    moved(&auth, 1, "user revoke role");
    auth.delete_role("r", b).unwrap();
    moved(&auth, 1, "role delete");
    auth.delete_user("root", b).unwrap();
    moved(&auth, 1, "user delete");
}

#[test]
fn the_first_revision_is_stored_once() {
    let mut auth = Auth::default();
    let (mut first, mut second) = (batch(), batch());
    auth.store_first_revision(&mut first);
    auth.store_first_revision(&mut second);
    let mut expected = batch();
    expected.put(Bucket::Auth, REVISION, 1u64.to_be_bytes().to_vec());
    assert_eq!((first, second), (expected, batch()));
}

#[test]
fn enabling_needs_root() {
    let mut auth = Auth::default();
    let b = &mut batch();
    assert_eq!(auth.enable(b), Err(AuthError::RootUserNotExist));
    auth.add_user(&user("root"), b).unwrap();
    assert_eq!(auth.enable(b), Err(AuthError::RootRoleNotExist));
    assert_eq!(auth.may_have_token("root"), Err(AuthError::NotEnabled));
    auth.grant_role("root", "root", b).unwrap();
    assert_eq!(auth.enable(b), Ok(true), "role root needs no object");
    assert_eq!(auth.may_have_token("root"), Ok(()));
    assert_eq!(auth.may_have_token("nobody"), Err(AuthError::Failed));
}

#[test]
fn root_is_not_locked_out_while_on() {
    let mut auth = enabled();
    let b = &mut batch();
    auth.add_role("root", b).unwrap();
    let refused = Err(AuthError::InvalidManagement);
    assert_eq!(auth.delete_user("root", b), refused);
    assert_eq!(auth.revoke_role("root", "root", b), refused);
    assert_eq!(auth.delete_role("root", b), refused);
    auth.grant_role("alice", "root", b).unwrap();
    assert_eq!(auth.revoke_role("alice", "root", b), Ok(()));
    auth.disable(b);
    assert_eq!(auth.delete_role("root", b), Ok(()));
    assert_eq!(auth.roles_of("root").unwrap(), [""; 0]);
    assert_eq!(auth.delete_user("root", b), Ok(()));
}

#[test]
fn names_must_be_there_once() {
    let mut auth = enabled();
    let b = &mut batch();
    assert_eq!(auth.add_user(&user(""), b), Err(AuthError::UserEmpty));
    assert_eq!(auth.add_user(&user("alice"), b), Err(AuthError::UserExists));
    assert_eq!(auth.add_role("", b), Err(AuthError::RoleEmpty));
    assert_eq!(auth.add_role("r", b), Err(AuthError::RoleExists));
    assert_eq!(auth.delete_user("x", b), Err(AuthError::UserNotFound));
    assert_eq!(auth.grant_role("x", "y", b), Err(AuthError::UserNotFound));
    assert_eq!(auth.grant_role("alice", "y", b), Err(AuthError::RoleNotFound));
    assert_eq!(auth.revoke_role("alice", "root", b), Err(AuthError::RoleNotGranted));
    assert_eq!(auth.delete_role("y", b), Err(AuthError::RoleNotFound));
    assert_eq!(auth.roles_of("x"), Err(AuthError::UserNotFound));
    assert_eq!(auth.permissions_of("y"), Err(AuthError::RoleNotFound));
    let none = pb::AuthRoleGrantPermissionRequest { name: "y".into(), perm: None };
    assert_eq!(auth.grant_permission(none, b), Err(AuthError::PermissionNotGiven));
    for (key, end) in [("", ""), ("", "z"), ("b", "a"), ("b", "b"), ("", "\0")] {
        let odd = grant("y", permission(Type::Read, key, end));
        assert_eq!(auth.grant_permission(odd, b), Err(AuthError::InvalidManagement));
    }
    let sound = grant("y", permission(Type::Read, "b", "\0"));
    assert_eq!(auth.grant_permission(sound, b), Err(AuthError::RoleNotFound));
    let missing = auth.revoke_permission(&revoke("r", "a", ""), b);
    assert_eq!(missing, Err(AuthError::PermissionNotGranted));
    assert_eq!(*b, batch(), "what is refused writes nothing");
}

#[test]
fn only_the_first_permission_of_a_key_is_replaced() {
    let mut auth = Auth::default();
    let b = &mut batch();
    auth.add_role("r", b).unwrap();
    let mut put = |kind, end| {
        auth.grant_permission(grant("r", permission(kind, "k", end)), b).unwrap();
        auth.permissions_of("r").unwrap()
    };
    put(Type::Read, "l");
    put(Type::Read, "m");
    let list = put(Type::Write, "l");
    assert_eq!(list, [permission(Type::Write, "k", "l"), permission(Type::Read, "k", "m")]);
    let list = put(Type::Readwrite, "m");
    assert_eq!(list.len(), 3, "semantics 11.6");
    auth.revoke_permission(&revoke("r", "k", "m"), b).unwrap();
    assert_eq!(auth.permissions_of("r").unwrap(), [permission(Type::Write, "k", "l")]);
}

#[test]
fn a_grant_leaves_permissions_of_one_key_where_go_does() {
    // Of each four lines of the file one is a sorted list with one more behind it.
    for line in include_str!("../../golden/sorts.txt").lines().step_by(4) {
        let (letters, places) = line.split_once(' ').unwrap();
        // The end tells where each was before.
        let at = |place: usize| {
            let key = Bytes::copy_from_slice(&letters.as_bytes()[place..=place]);
            Permission { perm_type: 0, key, range_end: format!("~{place}").into() }
        };
        let (b, last) = (&mut batch(), letters.len() - 1);
        let mut auth = Auth::default();
        let key_permission = (0..last).map(at).collect();
        auth.put_role(Role { name: bytes("r"), key_permission }, b);
        auth.grant_permission(grant("r", at(last)), b).unwrap();
        let expected: Vec<Permission> =
            places.split(' ').map(|place| at(place.parse().unwrap())).collect();
        assert_eq!(auth.permissions_of("r").unwrap(), expected, "{letters}");
    }
}

#[test]
fn who_may_touch_keys() {
    let mut auth = enabled();
    let revision = auth.revision();
    let (key, point) = (Bytes::from("b"), Bytes::new());
    let write = |auth: &Auth, who: &Identity| auth.check_write(who, &key, &point);
    assert_eq!(write(&auth, &who("alice", revision)), Ok(()));
    assert_eq!(write(&auth, &who("root", revision)), Ok(()));
    assert_eq!(write(&auth, &who("alice", revision + 7)), Ok(()));
    assert_eq!(write(&auth, &who("alice", revision - 1)), Err(AuthError::OldRevision));
    assert_eq!(write(&auth, &who("root", revision - 1)), Err(AuthError::OldRevision));
    assert_eq!(write(&auth, &Identity::default()), Err(AuthError::UserEmpty));
    assert_eq!(write(&auth, &who("x", revision)), Err(AuthError::PermissionDenied));
    let alice = who("alice", revision);
    assert_eq!(auth.check_read(&alice, &key, &point), Err(AuthError::PermissionDenied));
    let all = (Bytes::from_static(b"a"), Bytes::from_static(b"\0"));
    assert_eq!(auth.check_write(&alice, &all.0, &all.1), Err(AuthError::PermissionDenied));

    let b = &mut batch();
    auth.grant_permission(grant("r", permission(Type::Readwrite, "c", "\0")), b).unwrap();
    let alice = who("alice", auth.revision());
    assert_eq!(auth.check_write(&alice, &all.0, &all.1), Ok(()), "the union counts");
    auth.delete_role("r", b).unwrap();
    let alice = who("alice", auth.revision());
    assert_eq!(write(&auth, &alice), Err(AuthError::PermissionDenied));
    auth.disable(b);
    assert_eq!(write(&auth, &Identity::default()), Ok(()));
}

#[test]
fn who_may_manage() {
    let mut auth = enabled();
    assert_eq!(auth.check_admin(&who("root", 0)), Ok(()), "at any revision");
    assert_eq!(auth.check_admin(&who("alice", 99)), Err(AuthError::PermissionDenied));
    assert_eq!(auth.check_admin(&who("x", 99)), Err(AuthError::UserNotFound));
    assert_eq!(auth.check_admin(&who("", 99)), Err(AuthError::UserEmpty));
    assert!(auth.has_role("alice", "r") && !auth.has_role("x", "r"));
    auth.disable(&mut batch());
    assert_eq!(auth.check_admin(&Identity::default()), Ok(()));
}

#[test]
fn passwords_as_they_are_stored() {
    let mut auth = enabled();
    let b = &mut batch();
    let options = Some(mainstay_proto::authpb::UserAddOptions { no_password: true });
    auth.add_user(&pb::AuthUserAddRequest { options, ..user("cert") }, b).unwrap();
    assert_eq!(auth.may_have_token("cert"), Err(AuthError::Failed));
    assert_eq!(auth.users["cert".as_bytes()].user.password, "");
    let mut change = |name: &str, hashed: &str| {
        let request = pb::AuthUserChangePasswordRequest {
            name: name.to_owned(),
            hashed_password: hashed.to_owned(),
            ..Default::default()
        };
        let result = auth.change_password(&request, b);
        result.map(|()| auth.users[name.as_bytes()].user.password.clone())
    };
    assert_eq!(change("cert", "Zm9v"), Ok(Bytes::new()), "it has none");
    assert_eq!(change("alice", "Zm9v"), Ok(Bytes::from("foo")));
    assert_eq!(change("alice", ""), Ok(Bytes::new()));
    assert_eq!(change("alice", "?"), Err(AuthError::Password));
    assert_eq!(change("x", "?"), Err(AuthError::UserNotFound));
    let odd = pb::AuthUserAddRequest { hashed_password: "?".into(), ..user("bob") };
    assert_eq!(auth.add_user(&odd, b), Err(AuthError::Password));
    assert!(!format!("{auth:?}").contains("foo"));
}

#[test]
fn role_root_is_everything() {
    let mut auth = Auth::default();
    let b = &mut batch();
    auth.add_role("root", b).unwrap();
    auth.grant_permission(grant("root", permission(Type::Read, "k", "")), b).unwrap();
    let everything = permission(Type::Readwrite, "", "\0");
    assert_eq!(auth.permissions_of("root").unwrap(), [everything]);
}

/// Everything that can be asked.
fn dump(auth: &Auth) -> String {
    let users: Vec<_> = auth.users.values().map(|account| &account.user).collect();
    let roles: Vec<_> = auth.roles.values().collect();
    format!("{auth:?} {users:?} {roles:?}")
}

#[test]
fn rows_make_the_same_state() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/snap")).unwrap();
    let path = Path::new("/snap/db");
    let open =
        || Backend::open(Arc::new(disk.clone()), path, OpenOptions::default(), &mut |_, _, _| {});
    let backend = open().unwrap();
    let mut auth = enabled();
    // All rows once more, in one batch.
    let mut rows = batch();
    for account in auth.users.clone().into_values() {
        auth.put_user(account.user.clone(), &mut rows);
    }
    for role in auth.roles.clone().into_values() {
        auth.put_role(role.as_ref().clone(), &mut rows);
    }
    rows.put(Bucket::Auth, ENABLED, &[1][..]);
    auth.write_revision(&mut rows);
    backend.append(rows);
    backend.commit().unwrap();
    let read = |bucket| backend.rows_of(bucket).unwrap();
    let loaded = Auth::load(Rows {
        auth: read(Bucket::Auth),
        users: read(Bucket::AuthUsers),
        roles: read(Bucket::AuthRoles),
    });
    let loaded = loaded.unwrap();
    assert!(loaded.stored);
    assert_eq!(dump(&loaded), dump(&auth));
}

#[test]
fn rows_that_are_none_are_named() {
    let row = |key: &str, value: &[u8]| {
        vec![(Bytes::from(key.to_owned()), Bytes::copy_from_slice(value))]
    };
    let error = |rows| Auth::load(rows).map(|auth| dump(&auth)).unwrap_err().to_string();
    let text = error(Rows { auth: row("authRevision", b"1"), ..Rows::default() });
    assert!(text.contains("authRevision") && text.contains("8"), "{text}");
    let text = error(Rows { users: row("alice", b"\x12\xffsecret"), ..Rows::default() });
    assert!(text.contains("alice") && !text.contains("secret"), "{text}");
    let text = error(Rows { roles: row("r", b"\x12\xff"), ..Rows::default() });
    assert!(text.contains("authRoles"), "{text}");
    // Any other value than 1 is off.
    for value in [&b"\x00"[..], b"\x02", b"", b"\x01\x01"] {
        let rows = Rows { auth: row("authEnabled", value), ..Rows::default() };
        assert!(!Auth::load(rows).unwrap().is_enabled());
    }
}
