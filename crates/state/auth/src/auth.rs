//! All of authentication that is replicated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mainstay_backend::{Batch, Bucket};
use mainstay_proto::authpb::permission::Type;
use mainstay_proto::authpb::{Permission, Role, User};
use mainstay_proto::{Message as _, etcdserverpb as pb};

use crate::row::{ENABLED, REVISION, Rows, read_flags, read_role, read_user};
use crate::{AuthError, Identity, Intervals, RowError, gosort, password};

/// The name of the user and of the role that may do everything.
const ROOT: &str = "root";
/// The revision of a store that no change has touched (semantics 11.1).
const FIRST_REVISION: u64 = 1;

/// Users, roles, the auth revision, and whether authentication is on. Cloning costs one
/// pointer per user and role, so that an unchanging copy can be handed to readers.
#[derive(Clone)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    /// Whether row `authRevision` exists; etcd writes it at its first start.
    stored: bool,
    users: BTreeMap<Bytes, Arc<Account>>,
    roles: BTreeMap<Bytes, Arc<Role>>,
}

/// Never the rows: they hold password hashes.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("enabled", &self.enabled)
            .field("revision", &self.revision)
            .field("users", &self.users.len())
            .field("roles", &self.roles.len())
            .finish()
    }
}

impl Default for Auth {
    fn default() -> Auth {
        let (users, roles) = (BTreeMap::new(), BTreeMap::new());
        Auth { enabled: false, revision: FIRST_REVISION, stored: false, users, roles }
    }
}

/// A user, and what all of its roles together allow, worked out when first asked. An
/// account is replaced whenever one of its roles changes.
struct Account {
    user: User,
    access: OnceLock<Access>,
}

impl Account {
    fn new(user: User) -> Arc<Account> {
        Arc::new(Account { user, access: OnceLock::new() })
    }

    fn has_role(&self, role: &str) -> bool {
        self.user.roles.iter().any(|has| has == role)
    }

    /// Roles are sorted, and etcd relies on it here.
    fn is_root(&self) -> bool {
        search(&self.user.roles, |role| role.as_str() >= ROOT).is_some_and(|role| role == ROOT)
    }
}

/// What may be read and what may be written.
#[derive(Default)]
struct Access {
    read: Intervals,
    write: Intervals,
}

impl Access {
    fn of(user: &User, roles: &BTreeMap<Bytes, Arc<Role>>) -> Access {
        let mut access = Access::default();
        let granted = user.roles.iter().filter_map(|name| roles.get(name.as_bytes()));
        for permission in granted.flat_map(|role| &role.key_permission) {
            let Permission { perm_type, key, range_end } = permission;
            // A type that etcd does not know permits nothing.
            let kind = Type::try_from(*perm_type).ok();
            if matches!(kind, Some(Type::Read | Type::Readwrite)) {
                access.read.insert(key, range_end);
            }
            if matches!(kind, Some(Type::Write | Type::Readwrite)) {
                access.write.insert(key, range_end);
            }
        }
        access
    }
}

/// Go's binary search: the first element of a sorted list from which on `holds`.
fn search<T>(list: &[T], holds: impl Fn(&T) -> bool) -> Option<&T> {
    list.get(search_index(list, holds))
}

