//! Random changes and questions, beside lists that are searched from end to end and
//! rows that are encoded by hand.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::intervals::tests as ranges;

/// Lists up to this long are sorted by insertion, which the model does too.
const PERMISSIONS_MAX: usize = 12;

#[derive(Clone, Default)]
struct Person {
    password: Vec<u8>,
    roles: BTreeSet<String>,
    no_password: bool,
}

#[derive(Default)]
struct Model {
    enabled: bool,
    /// Changes so far.
    changes: u64,
    users: BTreeMap<String, Person>,
    roles: BTreeMap<String, Vec<Permission>>,
}

#[derive(Clone, Debug)]
enum Change {
    Enable,
    Disable,
    AddUser(String, bool),
    DeleteUser(String),
    Password(String),
    GrantRole(String, String),
    RevokeRole(String, String),
    AddRole(String),
    DeleteRole(String),
    Grant(String, Permission),
    Revoke(String, Permission),
}

fn field(number: u8, body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() < 128, "its length is one byte");
    out.extend([number << 3 | 2, body.len() as u8]);
    out.extend(body);
}

fn user_row(name: &str, person: &Person) -> Vec<u8> {
    let mut row = Vec::new();
    field(1, name.as_bytes(), &mut row);
    if !person.password.is_empty() {
        field(2, &person.password, &mut row);
    }
    person.roles.iter().for_each(|role| field(3, role.as_bytes(), &mut row));
    field(4, if person.no_password { &[8, 1] } else { &[] }, &mut row);
    row
}

fn role_row(name: &str, list: &[Permission]) -> Vec<u8> {
    let mut row = Vec::new();
    field(1, name.as_bytes(), &mut row);
    for permission in list {
        let mut body = Vec::new();
        if permission.perm_type != 0 {
            body.extend([8, permission.perm_type as u8]);
        }
        field(2, &permission.key, &mut body);
        if !permission.range_end.is_empty() {
            field(3, &permission.range_end, &mut body);
        }
        field(2, &body, &mut row);
    }
    row
}

impl Model {
    fn revision(&mut self, rows: &mut Batch) {
        self.changes += 1;
        rows.put(Bucket::Auth, REVISION, (1 + self.changes).to_be_bytes().to_vec());
    }

    fn user(&mut self, name: &str, rows: &mut Batch) {
        let row = user_row(name, &self.users[name]);
        rows.put(Bucket::AuthUsers, name.as_bytes().to_vec(), row);
    }

    fn role(&mut self, name: &str, rows: &mut Batch) {
        let row = role_row(name, &self.roles[name]);
        rows.put(Bucket::AuthRoles, name.as_bytes().to_vec(), row);
    }

    fn apply(&mut self, change: &Change, rows: &mut Batch) -> Result<(), AuthError> {
        match change {
            Change::Enable if self.enabled => return Ok(()),
            Change::Enable => {
                let root = self.users.get("root").ok_or(AuthError::RootUserNotExist)?;
                if !root.roles.contains("root") {
                    return Err(AuthError::RootRoleNotExist);
                }
                self.enabled = true;
                rows.put(Bucket::Auth, ENABLED, &[1][..]);
                return Ok(());
            }
            Change::Disable if !self.enabled => return Ok(()),
            Change::Disable => {
                self.enabled = false;
                rows.put(Bucket::Auth, ENABLED, &[0][..]);
            }
            Change::AddUser(..) | Change::DeleteUser(_) | Change::Password(_) => {
                self.apply_to_user(change, rows)?;
            }
            Change::GrantRole(user, role) => {
                let person = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if role != "root" && !self.roles.contains_key(role) {
                    return Err(AuthError::RoleNotFound);
                }
                if !person.roles.insert(role.clone()) {
                    return Ok(());
                }
                self.user(user, rows);
            }
            Change::RevokeRole(user, role) => {
                if self.enabled && user == "root" && role == "root" {
                    return Err(AuthError::InvalidManagement);
                }
                let person = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if !person.roles.remove(role) {
                    return Err(AuthError::RoleNotGranted);
                }
                self.user(user, rows);
            }
            _ => self.apply_to_role(change, rows)?,
        }
        self.revision(rows);
        Ok(())
    }

