//! `apiserver.config.k8s.io/v1` EncryptionConfiguration.

use std::sync::Arc;
use std::time::Duration;

use base::SharedClock;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::Value;
use tokio::sync::Notify;

use super::MARK;
use super::ciphers::Cipher;
use super::kms::{Plugin, Settings, socket};
use super::provider::Provider;
use super::resources::{self, Selector};

/// How long a call of a plugin may take unless the file says otherwise (`defaultTimeout`).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
const KMS_V1: &str = "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  \
                      Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.";

/// What providers are made with.
pub struct Making {
    /// The server's.
    pub clock: SharedClock,
    /// Told when a plugin may decrypt again.
    pub recovered: Arc<Notify>,
}

/// Groups of resources with their providers, in order.
pub struct Config {
    groups: Vec<Group>,
}

struct Group {
    resources: Vec<Selector>,
    providers: Vec<Provider>,
}

impl Config {
    /// Reads a configuration file.
    pub fn parse(text: &[u8], making: &Making) -> Result<Self, String> {
        let config = codec::yaml::parse(text).map_err(|e| e.to_string())?;
        let known = ["apiserver.config.k8s.io/v1"];
        if !known.contains(&config.str_at("apiVersion").unwrap_or_default())
            || config.str_at("kind") != Some("EncryptionConfiguration")
        {
            return Err("not an EncryptionConfiguration of apiserver.config.k8s.io/v1".to_owned());
        }
        let groups = config.items_at("resources").iter().enumerate();
        let groups: Vec<Group> = groups
            .map(|(i, g)| group(g, making).map_err(|e| format!("resources[{i}].{e}")))
            .collect::<Result<_, _>>()?;
        if groups.is_empty() {
            return Err("resources: at least one resource is required".to_owned());
        }
        resources::check_masked(groups.iter().map(|group| &group.resources[..]))?;
        let config = Self { groups };
        let mut names: Vec<&str> = config.plugins().map(|plugin| plugin.name()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("duplicate KMS provider name {}, names must be unique", twice[0]));
        }
        Ok(config)
    }

    fn group(&self, group: &str, resource: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.resources.iter().any(|s| s.selects(group, resource)))
    }

    /// What encrypts objects of a resource; `None` if nothing does.
    pub fn writer(&self, group: &str, resource: &str) -> Option<&Provider> {
        let first = self.group(group, resource)?.providers.first()?;
        (!matches!(first, Provider::Identity)).then_some(first)
    }

    /// Whether a stored value of a resource would be written otherwise now.
    pub fn is_stale(&self, group: &str, resource: &str, stored: &[u8]) -> bool {
        self.writer(group, resource).unwrap_or(&Provider::Identity).is_stale(stored)
    }

    /// Its plugins, in order.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        let providers = self.groups.iter().flat_map(|group| &group.providers);
        providers.filter_map(|provider| match provider {
            Provider::Kms(plugin) => Some(plugin),
            _ => None,
        })
    }

    /// Decrypts a stored value by whichever provider made it.
    pub async fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        debug_assert!(sealed.starts_with(MARK));
        let mut why = "no matching prefix found".to_owned();
        for provider in self.groups.iter().flat_map(|g| &g.providers) {
            match provider.open(context, sealed).await {
                Some(Ok(plain)) => return Ok(plain),
                Some(Err(error)) => why = error,
                None => {}
            }
        }
        Err(why)
    }
}

fn group(value: &Value, making: &Making) -> Result<Group, String> {
    let resources: Vec<&str> = value.items_at("resources").iter().filter_map(Value::as_str).collect();
    let resources = resources::parse(&resources)?;
    let providers = value.items_at("providers").iter().enumerate();
    let providers: Vec<Provider> = providers
        .map(|(i, p)| provider(p, making).map_err(|e| format!("providers[{i}].{e}")))
        .collect::<Result<_, _>>()?;
    if resources.is_empty() || providers.is_empty() {
        return Err("resources and providers are required".to_owned());
    }
    Ok(Group { resources, providers })
}

