//! The schema's version, and how it becomes another (disk.md 9; etcd, `server/storage/schema`).

use mainstay_types::{SPOKEN_VERSION, Version};

/// The oldest schema that is written, and what a restored db without a version has.
pub(crate) const OLDEST: Version = Version::line(3, 5);
/// From here on the version stands in the db.
const STORED_SINCE: Version = Version::line(3, 6);

/// Why the schema cannot become that of the target; etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not `X.Y`.
    #[error("wrong target version format, expected \"X.Y\", got {0:?}")]
    Format(String),
    /// `X` or `Y` is no number.
    #[error("failed to parse target version: {0}")]
    Number(String),
    /// Below 3.5.
    #[error("target version \"{}.{}\" not supported. Minimal \"3.5\"", .0.major, .0.minor)]
    TooOld(Version),
    /// Another major version.
    #[error("changing major storage version is not supported")]
    Major,
    /// Above what we know, or from there.
    #[error("version \"{0}\" is not supported")]
    Unknown(Version),
}

/// Reads the argument of `--target-version`.
///
/// # Errors
/// When it is not `X.Y`, or below 3.5.
pub fn target_version(text: &str) -> Result<Version, TargetError> {
    let Some((major, minor)) = text.split_once('.').filter(|(_, minor)| !minor.contains('.'))
    else {
        return Err(TargetError::Format(text.to_owned()));
    };
    let number = |text: &str| -> Result<u64, TargetError> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| text.parse::<i64>().ok()).flatten();
        number.map(i64::unsigned_abs).ok_or_else(|| TargetError::Number(format!("{text:?}")))
    };
    let version = Version::line(number(major)?, number(minor)?);
    if version < OLDEST { Err(TargetError::TooOld(version)) } else { Ok(version) }
}

/// What becomes of the row that names the schema's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionRow {
    /// It stays as it is.
    Keep,
    /// It is set.
    Set(Version),
    /// It goes: schemas below 3.6 have none.
    Remove,
}

/// From `current` to `target`, one minor at a time as etcd goes; no step changes other rows.
pub(crate) fn plan(current: Version, target: Version) -> Result<VersionRow, TargetError> {
    let (mut at, target) = (current.without_patch(), target.without_patch());
    if at.major != target.major {
        return Err(TargetError::Major);
    }
    let mut row = VersionRow::Keep;
    while at != target {
        // What a step changes is known by its upper version.
        let upper = Version::line(at.major, at.minor.max(target.minor).min(at.minor + 1));
        if upper > SPOKEN_VERSION.without_patch() {
            return Err(TargetError::Unknown(upper));
        }
        at.minor = if at.minor < target.minor { at.minor + 1 } else { at.minor - 1 };
        row = if at < STORED_SINCE { VersionRow::Remove } else { VersionRow::Set(at) };
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V35: Version = Version::line(3, 5);
    const V36: Version = Version::line(3, 6);
    const V37: Version = Version::line(3, 7);

    #[test]
    fn targets_are_read_as_etcds_migrate_reads_them() {
        assert_eq!(target_version("3.6"), Ok(V36));
        for (text, wanted) in [
            ("3", "wrong target version format, expected \"X.Y\", got \"3\""),
            ("3.6.0", "wrong target version format, expected \"X.Y\", got \"3.6.0\""),
            ("3.4", "target version \"3.4\" not supported. Minimal \"3.5\""),
            ("2.9", "target version \"2.9\" not supported. Minimal \"3.5\""),
        ] {
            assert_eq!(target_version(text).expect_err(text).to_string(), wanted);
        }
        for text in ["3.x", "3.", ".6", "3.-1", "3.99999999999999999999"] {
            assert!(matches!(target_version(text), Err(TargetError::Number(_))), "{text}");
        }
    }

    #[test]
    fn schemas_change_as_in_etcd() {
        assert_eq!(plan(V37, V37), Ok(VersionRow::Keep));
        assert_eq!(plan(V37, V36), Ok(VersionRow::Set(V36)));
        assert_eq!(plan(V37, V35), Ok(VersionRow::Remove));
        assert_eq!(plan(V35, V37), Ok(VersionRow::Set(V37)));
        assert_eq!(plan(V35, V35), Ok(VersionRow::Keep));
        let (v38, v40) = (Version::line(3, 8), Version::line(4, 0));
        assert_eq!(plan(v38, V37), Err(TargetError::Unknown(v38)));
        assert_eq!(plan(V37, v38), Err(TargetError::Unknown(v38)));
        assert_eq!(plan(V37, v40), Err(TargetError::Major));
    }
}
