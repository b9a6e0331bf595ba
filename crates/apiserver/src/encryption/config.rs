//! `apiserver.config.k8s.io/v1` EncryptionConfiguration.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::Value;

use super::MARK;
use super::ciphers::Cipher;

/// Groups of resources with their providers, in order.
pub struct Config {
    groups: Vec<Group>,
}

struct Group {
    resources: Vec<Selector>,
    providers: Vec<Provider>,
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` or `*.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Selector {
    group: String,
    resource: String,
}

/// One provider.
pub enum Provider {
    /// Nothing is encrypted.
    Identity,
    /// Keys by name; the first encrypts.
    Keys {
        /// `k8s:enc:PROVIDER:v1:`.
        prefix: String,
        /// With their names.
        keys: Vec<(String, Cipher)>,
    },
}

impl Config {
    /// Reads a configuration file.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let config = codec::yaml::parse(text).map_err(|e| e.to_string())?;
        let known = ["apiserver.config.k8s.io/v1"];
        if !known.contains(&config.str_at("apiVersion").unwrap_or_default())
            || config.str_at("kind") != Some("EncryptionConfiguration")
        {
            return Err("not an EncryptionConfiguration of apiserver.config.k8s.io/v1".to_owned());
        }
        let groups = config.items_at("resources").iter().enumerate();
        let groups: Vec<Group> = groups
            .map(|(i, g)| group(g).map_err(|e| format!("resources[{i}].{e}")))
            .collect::<Result<_, _>>()?;
        if groups.is_empty() {
            return Err("resources: at least one resource is required".to_owned());
        }
        Ok(Self { groups })
    }

    fn group(&self, group: &str, resource: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.resources.iter().any(|s| s.selects(group, resource)))
    }

    /// What encrypts objects of a resource; `None` if nothing does.
    pub fn writer(&self, group: &str, resource: &str) -> Option<&Provider> {
        let first = self.group(group, resource)?.providers.first()?;
        (!matches!(first, Provider::Identity)).then_some(first)
    }

    /// Decrypts a stored value by whichever provider made it.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        debug_assert!(sealed.starts_with(MARK));
        let mut why = "no matching prefix found".to_owned();
        for provider in self.groups.iter().flat_map(|g| &g.providers) {
            match provider.open(context, sealed) {
                Some(Ok(plain)) => return Ok(plain),
                Some(Err(error)) => why = error,
                None => {}
            }
        }
        Err(why)
    }
}

impl Selector {
    fn parse(text: &str) -> Result<Self, String> {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        if resource.is_empty() || resource.contains(['/', ' ']) {
            return Err(format!("{text:?} is no resource"));
        }
        if resource == "*" && !text.contains('.') {
            return Err(format!("{text:?}: use *.* for all resources"));
        }
        if group == "*" && resource != "*" {
            return Err(format!("{text:?}: a wildcard group needs a wildcard resource"));
        }
        if text != text.to_lowercase() {
            return Err(format!("{text:?} is not in lower case"));
        }
        Ok(Self { group: group.to_owned(), resource: resource.to_owned() })
    }

    fn selects(&self, group: &str, resource: &str) -> bool {
        (self.group == "*" || self.group == group) && (self.resource == "*" || self.resource == resource)
    }
}

fn group(value: &Value) -> Result<Group, String> {
    let resources = value.items_at("resources").iter().filter_map(Value::as_str);
    let resources: Vec<Selector> =
        resources.map(Selector::parse).collect::<Result<_, _>>().map_err(|e| format!("resources: {e}"))?;
    let providers = value.items_at("providers").iter().enumerate();
    let providers: Vec<Provider> = providers
        .map(|(i, p)| provider(p).map_err(|e| format!("providers[{i}].{e}")))
        .collect::<Result<_, _>>()?;
    if resources.is_empty() || providers.is_empty() {
        return Err("resources and providers are required".to_owned());
    }
    Ok(Group { resources, providers })
}

fn provider(value: &Value) -> Result<Provider, String> {
    let [(name, body)] = value.entries() else { return Err("exactly one provider is expected".to_owned()) };
    let make: fn(&[u8]) -> Result<Cipher, String> = match name.as_str() {
        "identity" => return Ok(Provider::Identity),
        "aesgcm" => Cipher::gcm,
        "aescbc" => Cipher::cbc,
        "secretbox" => Cipher::secret_box,
        "kms" => return Err("kms: plugins of key management are not implemented".to_owned()),
        other => return Err(format!("{other}: unknown provider")),
    };
    let mut keys: Vec<(String, Cipher)> = Vec::new();
    for (i, key) in body.items_at("keys").iter().enumerate() {
        let at = format!("{name}.keys[{i}]");
        let key_name = key.str_at("name").unwrap_or_default();
        if key_name.is_empty() || key_name.contains(':') || keys.iter().any(|(other, _)| other == key_name) {
            return Err(format!("{at}.name: {key_name:?} is empty, has a colon or is there twice"));
        }
        let secret = STANDARD.decode(key.str_at("secret").unwrap_or_default());
        let secret = secret.map_err(|_| format!("{at}.secret: secrets must be base64 encoded"))?;
        keys.push((key_name.to_owned(), make(&secret).map_err(|e| format!("{at}.secret: {e}"))?));
    }
    if keys.is_empty() {
        return Err(format!("{name}.keys: at least one key is required"));
    }
    Ok(Provider::Keys { prefix: format!("k8s:enc:{name}:v1:"), keys })
}

