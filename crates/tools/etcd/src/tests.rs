//! What only shows in a process of its own.

use std::process::Command;

/// Set in the process that panics.
const PANICS: &str = "MAINSTAY_TEST_PANICS";

#[test]
fn a_panic_on_any_thread_ends_the_process() {
    if std::env::var_os(PANICS).is_some() {
        super::end_on_panic();
        // Without the hook the panic would stay with its thread, and this process would end well.
        let _ = std::thread::spawn(|| panic!("on purpose")).join();
        return;
    }
    let me = std::env::current_exe().expect("a running test has a path");
    let name = "tests::a_panic_on_any_thread_ends_the_process";
    let out = Command::new(me).args(["--exact", name, "--nocapture"]).env(PANICS, "1").output();
    let out = out.expect("the test runs again");
    assert_eq!(out.status.code(), Some(super::PANIC_CODE), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("on purpose"), "{out:?}");
}
