//! Users, roles, permissions on ranges of keys, and tokens.
//!
//! All of it is one setting of the cluster, so it is replicated and durable; every member has it parsed once.

mod ranges;
mod state;
mod tokens;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Extensions;
use store::{Cluster, ClusterError, Error, KeyRange};
use tonic::Status;
use tonic::metadata::MetadataMap;

pub(crate) use ranges::Access;
pub(crate) use state::{AuthState, Password, ROOT, User, random};
pub use tokens::TokenKind;

use crate::status::{self, of_cluster};

/// The setting.
const SETTING: &str = "auth";
/// Metadata with a client's token.
const TOKEN: &str = "token";
/// Times that a change is tried when another member changes something at the same time.
const ATTEMPTS: usize = 16;

/// The common name of a connection's verified client certificate; hung on requests by whoever serves the connection.
#[derive(Debug, Clone)]
pub(crate) struct PeerName(pub(crate) Arc<str>);

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Authentication is off.
    Free,
    /// Authentication is on; none said who it is.
    Unknown,
    /// A user.
    User(String),
}

impl Caller {
    /// Whether nothing needs to be checked.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }
}

/// See the module.
pub(crate) struct Auth {
    cluster: Arc<dyn Cluster>,
    tokens: TokenKind,
    /// The setting's version and content.
    parsed: ArcSwap<(u64, Arc<AuthState>)>,
}

impl Auth {
    pub(crate) fn new(cluster: Arc<dyn Cluster>, tokens: TokenKind) -> Self {
        Self { cluster, tokens, parsed: ArcSwap::from_pointee((0, Arc::default())) }
    }

    /// What holds now.
    pub(crate) fn state(&self) -> Result<Arc<AuthState>, Status> {
        Ok(self.versioned()?.1)
    }

    fn versioned(&self) -> Result<(u64, Arc<AuthState>), Status> {
        let setting = self.cluster.setting(SETTING);
        let parsed = self.parsed.load();
        if parsed.0 == setting.version {
            return Ok((parsed.0, parsed.1.clone()));
        }
        let state = AuthState::decode(&setting.value)
            .ok_or_else(|| Status::data_loss("etcdserver: the users and roles cannot be read"))?;
        let fresh = (setting.version, Arc::new(state));
        self.parsed.store(Arc::new(fresh.clone()));
        Ok(fresh)
    }

    /// Changes users and roles by `change`, which may be called again if somebody else changed them meanwhile.
    pub(crate) async fn change(
        &self,
        change: impl Fn(&mut AuthState) -> Result<(), Status>,
    ) -> Result<(), Status> {
        for _ in 0..ATTEMPTS {
            let (version, state) = self.versioned()?;
            let mut next = AuthState::clone(&state);
            change(&mut next)?;
            if next == *state {
                return Ok(());
            }
            match self.cluster.set_setting(SETTING, version, next.encode()).await {
                Ok(_) => return Ok(()),
                Err(ClusterError::Store(Error::SettingChanged)) => {}
                Err(error) => return Err(of_cluster(&error)),
            }
        }
        Err(of_cluster(&ClusterError::Store(Error::Overloaded)))
    }

    /// Who sent a request: the user of its token, else that of the connection's certificate.
    pub(crate) fn caller(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Caller, Status> {
        let state = self.state()?;
        if !state.enabled {
            return Ok(Caller::Free);
        }
        if let Some(token) =
            metadata.get(TOKEN).and_then(|token| token.to_str().ok()).filter(|t| !t.is_empty())
        {
            return self.tokens.user(token, &state).map(Caller::User);
        }
        Ok(match extensions.get::<PeerName>() {
            Some(PeerName(name)) => Caller::User(name.to_string()),
            None => Caller::Unknown,
        })
    }

    /// A token for a user who knows the password. Slow on purpose; the caller sees to it that others need not wait.
    pub(crate) fn authenticate(&self, name: &str, password: &str) -> Result<String, Status> {
        let state = self.state()?;
        if !state.enabled {
            return Err(status::AUTH_NOT_ENABLED.into());
        }
        let user = state.users.get(name).filter(|user| !user.no_password).ok_or(status::AUTH_FAILED)?;
        if !user.password.matches(password) {
            return Err(status::AUTH_FAILED.into());
        }
        self.tokens.issue(name, &state)
    }

    /// Whether the caller may use all keys of a range so.
    pub(crate) fn permit(&self, caller: &Caller, range: &KeyRange, access: Access) -> Result<(), Status> {
        let Some((state, name)) = self.named(caller)? else { return Ok(()) };
        let user = state.users.get(name).ok_or(status::PERMISSION_DENIED)?;
        if user.is_root() || state.allows(user, range, access) {
            return Ok(());
        }
        Err(status::PERMISSION_DENIED.into())
    }

    /// Whether the caller may administer the cluster.
    pub(crate) fn permit_admin(&self, caller: &Caller) -> Result<(), Status> {
        let Some((state, name)) = self.named(caller)? else { return Ok(()) };
        if state.users.get(name).is_some_and(User::is_root) {
            return Ok(());
        }
        Err(status::PERMISSION_DENIED.into())
    }

    fn named<'c>(&self, caller: &'c Caller) -> Result<Option<(Arc<AuthState>, &'c str)>, Status> {
        match caller {
            Caller::Free => Ok(None),
            Caller::Unknown => Err(status::USER_EMPTY.into()),
            Caller::User(name) if name.is_empty() => Err(status::USER_EMPTY.into()),
            Caller::User(name) => Ok(Some((self.state()?, name))),
        }
    }
}
