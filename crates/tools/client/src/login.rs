//! Who the client says it is.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// What a client logs in with.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user, whose password gets a token from the server.
    Password {
        /// The user's name.
        user: String,
        /// Its password.
        password: String,
    },
    /// A token that somebody else has made.
    Token(String),
}

/// Never the secrets.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Password { user, .. } => write!(f, "Login of {user:?}"),
            Login::Token(_) => f.write_str("Login by a token"),
        }
    }
}

/// The token that goes with every call of a client; clones share it.
#[derive(Clone, Default)]
pub struct Shown(Arc<RwLock<Option<MetadataValue<Ascii>>>>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl Shown {
    pub(crate) fn set(&self, token: &str) -> Result<(), Status> {
        let value = token.parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| Status::internal("the token is no header"))?;
        value.set_sensitive(true);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    pub(crate) fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Interceptor for Shown {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // What a call shows by itself goes before.
        if let Some(token) = &*shown
            && !request.metadata().contains_key("token")
        {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}
