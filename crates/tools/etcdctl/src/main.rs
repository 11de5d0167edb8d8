//! `etcdctl`: talk to etcd from the command line, as etcd's own does.

mod auth;
mod cluster;
mod exit;
mod flags;
mod kv;
mod leader;
mod lease;
mod member;
mod messages;
mod password;
mod session;
mod show;
mod snapshot;
mod txn;
mod urls;
mod watch;

use std::process::ExitCode;

use exit::Failure;
use flags::ETCDCTL;
use mainstay_print::args::Line;
use mainstay_proto::etcdserverpb::downgrade_request::DowngradeAction;
use mainstay_types::SPOKEN_VERSION;
use session::Session;
use show::say;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
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

fn run(args: &[String]) -> Result<(), Failure> {
    let line = Line::read(ETCDCTL, args)?;
    if line.help || ETCDCTL.is_group(line.command) {
        say(ETCDCTL.help(Some(line.command).filter(|c| c.name != "help")).trim_end());
        return Ok(());
    }
    match line.command.name {
        "help" => {
            say(ETCDCTL.help_for(&line.args).trim_end());
            return Ok(());
        }
        "options" => {
            say(ETCDCTL.options().trim_end());
            return Ok(());
        }
        "version" => {
            say(&format!("etcdctl version: {SPOKEN_VERSION}"));
            say(&format!("API version: {}.{}", SPOKEN_VERSION.major, SPOKEN_VERSION.minor));
            return Ok(());
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::error(e.to_string()))?;
    let result = runtime.block_on(dispatch(line));
    // A thread that waits for standard input must not hold the end up.
    runtime.shutdown_background();
    result
}

async fn dispatch(line: Line) -> Result<(), Failure> {
    let session = Session::new(line)?;
    match session.line.command.name {
        "get" => kv::get(&session).await,
        "put" => kv::put(&session).await,
        "del" => kv::del(&session).await,
        "compaction" => kv::compaction(&session).await,
        "txn" => txn::run(&session).await,
        "watch" => watch::run(&session).await,
        "lease grant" => lease::grant(&session).await,
        "lease revoke" => lease::revoke(&session).await,
        "lease timetolive" => lease::time_to_live(&session).await,
        "lease list" => lease::list(&session).await,
        "lease keep-alive" => lease::keep_alive(&session).await,
        "member add" => member::add(&session).await,
        "member remove" => member::remove(&session).await,
        "member update" => member::update(&session).await,
        "member promote" => member::promote(&session).await,
        "move-leader" => leader::move_leader(&session).await,
        "downgrade validate" => leader::downgrade(&session, DowngradeAction::Validate).await,
        "downgrade enable" => leader::downgrade(&session, DowngradeAction::Enable).await,
        "downgrade cancel" => leader::downgrade(&session, DowngradeAction::Cancel).await,
        "upgrade status" => leader::upgrade_status(&session).await,
        "upgrade finalize" => leader::upgrade_finalize(&session).await,
        "member list" => cluster::member_list(&session).await,
        "endpoint health" => cluster::health(&session).await,
        "endpoint status" => cluster::status(&session).await,
        "endpoint hashkv" => cluster::hash_kv(&session).await,
        "alarm list" => cluster::alarm_list(&session).await,
        "alarm disarm" => cluster::alarm_disarm(&session).await,
        "auth enable" => auth::enable(&session).await,
        "auth disable" => auth::disable(&session).await,
        "auth status" => auth::status(&session).await,
        "user add" => auth::user_add(&session).await,
        "user delete" => auth::user_delete(&session).await,
        "user get" => auth::user_get(&session).await,
        "user list" => auth::user_list(&session).await,
        "user passwd" => auth::user_passwd(&session).await,
        "user grant-role" => auth::user_grant_role(&session).await,
        "user revoke-role" => auth::user_revoke_role(&session).await,
        "role add" => auth::role_add(&session).await,
        "role delete" => auth::role_delete(&session).await,
        "role get" => auth::role_get(&session).await,
        "role list" => auth::role_list(&session).await,
        "role grant-permission" => auth::role_grant(&session).await,
        "role revoke-permission" => auth::role_revoke(&session).await,
        "defrag" => cluster::defrag(&session).await,
        "snapshot save" => snapshot::save(&session).await,
        "snapshot status" => snapshot::status(&session.line),
        "snapshot restore" => snapshot::restore(&session.line),
        other => Err(Failure::error(format!("{other} is not a command that runs"))),
    }
}
