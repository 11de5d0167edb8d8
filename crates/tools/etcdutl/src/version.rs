//! `version`.

use mainstay_types::SPOKEN_VERSION;

use crate::Run;

/// Prints the versions of program and API.
pub(crate) fn show(run: &mut Run<'_>) {
    run.say(&format!("etcdutl version: {SPOKEN_VERSION}"));
    run.say(&format!("API version: {}.{}", SPOKEN_VERSION.major, SPOKEN_VERSION.minor));
}
