//! Health and metrics over HTTP.

use crate::metrics::Metrics;
use crate::store::BlockStore;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the pages show.
#[derive(Clone)]
pub struct Web {
    pub store: BlockStore,
    pub metrics: Arc<Metrics>,
    pub registered: Arc<AtomicBool>,
}

impl Web {
    /// Gauges that follow from other state are set when somebody looks.
    fn refresh(&self) {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let directories = self.store.directories();
        let working = || directories.iter().filter(|dir| dir.lost.is_empty());
        let metrics = &self.metrics;
        metrics.capacity_bytes.set(signed(working().map(|dir| dir.capacity_bytes).sum()));
        metrics.used_bytes.set(signed(working().map(|dir| dir.used_bytes).sum()));
        metrics.kept_bytes.set(signed(self.store.kept_bytes()));
        metrics.blocks.set(i64::try_from(self.store.block_count()).unwrap_or(i64::MAX));
        metrics.budget_bytes.set(signed(self.store.budget().total_bytes()));
        metrics.budget_held_bytes.set(signed(self.store.budget().held_bytes()));
        metrics.registered.set(i64::from(self.registered.load(Ordering::Relaxed)));
    }
}

/// `/healthz`: the process lives. `/readyz`: a master accepts this worker. `/metrics/…`: what it counts.
pub fn router(web: Web) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics/json", get(json))
        .route("/metrics/json/", get(json))
        .route("/metrics/prometheus", get(prometheus))
        .route("/metrics/prometheus/", get(prometheus))
        .with_state(web)
}

async fn ready(State(web): State<Web>) -> (StatusCode, &'static str) {
    if web.registered.load(Ordering::Relaxed) {
        (StatusCode::OK, "registered\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no master has accepted this worker yet\n")
    }
}

async fn json(State(web): State<Web>) -> Json<serde_json::Value> {
    web.refresh();
    Json(web.metrics.json())
}

async fn prometheus(State(web): State<Web>) -> impl IntoResponse {
    web.refresh();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], web.metrics.prometheus())
}
