//! Beside whom a member may run while authentication is on.
//!
//! Before 3.5.33, 3.6.14 and 3.7.1 a member does not ask for permissions inside nested
//! transactions, and takes other requests under NOSPACE: with authentication on it does with
//! some entries what we do not, and the two are no copies of each other any more. So they do not talk:
//! nothing is sent to such a member and nothing taken from it, and whichever of the two
//! has the quorum goes on. A member of ours that cannot serve because of one says so and
//! ends.

use mainstay_apply::Auth;
use mainstay_types::{MemberId, Version};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

use crate::handle::Handle;

/// The first patches of each minor that decide as 3.7.1 does.
const FLOORS: [Version; 3] = [
    Version { major: 3, minor: 5, patch: 33 },
    Version { major: 3, minor: 6, patch: 14 },
    Version { major: 3, minor: 7, patch: 1 },
];

/// Whether a member of this version does with every entry what 3.7.1 does, also with
/// authentication on.
fn decides_alike(version: Version) -> bool {
    let floor = FLOORS.iter().find(|floor| floor.minor == version.minor);
    match floor {
        Some(floor) if version.major == 3 => version >= *floor,
        _ => version > FLOORS[2],
    }
}

impl Handle {
    /// Whether authentication is on: whoever serves clients asks them then who they are.
    pub fn auth_enabled(&self) -> bool {
        self.shared.cells.auth_enabled.load(Ordering::Acquire)
    }

    /// Users, roles, and whether authentication is on, as of the last applied entry.
    pub fn auth(&self) -> Arc<Auth> {
        self.shared.auth.load_full()
    }

    /// Changes whenever [`Handle::auth`] does; what is seen at a change is the new state.
    pub fn auth_changes(&self) -> watch::Receiver<u64> {
        self.shared.auth_changes.subscribe()
    }

    /// Whose simple token this is; it is good for its whole time again. `None` for one that
    /// is not known here, or when clients show tokens of another kind.
    pub fn user_of_token(&self, token: &str) -> Option<Arc<str>> {
        let shared = &self.shared;
        shared.tokens.as_ref()?.user_of(token, shared.clock.now())
    }

    /// Whether tokens are made by entries.
    pub fn has_simple_tokens(&self) -> bool {
        self.shared.tokens.is_some()
    }

    /// Why there must be no talking to a member of this version, if so. A member that cannot
    /// serve without it ends with that.
    pub fn shuns(&self, member: MemberId, version: Version) -> Option<String> {
        let shared = &self.shared;
        if !self.auth_enabled() {
            return None;
        }
        if shared.options.old_members_with_auth || decides_alike(version) {
            shared.shunned.lock().remove(&member);
            return None;
        }
        let membership = shared.membership.load();
        let name = membership.member(member).map(|member| member.name.as_str()).unwrap_or_default();
        let [old, middle, new] = FLOORS;
        let why = format!(
            "authentication is enabled in this cluster, and member {name} ({member}) runs etcd \
             {version}, which decides some requests otherwise than {new}: it must run at least \
             {old}, {middle} or {new}. Upgrade it first, or take the risk with \
             --unsafe-old-members-with-auth (ETCD_UNSAFE_OLD_MEMBERS_WITH_AUTH=true)"
        );
        shared.shunned.lock().insert(member, why.clone());
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_decides_as_3_7_1_does() {
        let version = |text: &str| text.parse::<Version>().expect("a version");
        for alike in ["3.5.33", "3.5.40", "3.6.14", "3.7.1", "3.7.2", "3.8.0", "4.0.0"] {
            assert!(decides_alike(version(alike)), "{alike}");
        }
        for other in ["3.4.44", "3.5.16", "3.5.32", "3.6.0", "3.6.13", "3.7.0", "2.3.8"] {
            assert!(!decides_alike(version(other)), "{other}");
        }
        assert!(decides_alike(mainstay_types::SPOKEN_VERSION), "ours");
    }
}
