//! What every under store must do: run by each implementation's tests.
//!
//! Is:     a list of checks against any [`UnderStore`], each on an empty store of its own.
//! Owns:   nothing.
//! Never:  knows which store it talks to; where stores may differ, it asks [`crate::Capabilities`].

mod listing;
mod mutation;
mod reading;
mod writing;

use crate::error::UfsError;
use crate::key::Key;
use crate::store::{ObjectInfo, Page, UnderStore, WriteOptions};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::sync::Arc;

/// One check: fails by panicking.
pub type Check = fn(Arc<dyn UnderStore>) -> BoxFuture<'static, ()>;

macro_rules! checks {
    ($($module:ident::$name:ident,)*) => {
        &[$((stringify!($name), |store| Box::pin($module::$name(store))),)*]
    };
}

/// Every check by name.
pub const CHECKS: &[(&str, Check)] = checks! {
    listing::an_empty_store_has_only_its_base,
    listing::one_level_comes_in_key_order_and_exactly_once,
    listing::a_tree_comes_in_key_order_and_exactly_once,
    listing::a_missing_directory_is_an_error,
    listing::a_page_can_be_asked_for_again,
    listing::names_of_every_kind_survive,
    writing::content_of_any_length_comes_back,
    writing::nothing_is_seen_before_the_end,
    writing::an_abandoned_write_leaves_nothing,
    writing::many_writers_do_not_disturb_each_other,
    writing::a_condition_guards_the_object,
    writing::a_directory_cannot_be_written,
    reading::ranges_are_exact,
    reading::a_range_outside_is_an_error,
    reading::a_condition_pins_the_version,
    reading::fingerprints_agree_and_tell_versions_apart,
    reading::what_is_not_there_is_not_found,
    mutation::delete_takes_only_what_is_expected,
    mutation::directories_come_and_go,
    mutation::copy_copies_what_is_expected,
    mutation::rename_moves_in_one_step_or_not_at_all,
    mutation::attributes_change_where_they_exist,
};

/// Runs every check on a fresh store from `make`. The name of the check at work is printed, so a failed test shows it.
pub async fn run_all(make: impl AsyncFn() -> Arc<dyn UnderStore>) {
    for (name, check) in CHECKS {
        println!("conformance: {name}");
        check(make().await).await;
    }
}

/// A key known to be valid.
pub fn key(text: &str) -> Key {
    Key::parse(text).expect("a valid key")
}

/// Writes an object in one go.
pub async fn put(store: &dyn UnderStore, text: &str, content: impl Into<Bytes>) -> ObjectInfo {
    try_put(store, text, content, WriteOptions::default()).await.expect("the object is written")
}

async fn try_put(
    store: &dyn UnderStore,
    text: &str,
    content: impl Into<Bytes>,
    options: WriteOptions,
) -> Result<ObjectInfo, UfsError> {
    let mut writer = store.write(&key(text), options).await?;
    writer.write(content.into()).await?;
    writer.finish().await
}

/// Reads a whole object, pinned to the version just looked up.
pub async fn get(store: &dyn UnderStore, text: &str) -> Bytes {
    let info = store.stat(&key(text)).await.expect("a look").expect("the object is there");
    let read = store.read(&key(text), 0..info.length, info.fingerprint.as_ref()).await.expect("a read");
    read.collect().await.expect("the bytes")
}

/// Content that differs from place to place and from seed to seed.
pub fn pattern(length: usize, seed: u8) -> Bytes {
    let mut state = u32::from(seed) + 1;
    let mut content = Vec::with_capacity(length);
    for _ in 0..length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        content.push(state.to_be_bytes()[0]);
    }
    content.into()
}

/// All pages of a listing, each of at most `limit` entries.
async fn pages(store: &dyn UnderStore, dir: &str, limit: usize, recursive: bool) -> Vec<Page> {
    let (dir, mut pages) = (key(dir), Vec::new());
    let mut after = None;
    loop {
        let page = match recursive {
            false => store.list(&dir, after.as_ref(), limit).await,
            true => store.list_recursive(&dir, after.as_ref(), limit).await,
        };
        let page = page.expect("a page");
        assert!(page.entries.len() <= limit, "a page of {} for a limit of {limit}", page.entries.len());
        after = page.next.clone();
        pages.push(page);
        assert!(pages.len() < 1000, "the listing does not end");
        if after.is_none() {
            return pages;
        }
    }
}

async fn names(store: &dyn UnderStore, dir: &str, limit: usize, recursive: bool) -> Vec<String> {
    let pages = pages(store, dir, limit, recursive).await;
    pages.into_iter().flat_map(|page| page.entries).map(|info| info.key.to_string()).collect()
}