fn search_index<T>(list: &[T], holds: impl Fn(&T) -> bool) -> usize {
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = low.midpoint(high);
        if holds(&list[middle]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Questions.
impl Auth {
    /// Builds the state from its rows.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn load(rows: Rows) -> Result<Auth, RowError> {
        let (enabled, revision) = read_flags(&rows.auth)?;
        let mut auth = Auth { enabled, ..Auth::default() };
        if revision != 0 {
            auth.revision = revision;
            auth.stored = true;
        }
        for (key, value) in rows.users {
            let user = read_user(&key, value)?;
            auth.users.insert(Bytes::copy_from_slice(&key), Account::new(user));
        }
        for (key, value) in rows.roles {
            let role = read_role(&key, value)?;
            auth.roles.insert(Bytes::copy_from_slice(&key), Arc::new(role));
        }
        Ok(auth)
    }

    /// Whether requests need a user.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The auth revision: it grows with every change of users, roles and permissions.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The names of all users, in order.
    pub fn users(&self) -> Vec<String> {
        self.users.values().map(|account| text(&account.user.name)).collect()
    }

    /// The names of all roles, in order.
    pub fn roles(&self) -> Vec<String> {
        self.roles.values().map(|role| text(&role.name)).collect()
    }

    /// The roles of a user.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn roles_of(&self, user: &str) -> Result<&[String], AuthError> {
        Ok(&self.account(user)?.user.roles)
    }

    /// The permissions of a role; those of role `root` are everything, whatever was
    /// granted to it.
    ///
    /// # Errors
    /// When there is no such role.
    pub fn permissions_of(&self, role: &str) -> Result<Vec<Permission>, AuthError> {
        let role = self.role(role)?;
        if *role.name == *ROOT.as_bytes() {
            let (perm_type, range_end) = (Type::Readwrite as i32, Bytes::from_static(&[0]));
            return Ok(vec![Permission { perm_type, key: Bytes::new(), range_end }]);
        }
        Ok(role.key_permission.clone())
    }

    /// Whether a user has a role; nobody has none.
    pub fn has_role(&self, user: &str, role: &str) -> bool {
        self.account(user).is_ok_and(|account| account.has_role(role))
    }

    /// What a user's password is compared with. A secret: it is neither logged nor kept
    /// longer than a comparison, or a session, takes.
    pub fn password_of(&self, user: &str) -> Password {
        match self.account(user) {
            Err(_) => Password::NoUser,
            Ok(account) if no_password(&account.user) => Password::NonePossible,
            Ok(account) => Password::Hash(account.user.password.clone()),
        }
    }

    /// Whether a token may be made for a user whose password was right when it was
    /// checked.
    ///
    /// # Errors
    /// When authentication is off, or the user is gone or has no password.
    pub fn may_have_token(&self, user: &str) -> Result<(), AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        let account = self.account(user).map_err(|_| AuthError::Failed)?;
        if no_password(&account.user) { Err(AuthError::Failed) } else { Ok(()) }
    }

    /// Whether somebody may manage the cluster. Does not look at the auth revision.
    ///
    /// # Errors
    /// When it is nobody, a user who does not exist, or one without role `root`.
    pub fn check_admin(&self, who: &Identity) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if who.user.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        let is_root = self.account(&who.user)?.is_root();
        if is_root { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Whether somebody may read a key, or with a `range_end` a range.
    ///
    /// # Errors
    /// When it is nobody, one who was recognized before the last change of users and
    /// roles, or one to whom not all of the range is granted.
    pub fn check_read(
        &self,
        who: &Identity,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), AuthError> {
        self.check_keys(who, |access| access.read.covers(key, range_end))
    }

    /// Whether somebody may put or delete a key, or delete a range.
    ///
    /// # Errors
    /// As [`Auth::check_read`].
    pub fn check_write(
        &self,
        who: &Identity,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), AuthError> {
        self.check_keys(who, |access| access.write.covers(key, range_end))
    }

    fn check_keys(
        &self,
        who: &Identity,
        covers: impl FnOnce(&Access) -> bool,
    ) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if who.revision == 0 {
            return Err(AuthError::UserEmpty);
        }
        if who.revision < self.revision {
            return Err(AuthError::OldRevision);
        }
        let account = self.account(&who.user).map_err(|_| AuthError::PermissionDenied)?;
        if account.is_root() {
            return Ok(());
        }
        let access = account.access.get_or_init(|| Access::of(&account.user, &self.roles));
        if covers(access) { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    fn account(&self, user: &str) -> Result<&Arc<Account>, AuthError> {
        self.users.get(user.as_bytes()).ok_or(AuthError::UserNotFound)
    }

    fn role(&self, role: &str) -> Result<&Arc<Role>, AuthError> {
        self.roles.get(role.as_bytes()).ok_or(AuthError::RoleNotFound)
    }
}

/// Changes. Each writes its rows into the batch of the entry that asks for it; one that
/// fails changes nothing.
impl Auth {
    /// Whether the auth revision has a row. See [`Auth::store_first_revision`].
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// Writes what etcd writes at its first start, before any entry; to be called with
    /// the batch of any entry.
    pub fn store_first_revision(&mut self, batch: &mut Batch) {
        if !self.stored {
            self.stored = true;
            self.write_revision(batch);
        }
    }

    /// Turns authentication on and says whether it was off.
    ///
    /// # Errors
    /// Without a user `root` that has role `root`.
    pub fn enable(&mut self, batch: &mut Batch) -> Result<bool, AuthError> {
        if self.enabled {
            return Ok(false);
        }
        let root = self.account(ROOT).map_err(|_| AuthError::RootUserNotExist)?;
        if !root.is_root() {
            return Err(AuthError::RootRoleNotExist);
        }
        self.enabled = true;
        batch.put(Bucket::Auth, ENABLED, &[1][..]);
        Ok(true)
    }

    /// Turns authentication off and says whether it was on.
    pub fn disable(&mut self, batch: &mut Batch) -> bool {
        if !self.enabled {
            return false;
        }
        self.enabled = false;
        batch.put(Bucket::Auth, ENABLED, &[0][..]);
        self.next_revision(batch);
        true
    }

    /// Adds a user.
    ///
    /// # Errors
    /// Without a name, when there is such a user, or with a password that is none.
    pub fn add_user(
        &mut self,
        request: &pb::AuthUserAddRequest,
        batch: &mut Batch,
    ) -> Result<(), AuthError> {
        let pb::AuthUserAddRequest { name, password, options, hashed_password } = request;
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.contains_key(name.as_bytes()) {
            return Err(AuthError::UserExists);
        }
        let options = options.unwrap_or_default();
        let mut user = User { name: bytes(name), options: Some(options), ..User::default() };
        if !options.no_password {
            let row = password::stored(password, hashed_password, batch.applied(), name)?;
            user.password = row.into();
        }
        self.put_user(user, batch);
        self.next_revision(batch);
        Ok(())
    }

    /// Deletes a user. Its tokens are void then.
    ///
    /// # Errors
    /// When there is no such user, or when it is `root` and authentication is on.
    pub fn delete_user(&mut self, name: &str, batch: &mut Batch) -> Result<(), AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        self.account(name)?;
        self.users.remove(name.as_bytes());
        batch.delete(Bucket::AuthUsers, bytes(name));
        self.next_revision(batch);
        Ok(())
    }

    /// Changes a user's password, which for one without password changes only the
    /// revision. Its tokens are void then.
    ///
    /// # Errors
    /// When there is no such user, or the password is none.
    pub fn change_password(
        &mut self,
        request: &pb::AuthUserChangePasswordRequest,
        batch: &mut Batch,
    ) -> Result<(), AuthError> {
        let pb::AuthUserChangePasswordRequest { name, password, hashed_password } = request;
        let mut user = self.account(name)?.user.clone();
        user.password = if no_password(&user) {
            Bytes::new()
        } else {
            password::stored(password, hashed_password, batch.applied(), name)?.into()
        };
        user.name = bytes(name);
        self.put_user(user, batch);
        self.next_revision(batch);
        Ok(())
    }

    /// Gives a user a role; one that it has changes nothing.
    ///
    /// # Errors
    /// When there is no such user, or no such role; role `root` needs no object.
    pub fn grant_role(
        &mut self,
        name: &str,
        role: &str,
        batch: &mut Batch,
    ) -> Result<(), AuthError> {
        let account = self.account(name)?;
        if role != ROOT {
            self.role(role)?;
        }
        let roles = &account.user.roles;
        if search(roles, |has| has.as_str() >= role).is_some_and(|has| has == role) {
            return Ok(());
        }
        let mut user = account.user.clone();
        user.roles.push(role.to_owned());
        user.roles.sort_unstable();
        self.put_user(user, batch);
        self.next_revision(batch);
        Ok(())
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// When there is no such user, it does not have the role, or both are `root` and
    /// authentication is on.
    pub fn revoke_role(
        &mut self,
        name: &str,
        role: &str,
        batch: &mut Batch,
    ) -> Result<(), AuthError> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        let user = without_role(&self.account(name)?.user, role);
        self.put_user(user.ok_or(AuthError::RoleNotGranted)?, batch);
        self.next_revision(batch);
        Ok(())
    }

    /// Adds a role that permits nothing.
    ///
    /// # Errors
    /// Without a name, or when there is such a role.
    pub fn add_role(&mut self, name: &str, batch: &mut Batch) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.contains_key(name.as_bytes()) {
            return Err(AuthError::RoleExists);
        }
        self.put_role(Role { name: bytes(name), ..Role::default() }, batch);
        self.next_revision(batch);
        Ok(())
    }

    /// Deletes a role and takes it from all users.
    ///
    /// # Errors
    /// When there is no such role, or when it is `root` and authentication is on.
    pub fn delete_role(&mut self, name: &str, batch: &mut Batch) -> Result<(), AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        self.role(name)?;
        self.roles.remove(name.as_bytes());
        batch.delete(Bucket::AuthRoles, bytes(name));
        let accounts = self.users.values();
        let users: Vec<User> =
            accounts.filter_map(|account| without_role(&account.user, name)).collect();
        users.into_iter().for_each(|user| self.put_user(user, batch));
        self.next_revision(batch);
        Ok(())
    }

    /// Grants a permission to a role. Of permissions with the same key only the first
    /// is looked at: when its end is the same too it gets the new type, else the grant
    /// is one more permission (semantics 11.6).
    ///
    /// # Errors
    /// Without a permission or with one on no range, or when there is no such role.
    pub fn grant_permission(
        &mut self,
        request: pb::AuthRoleGrantPermissionRequest,
        batch: &mut Batch,
    ) -> Result<(), AuthError> {
        let given = request.perm.ok_or(AuthError::PermissionNotGiven)?;
        if !is_valid(&given) {
            return Err(AuthError::InvalidManagement);
        }
        let mut role = self.role(&request.name)?.as_ref().clone();
        let permissions = &mut role.key_permission;
        let at = search_index(permissions, |has| has.key >= given.key);
        match permissions.get_mut(at) {
            Some(has) if has.key == given.key && has.range_end == given.range_end => {
                has.perm_type = given.perm_type;
            }
            _ => {
                // Copied, so that it does not keep the entry alive that it came in.
                let key = Bytes::copy_from_slice(&given.key);
                let range_end = Bytes::copy_from_slice(&given.range_end);
                permissions.push(Permission { perm_type: given.perm_type, key, range_end });
                gosort::sort(permissions, |a, b| a.key < b.key);
            }
        }
        self.put_role(role, batch);
        self.next_revision(batch);
        Ok(())
    }

    /// Takes all permissions on exactly this range from a role.
    ///
    /// # Errors
    /// When there is no such role, or it has no such permission.
    pub fn revoke_permission(
        &mut self,
        request: &pb::AuthRoleRevokePermissionRequest,
        batch: &mut Batch,
    ) -> Result<(), AuthError> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request;
        let mut role = self.role(role)?.as_ref().clone();
        let before = role.key_permission.len();
        role.key_permission.retain(|has| has.key != *key || has.range_end != *range_end);
        if role.key_permission.len() == before {
            return Err(AuthError::PermissionNotGranted);
        }
        self.put_role(role, batch);
        self.next_revision(batch);
        Ok(())
    }

    fn put_user(&mut self, user: User, batch: &mut Batch) {
        batch.put(Bucket::AuthUsers, user.name.clone(), user.encode_to_vec());
        self.users.insert(user.name.clone(), Account::new(user));
    }

    fn put_role(&mut self, role: Role, batch: &mut Batch) {
        batch.put(Bucket::AuthRoles, role.name.clone(), role.encode_to_vec());
        let name = text(&role.name);
        self.roles.insert(role.name.clone(), Arc::new(role));
        for account in self.users.values_mut().filter(|account| account.has_role(&name)) {
            *account = Account::new(account.user.clone());
        }
    }

    fn next_revision(&mut self, batch: &mut Batch) {
        self.revision = self.revision.wrapping_add(1);
        self.stored = true;
        self.write_revision(batch);
    }

    fn write_revision(&self, batch: &mut Batch) {
        batch.put(Bucket::Auth, REVISION, self.revision.to_be_bytes().to_vec());
    }
}

/// The user without a role; `None` when it does not have it.
fn without_role(user: &User, role: &str) -> Option<User> {
    let mut user = user.clone();
    let before = user.roles.len();
    user.roles.retain(|has| has != role);
    (user.roles.len() < before).then_some(user)
}

/// What stands where a user's password would.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// There is no such user.
    NoUser,
    /// The user was made without a password: none is right.
    NonePossible,
    /// bcrypt's text of its hash; an empty one is that of no password.
    Hash(Bytes),
}

/// Never the hash.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Password::NoUser => "NoUser",
            Password::NonePossible => "NonePossible",
            Password::Hash(_) => "Hash(..)",
        })
    }
}

/// Whether the user was made without password; rows from before 3.4 do not say.
fn no_password(user: &User) -> bool {
    user.options.is_some_and(|options| options.no_password)
}

/// Whether a permission is on a key, a range that holds keys, or all from a key on.
fn is_valid(permission: &Permission) -> bool {
    let Permission { key, range_end, .. } = permission;
    !key.is_empty() && (range_end.is_empty() || **range_end == [0] || key < range_end)
}

fn bytes(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// Names in rows are bytes, in answers text; requests can only name text.
fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests;
