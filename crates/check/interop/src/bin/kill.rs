//! `kill --times N --seed S [--real] [--keep DIR]`: kills a member N times under
//! load and holds every next life to what the former ones acknowledged.

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use mainstay_interop::{Folder, Kind, Lives, Start};

/// Acknowledgements until a kill: below this.
const COUNT_MAX: u64 = 3_000;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut times, mut seed, mut kind) = (100, 1, Kind::Ours);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().unwrap_or_default().parse::<u64>();
        match arg.as_str() {
            "--times" => times = number()?,
            "--seed" => seed = number()?,
            "--real" => kind = Kind::Real,
            other => return Err(format!("{other}: --times N, --seed S and --real").into()),
        }
    }
    let folder = Folder::new("kill-long");
    let start = Start::new(kind, &folder.path().join("m.etcd")).flag("--snapshot-count=1000");
    let mut lives = Lives::new(seed, start);
    let begun = Instant::now();
    let mut out = std::io::stdout();
    for kill in 0..times {
        let count = 1 + (kill.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed) % COUNT_MAX;
        if let Err(why) = lives.live(usize::try_from(count)?) {
            writeln!(out, "seed {seed}, kill {kill}: {why}")?;
            // Unwinding keeps the directory.
            panic!("the member does not hold what it promised");
        }
        if kill % 20 == 19 {
            writeln!(out, "{} kills, {:?}, {:?}", kill + 1, begun.elapsed(), lives.figures())?;
        }
    }
    lives.end()?;
    writeln!(out, "seed {seed}: {times} kills held, {:?}: {:?}", begun.elapsed(), lives.figures())?;
    Ok(())
}
