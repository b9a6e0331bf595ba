//! The Auth service: what may be asked of users and roles, in etcd's words.

use proto::etcd::auth::Permission;
use proto::etcd::rpc::auth_server::Auth;
use proto::etcd::rpc::*;
use proto::etcd::rpc::{AuthenticateRequest, AuthenticateResponse};
use tonic::{Request, Response, Status, async_trait};

use super::Server;
use crate::auth::{AuthState, Caller, Password, ROOT, User, random};
use crate::status;

/// Bytes of the key that simple tokens are signed with.
const TOKEN_KEY: usize = 32;

impl Server {
    /// A change that only an administrator may make, once authentication is on.
    async fn administer<T>(
        &self,
        request: &Request<T>,
        change: impl Fn(&mut AuthState) -> Result<(), Status>,
    ) -> Result<Option<ResponseHeader>, Status> {
        self.auth.permit_admin(&self.caller(request)?)?;
        let counted = |state: &mut AuthState| {
            change(state)?;
            state.revision += 1;
            Ok(())
        };
        self.auth.change(counted).await?;
        Ok(Some(self.header_now()))
    }

    /// A user may look at itself and at its roles, an administrator at all.
    fn permit_look(&self, caller: &Caller, own: impl Fn(&AuthState, &str) -> bool) -> Result<(), Status> {
        let state = self.auth.state()?;
        match caller {
            Caller::User(name) if own(&state, name) => Ok(()),
            other => self.auth.permit_admin(other),
        }
    }
}

/// Hashing takes a while, so it is done where it keeps nobody waiting.
async fn hash(password: String) -> Result<Password, Status> {
    let hashed = tokio::task::spawn_blocking(move || Password::new(&password)).await;
    hashed.map_err(|_| Status::internal("etcdserver: hashing failed"))?
}

fn user<'s>(state: &'s mut AuthState, name: &str) -> Result<&'s mut User, Status> {
    state.users.get_mut(name).ok_or_else(|| status::USER_NOT_FOUND.into())
}

/// With authentication on, root stays and stays root.
fn keep_root(state: &AuthState, touched: bool) -> Result<(), Status> {
    if state.enabled && touched { Err(status::INVALID_AUTH_MANAGEMENT.into()) } else { Ok(()) }
}

#[async_trait]
impl Auth for Server {
    async fn auth_enable(
        &self,
        request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let key = random(TOKEN_KEY)?;
        let enable = |state: &mut AuthState| {
            if state.enabled {
                return Ok(());
            }
            let root = state.users.get(ROOT).ok_or(status::NO_ROOT_USER)?;
            if !root.is_root() {
                return Err(status::NO_ROOT_ROLE.into());
            }
            state.enabled = true;
            state.token_key = key.clone().into();
            Ok(())
        };
        self.auth.change(enable).await?;
        Ok(Response::new(AuthEnableResponse { header: Some(self.header_now()) }))
    }

