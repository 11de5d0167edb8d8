//! The alarms raised in the cluster.

use std::collections::BTreeSet;

use bytes::Bytes;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb::{AlarmMember, AlarmType};

/// Alarms by kind, then member. The kind is kept as the number on the wire:
/// etcd stores unknown ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Takes one row of bucket `alarm` into account; its key is the message.
    pub(crate) fn load(&mut self, key: Bytes) -> Result<(), mainstay_proto::prost::DecodeError> {
        let alarm = AlarmMember::decode(key)?;
        self.raised.insert((alarm.alarm, alarm.member_id));
        Ok(())
    }

    /// Raises an alarm and says whether it is new.
    pub(crate) fn raise(&mut self, alarm: AlarmMember) -> bool {
        self.raised.insert((alarm.alarm, alarm.member_id))
    }

    /// Takes an alarm back and says whether it was raised.
    pub(crate) fn clear(&mut self, alarm: AlarmMember) -> bool {
        self.raised.remove(&(alarm.alarm, alarm.member_id))
    }

    /// Whether any member has this alarm.
    pub fn has(&self, kind: AlarmType) -> bool {
        let kind = kind as i32;
        self.raised.range((kind, 0)..=(kind, u64::MAX)).next().is_some()
    }

    /// The alarms of one kind, or all for `NONE`, as the Alarm call lists them.
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        self.raised
            .iter()
            .filter(|(raised, _)| kind == AlarmType::None as i32 || *raised == kind)
            .map(|(alarm, member_id)| AlarmMember { member_id: *member_id, alarm: *alarm })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_listed_by_kind() {
        let mut alarms = Alarms::default();
        let nospace = AlarmMember { member_id: 7, alarm: AlarmType::Nospace as i32 };
        let corrupt = AlarmMember { member_id: 0, alarm: AlarmType::Corrupt as i32 };
        assert!(alarms.raise(nospace) && !alarms.raise(nospace) && alarms.raise(corrupt));
        assert!(alarms.has(AlarmType::Nospace) && alarms.has(AlarmType::Corrupt));
        assert_eq!(alarms.list(0), [nospace, corrupt]);
        assert_eq!(alarms.list(2), [corrupt]);
        assert!(alarms.clear(nospace) && !alarms.clear(nospace));
        assert!(!alarms.has(AlarmType::Nospace));
        let mut reloaded = Alarms::default();
        reloaded.load(corrupt.encode_to_vec().into()).unwrap();
        assert_eq!(reloaded, alarms);
    }
}
