//! Printing of messages that carry secrets: their names show, their values do not.

use std::fmt;

use crate::cri::v1::AuthConfig;

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for crate::kms_v2::DecryptResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptResponse").finish_non_exhaustive()
    }
}

/// The message with one field shown and the rest hidden.
macro_rules! hide {
    ($($message:ty: $field:ident),*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        }
    )*};
}

hide!(
    crate::authpb::User: name,
    crate::etcdserverpb::AuthenticateRequest: name,
    crate::etcdserverpb::AuthenticateResponse: header,
    crate::etcdserverpb::AuthUserAddRequest: name,
    crate::etcdserverpb::AuthUserChangePasswordRequest: name,
    crate::kms_v2::EncryptRequest: uid
);
