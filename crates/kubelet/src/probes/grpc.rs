//! The gRPC health protocol (`grpc.health.v1.Health/Check`).

use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const STATUS_NAMES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks the health service at the address. The error says what a user should know.
pub async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(timeout, ask(&address, service)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "timeout: failed to connect service {address:?} within {}s: context deadline exceeded",
            timeout.as_secs()
        )),
    }
}

async fn ask(address: &str, service: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let channel = endpoint
        .connect()
        .await
        .map_err(|e| format!("error: failed to connect service at {address:?}: {e}"))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    match client.unary(request, path, codec).await {
        Ok(answer) if answer.get_ref().status == SERVING => Ok(()),
        Ok(answer) => {
            let name = usize::try_from(answer.get_ref().status).ok().and_then(|s| STATUS_NAMES.get(s));
            Err(format!("service unhealthy (responded with {:?})", name.unwrap_or(&"UNKNOWN")))
        }
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
                .to_owned()
                + status.message())
        }
        Err(status) => Err(format!("error: health rpc probe failed: {}", status.message())),
    }
}
