//! Every rule with its text, against fake names, fake members and a fake old discovery service.

mod joining;
mod old_discovery;
mod static_list;
mod with_tls;

use mainstay_driver::Founding;

use crate::Error;
use crate::fakes::{FakeNames, config, waits};
use crate::plan::Founder;

/// What the flags come to.
fn found(args: &[&str], names: FakeNames) -> Result<Founding, Error> {
    let config = config(args);
    let founder = Founder::new(&config, names, waits()).expect("no certificates to read");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(founder.run())
}

/// The text of the error that the flags come to.
fn refusal(args: &[&str], names: FakeNames) -> String {
    match found(args, names) {
        Err(error) => error.to_string(),
        Ok(founding) => panic!("{args:?}: {founding:?}"),
    }
}

/// `id name urls` of every founder.
fn founders(args: &[&str], names: FakeNames) -> Vec<String> {
    match found(args, names) {
        Ok(Founding::New { me, members }) => {
            assert!(members.iter().any(|member| member.id == me));
            members
                .iter()
                .map(|member| {
                    format!("{} {} {}", member.id, member.name, member.peer_urls.join(" "))
                })
                .collect()
        }
        other => panic!("{args:?}: {other:?}"),
    }
}
