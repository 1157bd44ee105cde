//! The conformance suite on every store we have.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::fake_cos::FakeCos;
use support::{S3, layered, local};
use types::Secret;
use ufs::conformance::run_all;
use ufs::{CosOptions, LayerOptions, MemoryStore, ObjectStore, S3Options, UnderStore};

#[tokio::test]
async fn memory() {
    run_all(async || Arc::new(MemoryStore::new("conformance")) as Arc<dyn UnderStore>).await;
}

#[tokio::test]
async fn memory_behind_the_layer() {
    run_all(async || {
        let store = Arc::new(MemoryStore::new("conformance"));
        Arc::new(layered(store, LayerOptions::default())) as Arc<dyn UnderStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let count = AtomicU64::new(0);
    run_all(async || {
        let base = dir.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&base).expect("a base");
        local(&base)
    })
    .await;
    let left: Vec<_> = walk(dir.path()).into_iter().filter(|name| name.contains(ufs::RESERVED_PREFIX)).collect();
    assert_eq!(left, Vec::<String>::new(), "temporary files are left");
}

fn walk(path: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry")) {
        found.push(entry.path().display().to_string());
        if entry.file_type().expect("a type").is_dir() {
            found.extend(walk(&entry.path()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_whole_bucket() {
    s3_suite("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_below_a_prefix() {
    s3_suite("/some/pre fix").await;
}

async fn s3_suite(prefix: &str) {
    let s3 = S3::start();
    let count = AtomicU64::new(0);
    run_all(async || {
        let bucket = format!("bucket-{}", count.fetch_add(1, Ordering::Relaxed));
        s3.server.create_bucket(&bucket).expect("a bucket");
        s3.server.put(&bucket, "some/pre fiy", b"a neighbour of the prefix").expect("an object");
        if prefix.is_empty() {
            s3.server.delete(&bucket, "some/pre fiy").expect("removed");
        }
        s3.store(&format!("s3://{bucket}{prefix}"))
    })
    .await;
    testkit::try_eventually_async(std::time::Duration::from_secs(10), async || s3.server.open_uploads() == 0)
        .await
        .expect("every upload is completed or aborted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cos_by_its_own_protocol() {
    for prefix in ["", "pre/fix"] {
        run_all(async || Arc::new(cos(FakeCos::default(), prefix)) as Arc<dyn UnderStore>).await;
    }
}

fn cos(fake: FakeCos, prefix: &str) -> ObjectStore {
    let credential = ufs::Credential { id: Secret::new("cosid"), key: Secret::new("coskey"), token: None };
    let options = CosOptions {
        bucket: "bucket-1250000000".into(),
        prefix: prefix.into(),
        endpoint: "https://cos.test.example".into(),
        credential: Some(credential),
    };
    ObjectStore::cos_with_transport(options, fake).expect("valid settings")
}

/// COS lists through OpenDAL without a starting point: pages go on by the cursor, not from the start.
#[tokio::test]
async fn a_large_cos_directory_is_listed_once() {
    let fake = FakeCos::default();
    let store = cos(fake.clone(), "");
    for at in 0..300 {
        ufs::conformance::put(&store, &format!("d/{at:03}"), "x").await;
    }
    let (mut after, mut seen) = (None, 0);
    let before = fake.listings();
    loop {
        let page = store.list(&ufs::conformance::key("d/"), after.as_ref(), 10).await.expect("a page");
        seen += page.entries.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 300);
    assert_eq!(fake.listings() - before, 30, "one request a page");
}

#[test]
fn options_do_not_print_credentials() {
    let credential = ufs::Credential {
        id: Secret::new("visible-id"),
        key: Secret::new("visible-key"),
        token: Some(Secret::new("tok")),
    };
    let options = S3Options {
        bucket: "b".into(),
        prefix: String::new(),
        endpoint: None,
        region: Some("r".into()),
        is_path_style: false,
        credential: Some(credential),
    };
    let shown = format!("{options:?}");
    assert!(!shown.contains("visible") && !shown.contains("tok\""), "{shown}");
}
