//! The groups, by what they are about.

pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod people;
pub(crate) mod shapes;
pub(crate) mod tls;
pub(crate) mod weight;

/// Notes a hole when something that must not be is.
pub(crate) fn note(holes: &mut Vec<String>, is_hole: bool, what: impl FnOnce() -> String) {
    if is_hole {
        holes.push(what());
    }
}
