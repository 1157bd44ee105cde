//! The web port: health for probes, metrics for collectors.

use crate::shared::Shared;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use std::sync::Arc;

/// The routes of the web port.
pub fn routes(shared: Arc<Shared>) -> axum::Router {
    axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics/json", get(json))
        .route("/metrics/json/", get(json))
        .route("/metrics/prometheus", get(prometheus))
        .route("/metrics/prometheus/", get(prometheus))
        .with_state(shared)
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.leads() && shared.config.ready_with_worker && shared.registry.lock().live() == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: the worker has not registered yet\n");
    }
    if shared.is_ready() {
        return (StatusCode::OK, "ready\n");
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: this master does not lead and follows no leader yet\n")
}

async fn json(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Json(crate::metrics::values(&shared))
}

async fn prometheus(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let text = crate::metrics::prometheus(&crate::metrics::values(&shared));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