fn provider(value: &Value, making: &Making) -> Result<Provider, String> {
    let [(name, body)] = value.entries() else { return Err("exactly one provider is expected".to_owned()) };
    let make: fn(&[u8]) -> Result<Cipher, String> = match name.as_str() {
        "identity" => return Ok(Provider::Identity),
        "aesgcm" => Cipher::gcm,
        "aescbc" => Cipher::cbc,
        "secretbox" => Cipher::secret_box,
        "kms" => {
            let settings = kms(body).map_err(|e| format!("kms{e}"))?;
            let plugin = Plugin::new(&settings, making.clock.clone(), making.recovered.clone());
            return Ok(Provider::Kms(Arc::new(plugin)));
        }
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

/// The settings of a plugin; errors begin with the field.
fn kms(body: &Value) -> Result<Settings, String> {
    let text = |field: &str| body.str_at(field).unwrap_or_default();
    let name = text("name");
    if name.is_empty() {
        return Err(".name: Required value: name is a mandatory field for a provider".to_owned());
    }
    let version = body.str_at("apiVersion").unwrap_or("v1");
    if version != "v1" && name.contains(':') {
        return Err(format!(
            ".name: Invalid value: {name:?}: invalid KMS provider name {name}, must not contain ':'"
        ));
    }
    let timeout = match body.get("timeout") {
        None => DEFAULT_TIMEOUT,
        Some(given) => given
            .as_str()
            .and_then(crate::authz::go_duration)
            .filter(|timeout| !timeout.is_zero())
            .ok_or(".timeout: Invalid value: timeout should be a positive value")?,
    };
    let endpoint = text("endpoint");
    if endpoint.is_empty() {
        return Err(".endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms".to_owned());
    }
    let socket = socket(endpoint).map_err(|e| format!(".endpoint: Invalid value: {endpoint:?}: {e}"))?;
    match version {
        "v2" if body.get("cachesize").is_some() => {
            Err(".cachesize: Invalid value: cachesize is not supported in v2".to_owned())
        }
        "v2" => Ok(Settings { name: name.to_owned(), socket, timeout }),
        "v1" => Err(format!(": {KMS_V1}")),
        other => Err(format!(
            ".apiVersion: Invalid value: {other:?}: unsupported apiVersion apiVersion for KMS provider, only v1 and v2 \
             are supported"
        )),
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
        let making = Making { clock: base::system_clock(), recovered: Arc::default() };
        Config::parse(text.as_bytes(), &making)
    }

    fn keys(provider: &str, names: &[&str]) -> String {
        let keys: Vec<String> = names
            .iter()
            .map(|n| format!("{{name: {n}, secret: {}}}", STANDARD.encode(n.repeat(32).as_bytes())))
            .collect();
        format!("{{{provider}: {{keys: [{}]}}}}", keys.join(", "))
    }

    #[tokio::test]
    async fn every_cipher_reads_what_it_wrote_and_nothing_else() {
        for provider in ["aesgcm", "aescbc", "secretbox"] {
            let old = config(&keys(provider, &["a"])).unwrap();
            let new = config(&keys(provider, &["b", "a"])).unwrap();
            let key = b"/registry/secrets/default/s";
            let sealed = old.writer("", "secrets").unwrap().seal(key, b"plain").unwrap();
            assert!(sealed.starts_with(format!("k8s:enc:{provider}:v1:a:").as_bytes()));
            assert_eq!(new.open(key, &sealed).await.unwrap(), b"plain", "{provider}: a rotated key");
            let other = new.writer("apps", "deployments").unwrap().seal(key, b"plain").unwrap();
            assert!(other.starts_with(format!("k8s:enc:{provider}:v1:b:").as_bytes()));
            assert_eq!(old.open(key, &other).await.unwrap_err(), "no matching prefix found");
            let mut broken = sealed.clone();
            *broken.last_mut().unwrap() ^= 1;
            assert_ne!(old.open(key, &broken).await.ok().as_deref(), Some(&b"plain"[..]));
        }
        let secret = STANDARD.encode([7_u8; 24]);
        let long = config(&format!("{{aesgcm: {{keys: [{{name: k, secret: {secret}}}]}}}}")).unwrap();
        let sealed = long.writer("", "secrets").unwrap().seal(b"/one", b"plain").unwrap();
        assert_eq!(long.open(b"/one", &sealed).await.unwrap(), b"plain");
        assert!(long.open(b"/two", &sealed).await.is_err(), "a value belongs to its key");
        let gcm = config(&keys("aesgcm", &["a"])).unwrap();
        let sealed = gcm.writer("", "secrets").unwrap().seal(b"/one", b"plain").unwrap();
        assert!(gcm.open(b"/two", &sealed).await.is_err(), "a value belongs to its key");
        assert!(gcm.writer("", "pods").is_none());
    }

    #[tokio::test]
    async fn a_value_of_upstreams_form_is_read() {
        // AES-CBC with key and IV of zeros, made with openssl.
        let zeros = STANDARD.encode([0_u8; 32]);
        let cbc = config(&format!("{{aescbc: {{keys: [{{name: k, secret: {zeros}}}]}}}}")).unwrap();
        let mut sealed = b"k8s:enc:aescbc:v1:k:".to_vec();
        sealed.extend([0_u8; 16]);
        sealed.extend(STANDARD.decode("wjXeJNI54DzI43fGBPymew==").unwrap());
        assert_eq!(cbc.open(b"", &sealed).await.unwrap(), b"hello");
    }

    #[test]
    fn what_another_key_wrote_is_stale() {
        let [old, new] = [&["a"][..], &["b", "a"]].map(|names| config(&keys("aescbc", names)).unwrap());
        let sealed = old.writer("", "secrets").unwrap().seal(b"/s", b"plain").unwrap();
        assert!(!old.is_stale("", "secrets", &sealed));
        assert!(new.is_stale("", "secrets", &sealed));
        assert!(new.is_stale("", "secrets", b"plain"));
        assert!(new.is_stale("", "pods", &sealed));
        assert!(!new.is_stale("", "pods", b"plain"));
    }

    #[test]
    fn wrong_files_are_refused() {
        for (providers, why) in [
            ("{kms: {name: x, endpoint: 'unix:///x'}}", "KMSv1 is deprecated"),
            ("{kms: {name: x, apiVersion: v2}}", "endpoint is a mandatory field"),
            ("{kms: {name: x, apiVersion: v2, endpoint: 'tcp://x'}}", "unsupported scheme \"tcp\""),
            ("{kms: {name: x, apiVersion: v3, endpoint: 'unix:///x'}}", "only v1 and v2 are supported"),
            ("{kms: {name: 'x:y', apiVersion: v2, endpoint: 'unix:///x'}}", "must not contain ':'"),
            (
                "{kms: {name: x, apiVersion: v2, endpoint: 'unix:///x', timeout: 0s}}",
                "should be a positive value",
            ),
            ("{kms: {name: x, apiVersion: v2, endpoint: 'unix:///x', cachesize: 9}}", "not supported in v2"),
            ("{aesgcm: {keys: []}}", "at least one key"),
            ("{aescbc: {keys: [{name: a, secret: AAAA}]}}", "expected length"),
            ("{nope: {}}", "unknown provider"),
        ] {
            let error = config(providers).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
    }
}