impl Provider {
    /// The stored form of `plain`.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Identity => Ok(plain.to_vec()),
            Self::Keys { prefix, keys } => {
                let (name, cipher) = keys.first().ok_or("no key")?;
                let head = format!("{prefix}{name}:");
                Ok([head.as_bytes(), &cipher.seal(context, plain)?].concat())
            }
        }
    }

    /// The plain form; `None` if the value is not of this provider.
    fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Result<Vec<u8>, String>> {
        let Self::Keys { prefix, keys } = self else { return None };
        let rest = sealed.strip_prefix(prefix.as_bytes())?;
        let mut found = None;
        for (name, cipher) in keys {
            let body = rest.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
            if let Some(body) = body {
                let outcome = cipher.open(context, body);
                if outcome.is_ok() {
                    return Some(outcome);
                }
                found = Some(outcome);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(providers: &str) -> Result<Config, String> {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets, '*.apps']\n  providers: [{providers}, {{identity: {{}}}}]\n"
        );
        Config::parse(text.as_bytes())
    }

    fn keys(provider: &str, names: &[&str]) -> String {
        let keys: Vec<String> = names
            .iter()
            .map(|n| format!("{{name: {n}, secret: {}}}", STANDARD.encode(n.repeat(32).as_bytes())))
            .collect();
        format!("{{{provider}: {{keys: [{}]}}}}", keys.join(", "))
    }

    #[test]
    fn every_cipher_reads_what_it_wrote_and_nothing_else() {
        for provider in ["aesgcm", "aescbc", "secretbox"] {
            let old = config(&keys(provider, &["a"])).unwrap();
            let new = config(&keys(provider, &["b", "a"])).unwrap();
            let key = b"/registry/secrets/default/s";
            let sealed = old.writer("", "secrets").unwrap().seal(key, b"plain").unwrap();
            assert!(sealed.starts_with(format!("k8s:enc:{provider}:v1:a:").as_bytes()));
            assert_eq!(new.open(key, &sealed).unwrap(), b"plain", "{provider}: a rotated key");
            let other = new.writer("apps", "deployments").unwrap().seal(key, b"plain").unwrap();
            assert!(other.starts_with(format!("k8s:enc:{provider}:v1:b:").as_bytes()));
            assert_eq!(old.open(key, &other).unwrap_err(), "no matching prefix found");
            let mut broken = sealed.clone();
            *broken.last_mut().unwrap() ^= 1;
            assert_ne!(old.open(key, &broken).ok().as_deref(), Some(&b"plain"[..]));
        }
        let gcm = config(&keys("aesgcm", &["a"])).unwrap();
        let sealed = gcm.writer("", "secrets").unwrap().seal(b"/one", b"plain").unwrap();
        assert!(gcm.open(b"/two", &sealed).is_err(), "a value belongs to its key");
        assert!(gcm.writer("", "pods").is_none());
    }

    #[test]
    fn a_value_of_upstreams_form_is_read() {
        // AES-CBC with key and IV of zeros, made with openssl.
        let zeros = STANDARD.encode([0_u8; 32]);
        let cbc = config(&format!("{{aescbc: {{keys: [{{name: k, secret: {zeros}}}]}}}}")).unwrap();
        let mut sealed = b"k8s:enc:aescbc:v1:k:".to_vec();
        sealed.extend([0_u8; 16]);
        sealed.extend(STANDARD.decode("wjXeJNI54DzI43fGBPymew==").unwrap());
        assert_eq!(cbc.open(b"", &sealed).unwrap(), b"hello");
    }

    #[test]
    fn wrong_files_are_refused() {
        for (providers, why) in [
            ("{kms: {name: x}}", "not implemented"),
            ("{aesgcm: {keys: []}}", "at least one key"),
            ("{aescbc: {keys: [{name: a, secret: AAAA}]}}", "expected length"),
            ("{nope: {}}", "unknown provider"),
        ] {
            let error = config(providers).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
    }
}
