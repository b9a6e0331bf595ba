//! The client against a real TLS server.

use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use schema::{Value, value};

use super::testing::WebhookServer;
use super::*;

/// Finds every service at one address.
struct At(std::net::SocketAddr);

impl ServiceResolver for At {
    fn resolve(&self, _: &str, name: &str, _: u16) -> Result<(String, u16), String> {
        if name == "hook" {
            Ok((self.0.ip().to_string(), self.0.port()))
        } else {
            Err(format!("service \"{name}\" not found"))
        }
    }
}

const SECOND: Duration = Duration::from_secs(10);

fn client(server: &WebhookServer, scope: &TaskScope) -> Arc<WebhookClient> {
    WebhookClient::new(Arc::new(At(server.address)), scope)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urls_and_services_are_called_by_both_http_versions() {
    for (alpn, http2) in [(&["h2", "http/1.1"][..], true), (&["http/1.1"][..], false)] {
        let server = WebhookServer::start(
            alpn,
            Arc::new(|asked| {
                (
                    200,
                    value!({"path": (asked.path.clone()), "h2": (asked.http2), "body": (asked.body.clone())}),
                )
            }),
        )
        .await;
        let scope = TaskScope::new("test");
        let client = client(&server, &scope);
        let by_url = Target::from_value(&server.client_config("/a")).unwrap();
        let mut config = server.client_config("");
        config.remove("url");
        config.insert("service", value!({"namespace": "ns", "name": "hook", "path": "/b"}));
        let by_service = Target::from_value(&config).unwrap();
        for (target, path) in [(by_url, "/a?timeout=10s"), (by_service, "/b?timeout=10s")] {
            let answer = client.post(&target, &value!({"x": 1}), SECOND).await.unwrap();
            assert_eq!(answer, value!({"path": path, "h2": http2, "body": {"x": 1}}));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_gos() {
    let server = WebhookServer::start(&[], Arc::new(|_| (500, Value::str("broken")))).await;
    let scope = TaskScope::new("test");
    let client = client(&server, &scope);
    let target = Target::from_value(&server.client_config("/x")).unwrap();
    let words = async |target: &Target, timeout| {
        client.post(target, &Value::Null, timeout).await.unwrap_err().to_string()
    };
    assert_eq!(
        words(&target, SECOND).await,
        r#"an error on the server ("\"broken\"") has prevented the request from succeeding"#
    );
    let address = server.address;
    let stranger = Target {
        ca_bundle: pki::Authority::generate("other").unwrap().1.certificate_pem.into(),
        ..target.clone()
    };
    assert_eq!(
        words(&stranger, SECOND).await,
        format!(
            "Post \"https://{address}/x?timeout=10s\": tls: failed to verify certificate: x509: certificate signed \
             by unknown authority"
        )
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let hanging = Target { url: format!("https://{silent}/"), ..target.clone() };
    assert_eq!(
        words(&hanging, Duration::from_millis(50)).await,
        format!("Post \"https://{silent}/?timeout=1s\": context deadline exceeded")
    );
    let silent = format!("127.0.0.1:{}", testnet::reserve_port());
    let absent = Target { url: format!("https://{silent}/"), ..target.clone() };
    assert_eq!(
        words(&absent, SECOND).await,
        format!("Post \"https://{silent}/?timeout=10s\": dial tcp {silent}: connect: connection refused")
    );
    let none = Target::from_value(&value!({"service": {"namespace": "ns", "name": "none"}})).unwrap();
    assert_eq!(
        words(&none, SECOND).await,
        "Post \"https://none.ns.svc:443/?timeout=10s\": service \"none\" not found"
    );
}
