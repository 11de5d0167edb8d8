//! The environment: `ETCD_DATA_DIR` for `--data-dir`, and so on for every flag.

use std::collections::BTreeMap;

use crate::args::Args;
use crate::old::{self, RENAMED};
use crate::settings::{Settings, Value, kind_of_old};
use crate::table::{self, Status};
use crate::{Invalid, Notice};

/// Adds to `args` what `env` says.
///
/// # Errors
///
/// When a variable cannot be read, or says what the command line says too.
pub(crate) fn apply(
    args: &mut Args,
    env: &[(String, String)],
    notices: &mut Vec<Notice>,
) -> Result<(), Invalid> {
    let mut ours: BTreeMap<&str, &str> = env
        .iter()
        .filter(|(name, value)| name.starts_with("ETCD_") && !value.is_empty())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    // The flag exists, so the variable would mean it; etcd sets it aside.
    if let Some(value) = ours.remove("ETCD_VERSION") {
        notices.push(Notice::warn(format!(
            "cannot set special environment variable ETCD_VERSION={value}"
        )));
    }
    // Read by the start itself, see server-flags 0.
    ours.remove("ETCD_UNSUPPORTED_ARCH");
    // Empty means "not used", but etcd takes its presence for a contradiction all the same.
    for name in &args.given {
        let variable = table::variable_of(name);
        if env.iter().any(|(name, _)| *name == variable) {
            return Err(Invalid(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag): {variable}"
            )));
        }
    }
    take_flags(&mut ours, &mut args.settings, notices)?;
    take_old(&mut ours, &mut args.settings, notices)?;
    for name in ours.keys() {
        notices.push(Notice::UnknownVariable {
            name: (*name).to_owned(),
            advice: old::REMOVED
                .iter()
                .find(|row| table::variable_of(row.name) == **name)
                .map(|row| row.advice),
        });
    }
    Ok(())
}

fn take_flags(
    ours: &mut BTreeMap<&str, &str>,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), Invalid> {
    for flag in table::all() {
        let variable = flag.variable();
        let Some(text) = ours.remove(variable.as_str()) else { continue };
        if flag.status != Status::Ignored {
            let value = Value::parse(flag.kind, text).map_err(|why| bad(text, &variable, &why))?;
            settings.set(flag, value);
        }
        notices.push(used(variable, text));
    }
    Ok(())
}

fn take_old(
    ours: &mut BTreeMap<&str, &str>,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), Invalid> {
    for row in RENAMED {
        let variable = table::variable_of(row.old);
        let Some(text) = ours.remove(variable.as_str()) else { continue };
        let value =
            Value::parse(kind_of_old(row), text).map_err(|why| bad(text, &variable, &why))?;
        settings.set_old(row, value);
        notices.push(used(variable, text));
    }
    Ok(())
}

/// A password is for nobody who reads the log.
fn used(name: String, text: &str) -> Notice {
    let value = if name.ends_with("PASSWORD") { "..." } else { text };
    Notice::UsedVariable { name, value: value.to_owned() }
}

fn bad(text: &str, variable: &str, why: &str) -> Invalid {
    Invalid(format!("invalid value {text:?} for {variable}: {why}"))
}
