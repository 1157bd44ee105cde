use sim::*;
#[test]
fn seeds() {
    let from: u64 = std::env::var("FROM").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let n: u64 = std::env::var("N").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let keep = if std::env::var("TRACE").is_ok() { Keep::Print } else { Keep::Digest };
    for seed in from..from + n {
        let plan = Plan::new(seed);
        let t = std::time::Instant::now();
        let report = run(plan, &plan.schedule(), keep);
        println!("{seed}: {:?} {:?} {:x} {:?}", t.elapsed(), report.statistics, report.digest, report.verdict.as_ref().err().map(|f| f.to_string()));
    }
}