    async fn auth_disable(
        &self,
        request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let disable = |state: &mut AuthState| {
            if state.enabled {
                state.enabled = false;
                state.revision += 1;
            }
            Ok(())
        };
        self.auth.change(disable).await?;
        Ok(Response::new(AuthDisableResponse { header: Some(self.header_now()) }))
    }

    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let state = self.auth.state()?;
        let header = Some(self.header_now());
        Ok(Response::new(AuthStatusResponse {
            header,
            enabled: state.enabled,
            auth_revision: state.revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { name, password } = request.into_inner();
        let auth = self.auth.clone();
        let answer = tokio::task::spawn_blocking(move || auth.authenticate(&name, &password)).await;
        let token = answer.map_err(|_| Status::internal("etcdserver: authentication broke off"))??;
        Ok(Response::new(AuthenticateResponse { header: Some(self.header_now()), token }))
    }

    async fn user_add(
        &self,
        request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        let AuthUserAddRequest { name, password, options, hashed_password } = request.get_ref().clone();
        self.auth.permit_admin(&self.caller(&request)?)?;
        if name.is_empty() {
            return Err(status::USER_EMPTY.into());
        }
        if !hashed_password.is_empty() {
            return Err(Status::unimplemented("etcdserver: passwords that come hashed are not supported"));
        }
        let no_password = options.is_some_and(|options| options.no_password);
        let password = if no_password { Password::none() } else { hash(password).await? };
        let add = |state: &mut AuthState| {
            if state.users.contains_key(&name) {
                return Err(status::USER_EXISTS.into());
            }
            let user = User { password: password.clone(), no_password, roles: Vec::new() };
            state.users.insert(name.clone(), user);
            Ok(())
        };
        let header = self.administer(&request, add).await?;
        Ok(Response::new(AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        let caller = self.caller(&request)?;
        let name = &request.get_ref().name;
        self.permit_look(&caller, |_, own| own == name)?;
        let state = self.auth.state()?;
        let user = state.users.get(name).ok_or(status::USER_NOT_FOUND)?;
        let roles = user.roles.clone();
        Ok(Response::new(AuthUserGetResponse { header: Some(self.header_now()), roles }))
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let users = self.auth.state()?.users.keys().cloned().collect();
        Ok(Response::new(AuthUserListResponse { header: Some(self.header_now()), users }))
    }

    async fn user_delete(
        &self,
        request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        let name = &request.get_ref().name;
        let delete = |state: &mut AuthState| {
            keep_root(state, name == ROOT)?;
            state.users.remove(name).map(drop).ok_or_else(|| status::USER_NOT_FOUND.into())
        };
        let header = self.administer(&request, delete).await?;
        Ok(Response::new(AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let AuthUserChangePasswordRequest { name, password, .. } = request.get_ref().clone();
        let password = hash(password).await?;
        let change = |state: &mut AuthState| {
            let user = user(state, &name)?;
            if user.no_password {
                return Err(status::USER_NOT_FOUND.into());
            }
            user.password = password.clone();
            Ok(())
        };
        let header = self.administer(&request, change).await?;
        Ok(Response::new(AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        let AuthUserGrantRoleRequest { user: name, role } = request.get_ref();
        let grant = |state: &mut AuthState| {
            let known = role == ROOT || state.roles.contains_key(role);
            let user = user(state, name)?;
            if !known {
                return Err(status::ROLE_NOT_FOUND.into());
            }
            if let Err(place) = user.roles.binary_search(role) {
                user.roles.insert(place, role.clone());
            }
            Ok(())
        };
        let header = self.administer(&request, grant).await?;
        Ok(Response::new(AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        let AuthUserRevokeRoleRequest { name, role } = request.get_ref();
        let revoke = |state: &mut AuthState| {
            keep_root(state, name == ROOT && role == ROOT)?;
            let user = user(state, name)?;
            let place = user.roles.iter().position(|other| other == role).ok_or(status::ROLE_NOT_GRANTED)?;
            user.roles.remove(place);
            Ok(())
        };
        let header = self.administer(&request, revoke).await?;
        Ok(Response::new(AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        let name = &request.get_ref().name;
        let add = |state: &mut AuthState| {
            if name.is_empty() {
                return Err(status::ROLE_EMPTY.into());
            }
            if state.roles.contains_key(name) {
                return Err(status::ROLE_EXISTS.into());
            }
            state.roles.insert(name.clone(), Vec::new());
            Ok(())
        };
        let header = self.administer(&request, add).await?;
        Ok(Response::new(AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        let caller = self.caller(&request)?;
        let role = &request.get_ref().role;
        let has = |state: &AuthState, own: &str| state.users.get(own).is_some_and(|u| u.roles.contains(role));
        self.permit_look(&caller, has)?;
        let state = self.auth.state()?;
        let all = || vec![Permission { perm_type: 2, key: "".into(), range_end: vec![0].into() }];
        let perm = match state.roles.get(role) {
            Some(_) | None if role == ROOT => all(),
            Some(permissions) => permissions.clone(),
            None => return Err(status::ROLE_NOT_FOUND.into()),
        };
        Ok(Response::new(AuthRoleGetResponse { header: Some(self.header_now()), perm }))
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        self.auth.permit_admin(&self.caller(&request)?)?;
        let roles = self.auth.state()?.roles.keys().cloned().collect();
        Ok(Response::new(AuthRoleListResponse { header: Some(self.header_now()), roles }))
    }

    async fn role_delete(
        &self,
        request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        let role = &request.get_ref().role;
        let delete = |state: &mut AuthState| {
            keep_root(state, role == ROOT)?;
            state.roles.remove(role).ok_or(status::ROLE_NOT_FOUND)?;
            state.users.values_mut().for_each(|user| user.roles.retain(|other| other != role));
            Ok(())
        };
        let header = self.administer(&request, delete).await?;
        Ok(Response::new(AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        let AuthRoleGrantPermissionRequest { name, perm } = request.get_ref();
        let grant = |state: &mut AuthState| {
            let perm = perm.clone().ok_or(status::PERMISSION_NOT_GIVEN)?;
            let granted = state.roles.get_mut(name).ok_or(status::ROLE_NOT_FOUND)?;
            let order = |p: &Permission| (p.key.clone(), p.range_end.clone());
            match granted.binary_search_by_key(&order(&perm), order) {
                Ok(place) => granted[place].perm_type = perm.perm_type,
                Err(place) => granted.insert(place, perm),
            }
            Ok(())
        };
        let header = self.administer(&request, grant).await?;
        Ok(Response::new(AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        let AuthRoleRevokePermissionRequest { role, key, range_end } = request.get_ref();
        let revoke = |state: &mut AuthState| {
            let granted = state.roles.get_mut(role).ok_or(status::ROLE_NOT_FOUND)?;
            let place = granted.iter().position(|p| p.key == *key && p.range_end == *range_end);
            granted.remove(place.ok_or(status::PERMISSION_NOT_GRANTED)?);
            Ok(())
        };
        let header = self.administer(&request, revoke).await?;
        Ok(Response::new(AuthRoleRevokePermissionResponse { header }))
    }
}
