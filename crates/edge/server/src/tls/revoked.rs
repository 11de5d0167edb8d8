//! `--peer-crl-file` and `--client-crl-file`: certificates that do not count any more.
//!
//! As in etcd a serial number in the file is revoked whoever issued it, in a leaf as in
//! whatever else of its chain is shown. Beyond etcd: the file may hold several lists as
//! PEM, one that cannot be read leaves the last that could in force, and a connection
//! that is open when its certificate is revoked is closed within a second or two.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::Stamp;
use super::expiry::{Expiry, Term, What};

/// The file, read again when it changes, and the connections that it is about.
#[derive(Debug)]
pub(super) struct Revoked {
    side: &'static str,
    path: PathBuf,
    expiry: Arc<Expiry>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The file as it was when it was last read, well or badly.
    stamp: Option<Stamp>,
    serials: BTreeSet<Vec<u8>>,
    /// Connections that were let in and are open, by a number of ours.
    open: BTreeMap<u64, Open>,
    next: u64,
}

/// An open connection: what it has shown, and how it is told to end.
#[derive(Debug)]
struct Open {
    serials: Vec<Vec<u8>>,
    cut: Arc<Cut>,
}

#[derive(Debug, Default)]
struct Cut {
    now: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Cut {
    fn end(&self) {
        self.now.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

/// A connection that was let in, until this is dropped. It ends when its certificate is
/// revoked, if it is run by [`until_revoked`].
#[derive(Debug)]
pub struct LetIn {
    number: u64,
    revoked: Arc<Revoked>,
    cut: Arc<Cut>,
}

impl Drop for LetIn {
    fn drop(&mut self) {
        self.revoked.state.lock().open.remove(&self.number);
    }
}

/// Runs a connection to its end, or until its certificate is revoked: `None` then. To be
/// called in the task that is the connection's.
pub async fn until_revoked<T>(
    let_in: Option<&LetIn>,
    connection: impl Future<Output = T>,
) -> Option<T> {
    let Some(LetIn { cut, .. }) = let_in else { return Some(connection.await) };
    let mut connection = pin!(connection);
    let mut known = false;
    poll_fn(|cx| {
        if !known {
            // Once: a connection's task has one waker. Later turns look at a flag.
            known = true;
            *cut.waker.lock() = Some(cx.waker().clone());
        }
        if cut.now.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        connection.as_mut().poll(cx).map(Some)
    })
    .await
}

impl Revoked {
    /// Reads the file, which `side` names (`client` or `peer`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn load(
        side: &'static str,
        path: &Path,
        expiry: &Arc<Expiry>,
    ) -> Result<Arc<Revoked>, String> {
        let stamp = Stamp::of(path);
        let Lists { serials, term } = Lists::read(path)?;
        let expiry = Arc::clone(expiry);
        expiry.tell(side, What::Revocations, path, term);
        let state = State { stamp, serials, open: BTreeMap::new(), next: 0 };
        Ok(Arc::new(Revoked { side, path: path.to_owned(), expiry, state: Mutex::new(state) }))
    }

    /// Reads the file again when it has changed, and ends the connections whose
    /// certificates it revokes. One that cannot be read changes nothing.
    pub(super) fn look(&self) {
        self.look_into(&mut self.state.lock());
    }

    fn look_into(&self, state: &mut State) {
        let stamp = Stamp::of(&self.path);
        if state.stamp == stamp {
            return;
        }
        state.stamp = stamp;
        let lists = match Lists::read(&self.path) {
            Ok(lists) => lists,
            Err(error) => {
                self.expiry.failed(self.side);
                tracing::warn!(
                    path = %self.path.display(),
                    error,
                    "kept the old list of revoked certificates"
                );
                return;
            }
        };
        self.expiry.tell(self.side, What::Revocations, &self.path, lists.term);
        state.serials = lists.serials;
        tracing::info!(
            path = %self.path.display(),
            revoked = state.serials.len(),
            "list of revoked certificates read again"
        );
        let serials = &state.serials;
        let is_revoked = |open: &&Open| open.serials.iter().any(|one| serials.contains(one));
        let ended = state.open.values().filter(is_revoked).map(|open| open.cut.end()).count();
        if ended > 0 {
            tracing::warn!(
                path = %self.path.display(),
                connections = ended,
                "closed connections whose certificates were revoked"
            );
        }
    }

    /// Checks what somebody has shown.
    ///
    /// # Errors
    /// One of the certificates is revoked, in Go's words.
    pub(super) fn check(&self, shown: &[&CertificateDer<'_>]) -> Result<(), String> {
        let mut state = self.state.lock();
        self.look_into(&mut state);
        refuse_revoked(&state, &serials_of(shown)?)
    }

    /// Lets in who has shown these certificates, unless one of them is revoked.
    ///
    /// # Errors
    /// As for [`Revoked::check`].
    pub(super) fn let_in(self: &Arc<Self>, shown: &[CertificateDer<'_>]) -> Result<LetIn, String> {
        let serials = serials_of(&shown.iter().collect::<Vec<_>>())?;
        let mut state = self.state.lock();
        self.look_into(&mut state);
        refuse_revoked(&state, &serials)?;
        // Under the same lock: a list that is read from now on finds this connection.
        let (number, cut) = (state.next, Arc::<Cut>::default());
        state.next += 1;
        state.open.insert(number, Open { serials, cut: Arc::clone(&cut) });
        Ok(LetIn { number, revoked: Arc::clone(self), cut })
    }
}

fn refuse_revoked(state: &State, serials: &[Vec<u8>]) -> Result<(), String> {
    let Some(serial) = serials.iter().find(|one| state.serials.contains(*one)) else {
        return Ok(());
    };
    let hex: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(format!("transport: certificate serial {hex} revoked"))
}

fn serials_of(shown: &[&CertificateDer<'_>]) -> Result<Vec<Vec<u8>>, String> {
    let serial = |cert: &&CertificateDer<'_>| {
        let (_, parsed) = X509Certificate::from_der(cert).map_err(|error| error.to_string())?;
        Ok(plain(parsed.raw_serial()).to_vec())
    };
    shown.iter().map(serial).collect()
}

/// What a file says.
struct Lists {
    serials: BTreeSet<Vec<u8>>,
    /// From the issue of the one that is due first until then, as far as one says.
    term: Option<Term>,
}

impl Lists {
    /// Reads a list in DER, or any number of them as PEM.
    fn read(path: &Path) -> Result<Lists, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let mut lists = Lists { serials: BTreeSet::new(), term: None };
        if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            lists.add(&bytes)?;
            return Ok(lists);
        }
        let mut found = false;
        for list in CertificateRevocationListDer::pem_slice_iter(&bytes) {
            lists.add(&list.map_err(|error| error.to_string())?)?;
            found = true;
        }
        if found { Ok(lists) } else { Err("no list of revoked certificates in it".to_owned()) }
    }

    fn add(&mut self, der: &[u8]) -> Result<(), String> {
        let (rest, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| format!("no list of revoked certificates: {error}"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the list of revoked certificates", rest.len()));
        }
        let revoked = list.iter_revoked_certificates();
        self.serials.extend(revoked.map(|one| plain(one.raw_serial()).to_vec()));
        if let Some(next) = list.next_update() {
            let term = Term { from: list.last_update().timestamp(), until: next.timestamp() };
            self.term = Term::first(self.term, term);
        }
        Ok(())
    }
}

/// A number without the zero that only says that it is not negative.
fn plain(mut serial: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = serial {
        serial = rest;
    }
    serial
}