    fn apply_to_user(&mut self, change: &Change, rows: &mut Batch) -> Result<(), AuthError> {
        match change {
            Change::AddUser(name, _) if name.is_empty() => return Err(AuthError::UserEmpty),
            Change::AddUser(name, no_password) => {
                if self.users.contains_key(name) {
                    return Err(AuthError::UserExists);
                }
                let password = if *no_password { Vec::new() } else { b"hash".to_vec() };
                let person = Person { password, no_password: *no_password, ..Person::default() };
                self.users.insert(name.clone(), person);
                self.user(name, rows);
            }
            Change::DeleteUser(name) => {
                if self.enabled && name == "root" {
                    return Err(AuthError::InvalidManagement);
                }
                self.users.remove(name).ok_or(AuthError::UserNotFound)?;
                rows.delete(Bucket::AuthUsers, name.as_bytes().to_vec());
            }
            Change::Password(name) => {
                let person = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
                if !person.no_password {
                    person.password = b"new".to_vec();
                }
                self.user(name, rows);
            }
            _ => unreachable!("the caller has sorted them out"),
        }
        Ok(())
    }

    fn apply_to_role(&mut self, change: &Change, rows: &mut Batch) -> Result<(), AuthError> {
        match change {
            Change::AddRole(name) if name.is_empty() => return Err(AuthError::RoleEmpty),
            Change::AddRole(name) => {
                if self.roles.contains_key(name) {
                    return Err(AuthError::RoleExists);
                }
                self.roles.insert(name.clone(), Vec::new());
                self.role(name, rows);
            }
            Change::DeleteRole(name) => {
                if self.enabled && name == "root" {
                    return Err(AuthError::InvalidManagement);
                }
                self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
                rows.delete(Bucket::AuthRoles, name.as_bytes().to_vec());
                for user in self.users.clone().into_keys() {
                    if self.users.get_mut(&user).is_some_and(|person| person.roles.remove(name)) {
                        self.user(&user, rows);
                    }
                }
            }
            Change::Grant(name, new) => {
                let open = new.range_end.is_empty() || *new.range_end == [0][..];
                if new.key.is_empty() || !(open || new.key < new.range_end) {
                    return Err(AuthError::InvalidManagement);
                }
                let list = self.roles.get_mut(name).ok_or(AuthError::RoleNotFound)?;
                match list.iter_mut().find(|has| has.key == new.key) {
                    Some(has) if has.range_end == new.range_end => has.perm_type = new.perm_type,
                    _ => {
                        list.push(new.clone());
                        list.sort_by(|a, b| a.key.cmp(&b.key));
                    }
                }
                self.role(name, rows);
            }
            Change::Revoke(name, old) => {
                let list = self.roles.get_mut(name).ok_or(AuthError::RoleNotFound)?;
                let before = list.len();
                list.retain(|has| has.key != old.key || has.range_end != old.range_end);
                if list.len() == before {
                    return Err(AuthError::PermissionNotGranted);
                }
                self.role(name, rows);
            }
            _ => unreachable!("the caller has sorted them out"),
        }
        Ok(())
    }

    /// Whether a user may do something with a range that holds keys.
    fn allows(&self, who: &Identity, kind: Type, range: &(Bytes, Bytes)) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if who.revision == 0 {
            return Err(AuthError::UserEmpty);
        }
        if who.revision < 1 + self.changes {
            return Err(AuthError::OldRevision);
        }
        let person = self.users.get(&who.user).ok_or(AuthError::PermissionDenied)?;
        let kinds = [kind as i32, Type::Readwrite as i32];
        let granted: Vec<_> = person
            .roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten()
            .filter(|permission| kinds.contains(&permission.perm_type))
            .map(|permission| (permission.key.clone(), permission.range_end.clone()))
            .collect();
        if person.roles.contains("root") || ranges::model(&granted, range) {
            return Ok(());
        }
        Err(AuthError::PermissionDenied)
    }
}

fn perform(auth: &mut Auth, change: Change, b: &mut Batch) -> Result<(), AuthError> {
    match change {
        Change::Enable => auth.enable(b).map(drop),
        Change::Disable => {
            auth.disable(b);
            Ok(())
        }
        Change::AddUser(name, no_password) => {
            let options = Some(mainstay_proto::authpb::UserAddOptions { no_password });
            auth.add_user(&pb::AuthUserAddRequest { options, ..user(&name) }, b)
        }
        Change::DeleteUser(name) => auth.delete_user(&name, b),
        Change::Password(name) => {
            let hashed_password = "bmV3".to_owned();
            let password = String::new();
            let request = pb::AuthUserChangePasswordRequest { name, password, hashed_password };
            auth.change_password(&request, b)
        }
        Change::GrantRole(name, role) => auth.grant_role(&name, &role, b),
        Change::RevokeRole(name, role) => auth.revoke_role(&name, &role, b),
        Change::AddRole(name) => auth.add_role(&name, b),
        Change::DeleteRole(name) => auth.delete_role(&name, b),
        Change::Grant(role, permission) => auth.grant_permission(grant(&role, permission), b),
        Change::Revoke(role, Permission { key, range_end, .. }) => {
            let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
            auth.revoke_permission(&request, b)
        }
    }
}

