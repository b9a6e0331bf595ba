//! The static token file: `token,user,uid,"group1,group2"` per line.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use base::UserInfo;

use super::{AuthnError, TokenAuthenticator, TokenOutcome};

/// Tokens read once at start, as upstream does.
pub struct TokenFile(HashMap<String, UserInfo>);

impl TokenFile {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, crate::Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| crate::Error::File { path: path.to_owned(), source })?;
        Ok(Self::parse(&text))
    }

    /// Lines with fewer than three fields and comments are skipped.
    pub fn parse(text: &str) -> Self {
        let mut tokens = HashMap::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let fields = csv_fields(line);
            let [token, name, uid, rest @ ..] = fields.as_slice() else { continue };
            let groups = rest.first().map(|g| g.split(',').map(|g| g.trim().to_owned()).collect());
            let user = UserInfo {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.unwrap_or_default(),
                ..UserInfo::default()
            };
            tokens.insert(token.clone(), user);
        }
        Self(tokens)
    }
}

/// Splits a line at commas outside double quotes; two quotes within quotes are one.
fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields[last].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields.into_iter().map(|f| f.trim().to_owned()).collect()
}

#[async_trait]
impl TokenAuthenticator for TokenFile {
    async fn authenticate_token(
        &self,
        token: &str,
        _: &[String],
    ) -> Result<Option<TokenOutcome>, AuthnError> {
        Ok(self.0.get(token).map(|user| TokenOutcome { user: user.clone(), audiences: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_groups() {
        let file = TokenFile::parse("tok,admin,admin,\"system:masters,x\"\n# no\nother,joe,7\n");
        let user = file.authenticate_token("tok", &[]).await.unwrap().unwrap().user;
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("admin", vec!["system:masters".to_owned(), "x".to_owned()])
        );
        assert!(file.authenticate_token("other", &[]).await.unwrap().is_some());
        assert!(file.authenticate_token("no", &[]).await.unwrap().is_none());
    }
}
