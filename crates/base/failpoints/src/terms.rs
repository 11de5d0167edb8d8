//! The little language of terms.

use std::time::Duration;

/// What a point does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Off,
    Panic,
    Sleep(Duration),
    Return(String),
}

/// When it does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// So many times more.
    Times(u64),
    /// In so many cases of 100,000.
    Chance(u32),
}

/// One term of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    when: When,
    action: Action,
}

/// A chain of terms: the first that wants to act does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    terms: Vec<Term>,
}

/// Cases are counted in parts of 100,000: `P%` may have three places behind the point.
const WHOLE: u32 = 100_000;

impl Chain {
    /// Reads terms; `None` when they are none.
    pub(crate) fn parse(text: &str) -> Option<Chain> {
        let terms: Option<Vec<Term>> =
            text.split("->").map(|term| Term::parse(term.trim())).collect();
        Some(Chain { terms: terms? })
    }

    /// What to do now. `dice` is any number.
    pub(crate) fn next(&mut self, dice: u64) -> Option<Action> {
        for term in &mut self.terms {
            let wants = match &mut term.when {
                When::Always => true,
                When::Times(0) => false,
                When::Times(left) => {
                    *left -= 1;
                    true
                }
                When::Chance(cases) => (dice % u64::from(WHOLE)) < u64::from(*cases),
            };
            if wants {
                return Some(term.action.clone());
            }
        }
        None
    }
}

impl Term {
    fn parse(text: &str) -> Option<Term> {
        // A `*` or `%` may stand in a value as well.
        let head = text.split(['(', '"']).next().unwrap_or("");
        let (when, action) = if let Some(at) = head.find('*') {
            (When::Times(head[..at].parse().ok()?), &text[at + 1..])
        } else if let Some(at) = head.find('%') {
            let percent: f64 = head[..at].parse().ok()?;
            let valid = (0.0..=100.0).contains(&percent);
            (
                When::Chance(valid.then_some((percent * f64::from(WHOLE) / 100.0) as u32)?),
                &text[at + 1..],
            )
        } else {
            (When::Always, text)
        };
        Some(Term { when, action: Action::parse(action)? })
    }
}

impl Action {
    fn parse(text: &str) -> Option<Action> {
        let (name, value) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')')?)),
            None => (text, None),
        };
        let quoted = |value: &str| Some(value.strip_prefix('"')?.strip_suffix('"')?.to_owned());
        match (name, value) {
            ("off", None) => Some(Action::Off),
            ("panic", None | Some(_)) => Some(Action::Panic),
            ("return", None | Some("")) => Some(Action::Return(String::new())),
            ("return", Some(value)) => {
                Some(Action::Return(quoted(value).unwrap_or_else(|| value.to_owned())))
            }
            ("sleep", Some(value)) => Some(Action::Sleep(match quoted(value) {
                Some(text) => go_duration(&text)?,
                None => Duration::from_millis(value.parse().ok()?),
            })),
            _ => None,
        }
    }
}

/// Go's notation of a time: `1s`, `1.5h`, `2m30s`, `100ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let seconds = match &after[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &after[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(text: &str, times: usize) -> Vec<Option<Action>> {
        let mut chain = Chain::parse(text).unwrap();
        (0..times).map(|_| chain.next(99_999)).collect()
    }

    #[test]
    fn chains_do_one_thing_after_another() {
        let (sleep, panic) = (Some(Action::Sleep(Duration::from_millis(5))), Some(Action::Panic));
        let off = Some(Action::Off);
        assert_eq!(actions("2*sleep(5)->panic", 3), [sleep.clone(), sleep.clone(), panic]);
        assert_eq!(actions("1*off->1*sleep(5)", 3), [off, sleep, None]);
        assert_eq!(actions("1%panic->off", 1), [Some(Action::Off)]);
        assert_eq!(actions("100%panic", 1), [Some(Action::Panic)]);
        assert_eq!(Chain::parse("50%panic").unwrap().next(49_999), Some(Action::Panic));
        let text = Some(Action::Return("a*b%c".into()));
        assert_eq!(actions("return(\"a*b%c\")", 1), [text]);
        assert_eq!(actions("return(7)", 1), [Some(Action::Return("7".into()))]);
    }

    #[test]
    fn times_as_go_writes_them() {
        let shown =
            [("1s", 1_000), ("100ms", 100), ("1.5s", 1_500), ("2m30s", 150_000), ("1h", 3_600_000)];
        for (text, millis) in shown {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "s", "1x", "1.2.3s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_term_is_refused() {
        for text in ["", "boom", "x*panic", "101%panic", "sleep", "sleep(x)", "panic->", "sleep(1"]
        {
            assert_eq!(Chain::parse(text), None, "{text}");
        }
    }
}
