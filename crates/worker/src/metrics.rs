//! What a worker counts. Each metric is declared here, once, with its name, unit and meaning.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt::Write;

macro_rules! metrics {
    (counters { $($counter:ident $counter_name:literal $counter_help:literal;)* }
     gauges { $($gauge:ident $gauge_name:literal $gauge_help:literal;)* }) => {
        /// All of a worker's metrics. Counters never fall while the process lives.
        #[derive(Default)]
        pub struct Metrics {
            $(#[doc = $counter_help] pub $counter: Counter,)*
            $(#[doc = $gauge_help] pub $gauge: Gauge,)*
        }

        impl Metrics {
            fn registry(&self) -> Registry {
                let mut registry = Registry::with_prefix("goosefs_worker");
                $(registry.register($counter_name, $counter_help, self.$counter.clone());)*
                $(registry.register($gauge_name, $gauge_help, self.$gauge.clone());)*
                registry
            }

            /// Counters by name, for heartbeats.
            pub fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![$(($counter_name, self.$counter.get()),)*]
            }

            /// Gauges by name.
            pub fn gauges(&self) -> Vec<(&'static str, i64)> {
                vec![$(($gauge_name, self.$gauge.get()),)*]
            }
        }
    };
}

metrics! {
    counters {
        read_bytes "read_bytes" "Bytes sent to readers";
        read_cached_bytes "read_cached_bytes" "Bytes sent to readers that were in the cache";
        read_store_bytes "read_store_bytes" "Bytes sent to readers that came from an under store just then";
        read_streams "read_streams" "Read streams opened";
        read_failures "read_failures" "Read streams that ended with an error";
        write_bytes "write_bytes" "Bytes received for cached blocks";
        write_streams "write_streams" "Write streams of cached blocks opened";
        write_commits "write_commits" "Cached blocks committed by write streams";
        write_cancels "write_cancels" "Write streams given up by their client or failed";
        store_write_bytes "store_write_bytes" "Bytes received for under-store files";
        store_write_streams "store_write_streams" "Write streams of under-store files opened";
        fetches "fetches" "Ranged reads of an under store begun to fill the cache";
        fetch_bytes "fetch_bytes" "Bytes received from under stores to fill the cache";
        fetch_failures "fetch_failures" "Ranged reads of an under store that failed";
        fetch_cancels "fetch_cancels" "Ranged reads of an under store stopped because nobody reads any more";
        passed_bytes "passed_bytes" "Bytes received from under stores and not cached, because of no_cache or no room";
        changed_objects "changed_objects" "Objects found to be another version than the namespace knows";
        damaged_pieces "damaged_pieces" "Pieces whose checksum did not hold when they left the disk";
        damaged_blocks "damaged_blocks" "Blocks whose sidecar or file could not be read";
        evicted_blocks "evicted_blocks" "Blocks that left to make room";
        freed_blocks "freed_blocks" "Blocks removed because a master said so";
        failed_directories "failed_directories" "Times a storage directory stopped taking bytes or was given up";
        resolves "resolves" "Questions to a master about a container";
        heartbeats "heartbeats" "Heartbeats a master answered";
        heartbeat_failures "heartbeat_failures" "Heartbeats that got no answer";
        registrations "registrations" "Registrations a master accepted";
        persisted_files "persisted_files" "Files persisted to an under store";
        persist_failures "persist_failures" "Attempts to persist a file that failed";
    }
    gauges {
        active_reads "active_reads" "Read streams open now";
        active_writes "active_writes" "Write streams open now";
        active_fetches "active_fetches" "Ranged reads of an under store running now";
        active_persists "active_persists" "Files being persisted now";
        budget_bytes "budget_bytes" "Memory block data in flight may take";
        budget_held_bytes "budget_held_bytes" "Memory block data in flight take now";
        capacity_bytes "capacity_bytes" "Quota of all storage directories that work";
        used_bytes "used_bytes" "Bytes of blocks in all storage directories";
        kept_bytes "kept_bytes" "Bytes of blocks that must stay, promised ones included";
        blocks "blocks" "Blocks on this worker";
        registered "registered" "1 while a master accepts this worker's heartbeats";
    }
}

impl Metrics {
    /// All metrics in the Prometheus text format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; should the encoder refuse a name, the page says so.
        if let Err(error) = encode(&mut text, &self.registry()) {
            let _ = writeln!(text, "# {error}");
        }
        text
    }

    /// All metrics as one JSON object.
    pub fn json(&self) -> serde_json::Value {
        let counters = self.counters().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        let gauges = self.gauges().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        serde_json::Value::Object(counters.chain(gauges).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pages_show_a_counted_metric() {
        let metrics = Metrics::default();
        metrics.read_bytes.inc_by(7);
        assert!(metrics.prometheus().contains("goosefs_worker_read_bytes_total 7"), "{}", metrics.prometheus());
        assert_eq!(metrics.json()["read_bytes"], 7);
    }
}
