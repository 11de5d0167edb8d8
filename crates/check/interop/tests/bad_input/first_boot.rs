//! A first start that is killed at any moment leaves what the next start takes up.

use std::process::Stdio;
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Start};

#[test]
fn a_first_start_killed_at_any_moment_starts_again() {
    // Spread over the first start; on a busy machine the later ones find it serving.
    for after_us in [500, 2_000, 4_000, 6_000, 8_000, 12_000, 20_000, 40_000, 80_000] {
        let folder = Folder::new("first-boot");
        let start = Start::new(Kind::Ours, &folder.path().join("m.etcd"));
        let mut command = start.command().expect("ours is never missing");
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("our own program");
        // The moment is the point here, and no condition names it.
        let moment = Instant::now() + Duration::from_micros(after_us);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        let member = start.run().expect("ours is never missing");
        eprintln!("killed after {after_us} us: starts again");
        member.kill();
    }
}
