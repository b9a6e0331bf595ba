//! The conversion webhook: `v1` has a list of beds, `v1alpha1` the same as one string.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::core::Status;
use kube::core::conversion::{ConversionRequest, ConversionResponse, ConversionReview};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A running webhook.
pub struct Webhook {
    pub url: String,
    /// Its certificate, which signs itself, in PEM.
    pub authority: String,
    /// How many objects it has converted.
    pub converted: Arc<AtomicU32>,
}

/// Serves on a free port for as long as the program runs.
pub async fn serve() -> anyhow::Result<Webhook> {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}/convert", listener.local_addr()?);
    let converted = Arc::new(AtomicU32::new(0));
    let count = converted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(move |request| answer(request, count.clone()));
                let server =
                    hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    eprintln!("webhook: {error}");
                }
            });
        }
    });
    Ok(Webhook { url, authority: certified.cert.pem(), converted })
}

async fn answer(request: Request<Incoming>, count: Arc<AtomicU32>) -> anyhow::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: ConversionReview = serde_json::from_slice(&body)?;
    let request = ConversionRequest::from_review(review)?;
    let wanted = request.desired_api_version.clone();
    let objects: anyhow::Result<Vec<Value>> =
        request.objects.iter().map(|object| convert(object.clone(), &wanted)).collect();
    count.fetch_add(request.objects.len() as u32, Ordering::SeqCst);
    let response = ConversionResponse::for_request(request);
    let response = match objects {
        Ok(objects) => response.success(objects),
        Err(error) => response.failure(Status::failure(&error.to_string(), "Invalid")),
    };
    let body = serde_json::to_vec(&response.into_review())?;
    Ok(Response::builder().header("content-type", "application/json").body(Full::new(body.into()))?)
}

fn convert(mut object: Value, wanted: &str) -> anyhow::Result<Value> {
    let spec = object["spec"].as_object_mut().context("no spec")?;
    if wanted.ends_with("/v1") {
        if let Some(list) = spec.remove("list") {
            let beds: Vec<&str> = list.as_str().unwrap_or_default().split(',').collect();
            anyhow::ensure!(!beds.contains(&""), "a bed has no name");
            spec.insert("beds".to_owned(), json!(beds));
        }
    } else if let Some(beds) = spec.remove("beds") {
        let beds: Vec<&str> = beds.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        spec.insert("list".to_owned(), json!(beds.join(",")));
    }
    object["apiVersion"] = json!(wanted);
    Ok(object)
}
