//! What `etcd` says to somebody who just typed `etcd`.

use crate::Config;

/// A few plain lines, for once it serves: what is running, where its data is and whether this
/// start made it (`is_new`), how to talk to it.
pub fn greeting(config: &Config, is_new: bool) -> String {
    let client = config.advertise_client_urls.first().map_or("", |url| url.as_str());
    let endpoints = if client == "http://localhost:2379" {
        String::new()
    } else {
        format!(" --endpoints={client}")
    };
    format!(
        "etcd {spoken} (Mainstay {ours}) is running, a cluster of one member.\n\
         \n\
         \x20 data       {data} ({made})\n\
         \x20 clients    {client}\n\
         \n\
         Try it from another terminal:\n\
         \n\
         \x20 etcdctl{endpoints} put greeting hello\n\
         \x20 etcdctl{endpoints} get greeting\n\
         \n\
         Anybody on this machine may read and write. etcd --help lists the flags; any flag brings\n\
         back the log lines. Ctrl-C stops it, and the data stays.\n",
        spoken = mainstay_types::SPOKEN_VERSION,
        ours = env!("CARGO_PKG_VERSION"),
        data = config.data_dir.display(),
        made = if is_new { "just made" } else { "as it was left" },
    )
}
