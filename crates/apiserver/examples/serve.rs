//! An API server alone, for trying things: `serve PORT [DATA_DIR [SERVICE_ACCOUNT_KEY]]`, HTTPS on loopback with a certificate made now, token `tok` is cluster
//! administrator. Without a directory nothing is kept.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{Options, Server};
use base::TaskScope;
use store::Store;
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let begin = std::time::Instant::now();
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().unwrap_or_else(|| "8001".to_owned()).parse()?;
    let dir = arguments.next().filter(|d| !d.is_empty()).map(PathBuf::from);
    let key = arguments.next().map(PathBuf::from);
    let clock = base::system_clock();
    let store: Arc<dyn Store> = match &dir {
        Some(dir) => Arc::new(store::Embedded::open(&store::Config::new(dir), clock.clone())?),
        None => Arc::new(store::Embedded::in_memory(clock.clone())?),
    };
    let tokens = std::env::temp_dir().join(format!("corten-serve-{}.csv", std::process::id()));
    std::fs::write(&tokens, "tok,admin,admin,\"system:masters\"\n")?;
    let options = Options {
        token_auth_file: Some(tokens.clone()),
        secure_port: port,
        bind_address: Ipv4Addr::LOCALHOST.into(),
        cert_dir: std::env::temp_dir().join(format!("corten-serve-{}", std::process::id())),
        service_account_key_file: key.iter().cloned().collect(),
        service_account_signing_key_file: key,
        service_account_issuer: vec!["https://kubernetes.default.svc".to_owned()],
        ..Options::default()
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async move {
        let scope = TaskScope::new("serve");
        let server = Server::new(options, store, clock, &scope).await?;
        std::fs::remove_file(&tokens)?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        println!("ready on https://127.0.0.1:{port} after {:?}", begin.elapsed());
        let tls = server.tls()?;
        server.serve(listener, Some(tls)).await?;
        Ok(())
    })
}
