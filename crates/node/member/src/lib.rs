//! A member's mind: raft, proposals that wait for a leader, read rounds, snapshot policy.
//!
//! [`Member`] is pure. Everything that can happen is an [`Input`], everything that
//! it wants done is an [`Effect`]. A driver feeds all that waits, then flushes:
//! however many proposals a turn brings, they share one [`Effect::Persist`] and one
//! message per follower.
//!
//! ```
//! use mainstay_member::{Effect, Input, Member, MemberConfig};
//! use mainstay_raft::{ConfState, HardState, LogStart};
//! use mainstay_types::MemberId;
//!
//! let me = MemberId(1);
//! let conf = ConfState { voters: vec![me], ..ConfState::default() };
//! let config = MemberConfig::new(me);
//! let mut member =
//!     Member::new(config, HardState::default(), conf, LogStart::default()).expect("fits");
//! let mut effects = Vec::new();
//! member.flush(&mut effects); // a lone voter campaigns at once
//! for effect in effects {
//!     if let Effect::Persist { mark, .. } = effect {
//!         member.feed(Input::Persisted(mark));
//!     }
//! }
//! assert_eq!(member.status().leader, Some(me));
//! ```

mod effect;
mod input;
mod member;
mod policy;

pub use effect::{Effect, RefuseReason};
pub use input::Input;
pub use member::Member;
pub use policy::MemberConfig;
