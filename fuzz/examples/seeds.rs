//! Writes the seeds into `corpus/<target>/`, which libFuzzer reads and adds to.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for seed in ringmq_fuzz::seeds(&folder.join("..")) {
        let count = counts.entry(seed.target).or_default();
        *count += 1;
        let corpus = folder.join("corpus").join(seed.target);
        fs::create_dir_all(&corpus)?;
        fs::write(corpus.join(format!("seed-{count:04}")), seed.bytes)?;
    }
    for (target, _) in ringmq_fuzz::TARGETS {
        println!("{target}: {} seeds", counts.get(target).copied().unwrap_or_default());
    }
    Ok(())
}
