//! Helpers shared by the benchmarks.

use logship_batch::batch::LogBatch;
use logship_batch::parser::{Parser, Settings};
use rustix::time::{ClockId, clock_gettime};

/// Returns a log like those of the sample, with about 250 bytes of keys and values.
pub fn line(number: u64) -> String {
    let noise = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let noise = noise ^ (noise >> 29);
    let pick = |from: &[&'static str], shift: u32| from[(noise >> shift) as usize % from.len()];
    let methods = ["GET", "GET", "GET", "POST", "PUT", "DELETE"];
    let hosts = ["www.example.com", "api.example.com", "img.example.net"];
    let agents = [
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:141.0) Gecko/20100101 Firefox/141.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15",
        "curl/8.14.1",
    ];
    format!(
        r#"{{"__time__":{},"__topic__":"nginx_access","__source__":"10.0.3.{}","method":"{}","path":"/api/v1/products/{}?page={}","status":{},"bytes":{},"latency":0.{:03},"host":"{}","client_ip":"198.51.100.{}","referer":"https://news.example.org/article/{}","user_agent":"{}","request_id":"{noise:016x}{:016x}"}}"#,
        1_760_000_000 + number / 300,
        number / 100 % 8,
        pick(&methods, 3),
        noise % 5_003,
        noise % 17,
        if noise.is_multiple_of(19) { 404 } else { 200 },
        noise % 48_611,
        noise % 997,
        pick(&hosts, 7),
        noise % 251,
        noise % 1_021,
        pick(&agents, 11),
        noise.rotate_left(23)
    )
}

/// Returns logs in chunks as the program passes them to a stage: some 512 KiB each.
pub fn chunks(lines: &[String]) -> Vec<LogBatch> {
    let settings =
        Settings { time_field: None, default_time: (0, 0), shards: 1, shard_field: "__source__".into() };
    let mut parser = Parser::new(settings);
    let parse = |block: &[String]| parser.parse((block.join("\n") + "\n").as_bytes()).batches;
    lines.chunks(2_700).flat_map(parse).map(|(_, batch)| batch).collect()
}

/// Returns the size of all keys and values in a batch, in bytes.
pub fn log_bytes(batch: &LogBatch) -> usize {
    let keys: usize = batch.field_keys.iter().map(|&key| batch.keys[key as usize].len()).sum();
    keys + batch.values.len()
}

/// Returns the CPU time of this thread, in seconds: other programs of the machine don't count.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns the median.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
