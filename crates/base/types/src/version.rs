//! etcd versions.

use std::{fmt, str::FromStr};

/// The etcd version that Mainstay speaks on every boundary.
pub const SPOKEN_VERSION: Version = Version { major: 3, minor: 7, patch: 1 };

/// An etcd version: `major.minor.patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 3 for everything we meet.
    pub major: u64,
    /// The release line.
    pub minor: u64,
    /// The fix level; 0 in cluster and storage versions.
    pub patch: u64,
}

impl Version {
    /// The version `major.minor.0`, the form of cluster and storage versions.
    pub const fn line(major: u64, minor: u64) -> Version {
        Version { major, minor, patch: 0 }
    }

    /// This version with its patch set to 0.
    pub const fn without_patch(self) -> Version {
        Version::line(self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is not `X.Y` or `X.Y.Z` in decimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of the form X.Y or X.Y.Z")]
pub struct ParseVersionError(pub String);

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Reads `X.Y` or `X.Y.Z`; a suffix after `-` (a pre-release) is dropped.
    fn from_str(text: &str) -> Result<Version, ParseVersionError> {
        let wrong = || ParseVersionError(text.to_owned());
        let plain = text.split_once('-').map_or(text, |(plain, _)| plain);
        let parts: Result<Vec<u64>, _> = plain.split('.').map(str::parse).collect();
        match parts.map_err(|_| wrong())?.as_slice() {
            [major, minor] => Ok(Version::line(*major, *minor)),
            [major, minor, patch] => Ok(Version { major: *major, minor: *minor, patch: *patch }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_etcd_writes() {
        assert_eq!("3.5.0".parse(), Ok(Version::line(3, 5)));
        assert_eq!("3.5".parse(), Ok(Version::line(3, 5)));
        assert_eq!("3.8.0-alpha.0".parse(), Ok(Version::line(3, 8)));
        assert!("3".parse::<Version>().is_err());
        assert!("three.five".parse::<Version>().is_err());
        assert!(SPOKEN_VERSION > Version::line(3, 7));
    }
}
