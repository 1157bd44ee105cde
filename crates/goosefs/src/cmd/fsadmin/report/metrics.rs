//! `goosefs fsadmin report metrics`

use client::{FileSystem, MetricValue};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub async fn run(fs: &FileSystem, json: bool) -> anyhow::Result<()> {
    let metrics = fs.metrics().await?;
    if json {
        let value = |metric: MetricValue| match metric {
            MetricValue::Number(number) => json!(number),
            MetricValue::Text(text) => json!(text),
        };
        let document: Map<String, Value> = metrics.into_iter().map(|(name, metric)| (name, value(metric))).collect();
        println!("{}", Value::Object(document));
    } else {
        print!("{}", layout(&metrics));
    }
    Ok(())
}

fn layout(metrics: &BTreeMap<String, MetricValue>) -> String {
    let line = |(name, metric): (&String, &MetricValue)| match metric {
        // Whole numbers print whole: `{}` of 12.0 is 12.
        MetricValue::Number(number) => format!("{name}  {number}\n"),
        MetricValue::Text(text) => format!("{name}  {text}\n"),
    };
    metrics.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_metric_a_line() {
        let metrics = BTreeMap::from([
            ("Master.TotalPaths".to_owned(), MetricValue::Number(12.0)),
            ("Master.Version".to_owned(), MetricValue::Text("0.1.0".into())),
        ]);
        assert_eq!(layout(&metrics), "Master.TotalPaths  12\nMaster.Version  0.1.0\n");
    }
}
