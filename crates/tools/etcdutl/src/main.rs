//! `etcdutl`: what etcd leaves on the disk, read and mended without a server. Called
//! by the name `etcd-dump-logs` or `etcd-dump-db` it is that tool.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use mainstay_env_os::OsDisk;
use mainstay_etcdutl::Run;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let called = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut log = std::io::stderr();
    let mut run = Run::new(Arc::new(OsDisk::new()), &mut out, &mut log);
    let result = mainstay_etcdutl::run(&called, &args, &mut run);
    // A reader that went away is no failure of what was done.
    let _ = out.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("Error: {}", failure.message);
            }
            eprint!("{}", failure.usage);
            ExitCode::from(failure.code)
        }
    }
}