fn user_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "root", "alice", "alice", "bob", ""]).prop_map(str::to_owned)
}

fn role_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "r", "r", "r", "s", "s", ""]).prop_map(str::to_owned)
}

fn any_permission() -> impl Strategy<Value = Permission> {
    let odd = (ranges::word(), ranges::word());
    let odd = odd.prop_map(|(a, b)| if a < b { (b, a) } else { (a, b) });
    let range = prop_oneof![9 => ranges::sound(), 1 => odd];
    (range, 0..4).prop_map(|((key, range_end), perm_type)| Permission { perm_type, key, range_end })
}

fn change() -> impl Strategy<Value = Change> {
    use Change as C;
    prop_oneof![
        2 => Just(C::Enable),
        1 => Just(C::Disable),
        4 => (user_name(), any::<bool>()).prop_map(|(name, no)| C::AddUser(name, no)),
        1 => user_name().prop_map(C::DeleteUser),
        1 => user_name().prop_map(C::Password),
        6 => (user_name(), role_name()).prop_map(|(user, role)| C::GrantRole(user, role)),
        1 => (user_name(), role_name()).prop_map(|(user, role)| C::RevokeRole(user, role)),
        3 => role_name().prop_map(C::AddRole),
        1 => role_name().prop_map(C::DeleteRole),
        8 => (role_name(), any_permission()).prop_map(|(role, new)| C::Grant(role, new)),
        3 => (role_name(), any_permission()).prop_map(|(role, old)| C::Revoke(role, old)),
    ]
}

/// A user, how far from the current revision it was recognized, and a range.
fn question() -> impl Strategy<Value = (String, u64, (Bytes, Bytes))> {
    (user_name(), prop::sample::select(vec![0, 1, 2, 2, 2, 2, 3]), ranges::sound())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_changes_give_the_models_rows_and_answers(
        steps in prop::collection::vec((change(), question()), 1..80),
        start_enabled in any::<bool>(),
    ) {
        let (mut auth, mut model) = (Auth::default(), Model::default());
        let start = [
            Change::AddUser("root".into(), false),
            Change::GrantRole("root".into(), "root".into()),
            Change::AddRole("r".into()),
            Change::AddUser("alice".into(), false),
            Change::GrantRole("alice".into(), "r".into()),
            Change::Enable,
        ];
        let start = start.into_iter().filter(|_| start_enabled);
        let start = start.map(|change| (change, ("alice".to_owned(), 2, (Bytes::from("a"), Bytes::new()))));
        for (change, (user, age, range)) in start.chain(steps) {
            let (mut got, mut expected) = (batch(), batch());
            let wanted = model.apply(&change, &mut expected);
            if model.roles.values().any(|list| list.len() > PERMISSIONS_MAX) {
                break;
            }
            let outcome = perform(&mut auth, change.clone(), &mut got);
            prop_assert_eq!(outcome, wanted, "{:?}", change);
            prop_assert_eq!(got, expected, "{:?}", change);
            prop_assert_eq!(auth.is_enabled(), model.enabled);
            // Nobody, one change behind, now, one ahead.
            let revision = if age == 0 { 0 } else { auth.revision() + age - 2 };
            let who = Identity { user, revision };
            let (key, end) = &range;
            let read = model.allows(&who, Type::Read, &range);
            prop_assert_eq!(auth.check_read(&who, key, end), read, "{:?} {:?}", who, range);
            let write = model.allows(&who, Type::Write, &range);
            prop_assert_eq!(auth.check_write(&who, key, end), write, "{:?} {:?}", who, range);
        }
        let names: Vec<String> = model.users.keys().cloned().collect();
        prop_assert_eq!(auth.users(), names);
        let names: Vec<String> = model.roles.keys().cloned().collect();
        prop_assert_eq!(auth.roles(), names);
    }
}
