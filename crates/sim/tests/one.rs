use sim::*;
#[test]
fn seeds() {
    let get = |n: &str, d: u64| std::env::var(n).ok().and_then(|s| s.parse().ok()).unwrap_or(d);
    let (from, n) = (get("FROM", 1), get("N", 1));
    let keep = if std::env::var("TRACE").is_ok() { Keep::Print } else { Keep::Digest };
    let bugs: Vec<Option<Bug>> = match std::env::var("BUG").as_deref() { Ok("all") => Bug::ALL.iter().map(|b| Some(*b)).collect(), Ok(b) => vec![Bug::ALL.iter().find(|x| format!("{x:?}") == b).copied()], Err(_) => vec![None] };
    for bug in bugs {
    let mut found = 0;
    for seed in from..from + n {
        let plan = Plan { bug, ..Plan::new(seed) };
        let t = std::time::Instant::now();
        let report = run(plan, &plan.schedule(), keep);
        let f = report.verdict.as_ref().err();
        if bug.is_some() { if let Some(f) = f { found += 1; if found <= 3 { println!("{bug:?} {seed} {}", f.to_string().chars().take(300).collect::<String>()); } } }
        else { println!("{seed}: {:?} {:?} {:x} {:?}", t.elapsed(), report.statistics, report.digest, f.map(|f| f.to_string())); }
    }
    if bug.is_some() { println!("== {bug:?} found by {found} of {n}"); }
    }
}
