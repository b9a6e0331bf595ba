//! Users and roles as they are kept: a protobuf message in the cluster's setting.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use bytes::Bytes;
use prost::Message;
use proto::etcd::auth::Permission;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use store::KeyRange;
use tonic::Status;

use super::ranges::{self, Access};

/// The name of the user and of the role that may do everything.
pub(crate) const ROOT: &str = "root";
/// Rounds of a password's hash. A guess costs as much as a login: some tens of milliseconds.
const ROUNDS: u32 = 100_000;
const SALT: usize = 16;
const HASH: usize = 32;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthState {
    pub(crate) enabled: bool,
    /// Goes up with every change but enabling, as etcd's does.
    pub(crate) revision: u64,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) roles: BTreeMap<String, Vec<Permission>>,
    /// What simple tokens are signed with.
    pub(crate) token_key: Bytes,
}

impl Default for AuthState {
    fn default() -> Self {
        let (users, roles) = (BTreeMap::new(), BTreeMap::new());
        Self { enabled: false, revision: 1, users, roles, token_key: Bytes::new() }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) password: Password,
    /// Only a certificate or an outside token makes somebody this user.
    pub(crate) no_password: bool,
    /// In order.
    pub(crate) roles: Vec<String>,
}

impl User {
    pub(crate) fn is_root(&self) -> bool {
        self.roles.iter().any(|role| role == ROOT)
    }
}

/// A salted hash.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password {
    salt: Bytes,
    hash: Bytes,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

fn rounds() -> NonZeroU32 {
    NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN)
}

/// Bytes that nobody can guess.
pub(crate) fn random(length: usize) -> Result<Vec<u8>, Status> {
    let mut bytes = vec![0; length];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Status::internal("etcdserver: no randomness"))?;
    Ok(bytes)
}

impl Password {
    /// Hashes a password; slow on purpose.
    pub(crate) fn new(password: &str) -> Result<Self, Status> {
        let salt = random(SALT)?;
        let mut hash = vec![0; HASH];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds(), &salt, password.as_bytes(), &mut hash);
        Ok(Self { salt: salt.into(), hash: hash.into() })
    }

    /// No password matches it.
    pub(crate) fn none() -> Self {
        Self { salt: Bytes::new(), hash: Bytes::new() }
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(crate) fn matches(&self, password: &str) -> bool {
        let (salt, hash) = (&self.salt, &self.hash);
        hash.len() == HASH
            && pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, rounds(), salt, password.as_bytes(), hash).is_ok()
    }
}

impl AuthState {
    /// Whether a user's roles allow `access` to the whole range.
    pub(crate) fn allows(&self, user: &User, range: &KeyRange, access: Access) -> bool {
        let granted = user.roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let end = wire_end(range);
        ranges::cover(granted, range.start(), &end, access)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let users = self.users.iter().map(|(name, user)| StoredUser {
            name: name.clone(),
            salt: user.password.salt.clone(),
            hash: user.password.hash.clone(),
            no_password: user.no_password,
            roles: user.roles.clone(),
        });
        let roles = self
            .roles
            .iter()
            .map(|(name, permissions)| StoredRole { name: name.clone(), permissions: permissions.clone() });
        let stored = Stored {
            enabled: self.enabled,
            revision: self.revision,
            users: users.collect(),
            roles: roles.collect(),
            token_key: self.token_key.clone(),
        };
        stored.encode_to_vec().into()
    }

    /// None: it is not of this form.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let stored = Stored::decode(bytes.clone()).ok()?;
        let users = stored.users.into_iter().map(|user| {
            let password = Password { salt: user.salt, hash: user.hash };
            (user.name, User { password, no_password: user.no_password, roles: user.roles })
        });
        Some(Self {
            enabled: stored.enabled,
            revision: stored.revision,
            users: users.collect(),
            roles: stored.roles.into_iter().map(|role| (role.name, role.permissions)).collect(),
            token_key: stored.token_key,
        })
    }
}

/// The end of a range in the API's form.
fn wire_end(range: &KeyRange) -> Vec<u8> {
    match range.end() {
        None if range.as_single().is_some() => Vec::new(),
        None => vec![0],
        Some(end) => end.to_vec(),
    }
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, repeated, tag = "3")]
    users: Vec<StoredUser>,
    #[prost(message, repeated, tag = "4")]
    roles: Vec<StoredRole>,
    #[prost(bytes = "bytes", tag = "5")]
    token_key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct StoredUser {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    salt: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    hash: Bytes,
    #[prost(bool, tag = "4")]
    no_password: bool,
    #[prost(string, repeated, tag = "5")]
    roles: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRole {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<Permission>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let mut state = AuthState { enabled: true, revision: 7, ..AuthState::default() };
        let password = Password::new("secret").unwrap();
        let user = User { password, no_password: false, roles: vec!["a".into(), ROOT.into()] };
        state.users.insert("kim".into(), user);
        state.roles.insert("a".into(), vec![Permission { key: "k".into(), ..Permission::default() }]);
        let again = AuthState::decode(&state.encode()).unwrap();
        assert_eq!(again, state);
        let kim = &again.users["kim"];
        assert!(kim.is_root() && kim.password.matches("secret") && !kim.password.matches("Secret"));
        assert!(!Password::none().matches(""));
        assert_eq!(AuthState::decode(&Bytes::from_static(b"\xff\xff")), None);
    }
}
