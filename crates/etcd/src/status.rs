//! The errors of the v3 API: codes and texts are etcd's (`api/v3rpc/rpctypes`), since clients match on them.

use store::{ClusterError, Error};
use tonic::{Code, Status};

/// A known error of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known(pub Code, pub &'static str);

impl From<Known> for Status {
    fn from(Known(code, text): Known) -> Self {
        Self::new(code, text)
    }
}

macro_rules! known {
    ($($name:ident = $code:ident $text:literal),* $(,)?) => {
        $(
            #[doc = $text]
            pub const $name: Known = Known(Code::$code, concat!("etcdserver: ", $text));
        )*
    };
}

known! {
    EMPTY_KEY = InvalidArgument "key is not provided",
    KEY_NOT_FOUND = InvalidArgument "key not found",
    VALUE_PROVIDED = InvalidArgument "value is provided",
    LEASE_PROVIDED = InvalidArgument "lease is provided",
    TOO_MANY_OPS = InvalidArgument "too many operations in txn request",
    DUPLICATE_KEY = InvalidArgument "duplicate key given in txn request",
    INVALID_SORT = InvalidArgument "invalid sort option",
    REQUEST_TOO_LARGE = InvalidArgument "request is too large",
    TOO_MANY_REQUESTS = ResourceExhausted "too many requests",
    COMPACTED = OutOfRange "mvcc: required revision has been compacted",
    FUTURE_REVISION = OutOfRange "mvcc: required revision is a future revision",
    NO_SPACE = ResourceExhausted "mvcc: database space exceeded",
    LEASE_NOT_FOUND = NotFound "requested lease not found",
    LEASE_EXISTS = FailedPrecondition "lease already exists",
    LEASE_TTL_TOO_LARGE = OutOfRange "too large lease TTL",
    NO_LEADER = Unavailable "no leader",
    NOT_LEADER = FailedPrecondition "not leader",
    STOPPED = Unavailable "server stopped",
    TIMEOUT = Unavailable "request timed out",
    UNHEALTHY = Unavailable "unhealthy cluster",
    CORRUPT = DataLoss "corrupt cluster",
    LEARNER = Unavailable "rpc not supported for learner",
    BAD_TRANSFEREE = FailedPrecondition "bad leader transferee",
    TRANSFER_TIMEOUT = Unavailable "request timed out, leader transfer took too long",
    MEMBER_EXISTS = FailedPrecondition "member ID already exist",
    PEER_URL_EXISTS = FailedPrecondition "Peer URLs already exists",
    NOT_ENOUGH_STARTED = FailedPrecondition "re-configuration failed due to not enough started members",
    BAD_MEMBER_URLS = InvalidArgument "given member URLs are invalid",
    MEMBER_NOT_FOUND = NotFound "member not found",
    MEMBER_NOT_LEARNER = FailedPrecondition "can only promote a learner member",
    LEARNER_NOT_READY = FailedPrecondition "can only promote a learner member which is in sync with leader",
    TOO_MANY_LEARNERS = FailedPrecondition "too many learner members in cluster",
    NO_ROOT_USER = FailedPrecondition "root user does not exist",
    NO_ROOT_ROLE = FailedPrecondition "root user does not have root role",
    USER_EXISTS = FailedPrecondition "user name already exists",
    USER_EMPTY = InvalidArgument "user name is empty",
    USER_NOT_FOUND = FailedPrecondition "user name not found",
    ROLE_EXISTS = FailedPrecondition "role name already exists",
    ROLE_NOT_FOUND = FailedPrecondition "role name not found",
    ROLE_EMPTY = InvalidArgument "role name is empty",
    AUTH_FAILED = InvalidArgument "authentication failed, invalid user ID or password",
    PERMISSION_NOT_GIVEN = InvalidArgument "permission not given",
    PERMISSION_DENIED = PermissionDenied "permission denied",
    ROLE_NOT_GRANTED = FailedPrecondition "role is not granted to the user",
    PERMISSION_NOT_GRANTED = FailedPrecondition "permission is not granted to the role",
    AUTH_NOT_ENABLED = FailedPrecondition "authentication is not enabled",
    INVALID_TOKEN = Unauthenticated "invalid auth token",
    INVALID_AUTH_MANAGEMENT = InvalidArgument "invalid auth management",
    OLD_AUTH_REVISION = InvalidArgument "revision of auth store is old",
}

/// What the store said, as etcd says it.
pub fn of_store(error: &Error) -> Status {
    match error {
        Error::Compacted { .. } => COMPACTED.into(),
        Error::FutureRevision { .. } => FUTURE_REVISION.into(),
        Error::TooLarge { what: "lease time to live in seconds", .. } => LEASE_TTL_TOO_LARGE.into(),
        Error::TooLarge { what: "operations in a transaction", .. } => TOO_MANY_OPS.into(),
        Error::TooLarge { .. } => REQUEST_TOO_LARGE.into(),
        Error::Invalid("key is not provided") => EMPTY_KEY.into(),
        Error::Invalid("key not found") => KEY_NOT_FOUND.into(),
        Error::Invalid("value is provided") => VALUE_PROVIDED.into(),
        Error::Invalid("lease is provided") => LEASE_PROVIDED.into(),
        Error::Invalid("duplicate key given in txn request") => DUPLICATE_KEY.into(),
        Error::Invalid(what) => Status::invalid_argument(format!("etcdserver: {what}")),
        Error::LeaseNotFound(_) => LEASE_NOT_FOUND.into(),
        Error::LeaseExists(_) => LEASE_EXISTS.into(),
        Error::NoSpace(_) => NO_SPACE.into(),
        Error::NoLeader => NO_LEADER.into(),
        Error::Timeout => TIMEOUT.into(),
        Error::Overloaded => TOO_MANY_REQUESTS.into(),
        Error::Closed => STOPPED.into(),
        Error::Unsupported(what) => Status::unimplemented(format!("etcdserver: {what} is not supported")),
        other => Status::unavailable(format!("etcdserver: {other}")),
    }
}

/// What the cluster said, as etcd says it.
pub fn of_cluster(error: &ClusterError) -> Status {
    let known = match error {
        ClusterError::MemberExists => MEMBER_EXISTS,
        ClusterError::PeerUrlExists => PEER_URL_EXISTS,
        ClusterError::MemberNotFound => MEMBER_NOT_FOUND,
        ClusterError::MemberNotLearner => MEMBER_NOT_LEARNER,
        ClusterError::LearnerNotReady => LEARNER_NOT_READY,
        ClusterError::TooManyLearners => TOO_MANY_LEARNERS,
        ClusterError::NotEnoughStarted => NOT_ENOUGH_STARTED,
        ClusterError::Unhealthy => UNHEALTHY,
        ClusterError::NotLeader => NOT_LEADER,
        ClusterError::BadLeaderTransferee => BAD_TRANSFEREE,
        ClusterError::LeaderTransferTimeout => TRANSFER_TIMEOUT,
        ClusterError::Unsupported(what) => {
            return Status::unimplemented(format!("etcdserver: {what} is not supported by this store"));
        }
        ClusterError::Store(error) => return of_store(error),
    };
    known.into()
}
