//! `/healthz`, `/readyz` and `/metrics`, on a listener of their own.
//!
//! SECURITY: apart from the published hosts, so that no header or path of a visitor ever reaches an
//! unauthenticated endpoint (GHSA-5hvv-m4w4-gf6v).

use std::sync::Arc;

use http::Request;
use http::Response;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;

use crate::model::body;
use crate::model::body::Body;
use crate::telemetry::metrics::Reading;
use crate::telemetry::metrics::metrics;

/// One thing that must work before traffic is welcome.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// The part's name.
    pub part: &'static str,
    /// Whether it works.
    pub ready: bool,
    /// What is known about it.
    pub detail: String,
}

/// What is known at a moment.
pub struct State {
    /// What must work.
    pub parts: Vec<Readiness>,
    /// Which configuration serves, and why a changed one does not.
    pub configuration: serde_json::Value,
    /// Certificates that are ordered, as far as any is missing or not renewed.
    ///
    /// Not among the parts: a host without a certificate gets one only if a balancer lets the authority through to us.
    pub ordered: serde_json::Value,
    /// For `/metrics`.
    pub readings: Vec<Reading>,
}

/// Answers on `listener` until the task is dropped; `readiness` is asked for each `/readyz`.
pub async fn serve(listener: TcpListener, readiness: Arc<dyn Fn() -> State + Send + Sync>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let readiness = Arc::clone(&readiness);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &*readiness);
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(5))
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "an ops connection ended early");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, readiness: &dyn Fn() -> State) -> Response<Body> {
    if request.uri().path() == "/metrics" {
        return metrics_text(&readiness().readings);
    }
    let (status, content) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, String::from("{\"alive\":true}\n")),
        "/readyz" => {
            let State {
                parts,
                configuration,
                ordered,
                ..
            } = readiness();
            let ready = parts.iter().all(|part| part.ready);
            let listed: Vec<_> = parts
                .iter()
                .map(|p| serde_json::json!({"part": p.part, "ready": p.ready, "detail": p.detail}))
                .collect();
            let status = if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            (
                status,
                format!(
                    "{}\n",
                    serde_json::json!({
                        "ready": ready, "parts": listed, "configuration": configuration, "acme": ordered
                    })
                ),
            )
        }
        _ => (
            StatusCode::NOT_FOUND,
            String::from("{\"error\":\"path-unknown\"}\n"),
        ),
    };
    let mut response = Response::new(body::full(content));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

fn metrics_text(now: &[Reading]) -> Response<Body> {
    let Ok(text) = metrics().text(now) else {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = Response::new(body::full(text));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(kind),
    );
    response
}
