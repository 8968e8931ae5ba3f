use fastrand::Rng;

use super::Source;
use super::pick::{Skewed, skewed_number};
use super::template::Template;
use super::text::{push_id, push_number, push_thousandths};

/// Access logs of some web servers, in nginx's JSON form.
#[derive(Debug)]
pub(crate) struct Access {
    rng: Rng,
    /// The current server. A server's logs are consecutive, as collectors send them in batches.
    server: usize,
    /// Remaining logs of the current server's batch.
    remaining: u32,
    pages: Skewed<Page>,
    hosts: Skewed<&'static str>,
    referers: Skewed<Template>,
    agents: Skewed<String>,
    clients: Skewed<[u8; 4]>,
}

#[derive(Debug)]
struct Page {
    method: &'static str,
    path: Template,
}

impl Source for Access {
    fn new(mut rng: Rng) -> Self {
        let clients: Vec<_> = (0..1500).map(|_| client(&mut rng)).collect();
        let page = |&(method, path): &(_, &str)| Page { method, path: Template::in_string(path) };
        Self {
            rng,
            server: 0,
            remaining: 0,
            pages: Skewed::new(PAGES.iter().map(page)),
            hosts: Skewed::new(HOSTS),
            referers: Skewed::new(REFERERS.map(Template::in_string)),
            agents: Skewed::new(agents()),
            clients: Skewed::new(clients),
        }
    }

    fn push(&mut self, out: &mut Vec<u8>, time: u64) {
        self.next_log();
        let rng = &mut self.rng;
        let (source, name) = SERVERS[self.server];
        let page = self.pages.pick(rng);
        let status = if page.method == "POST" && rng.u8(..4) == 0 { "201" } else { status(rng) };
        out.extend_from_slice(b"{\"__time__\":");
        push_number(out, time);
        out.extend_from_slice(b",\"__topic__\":\"nginx_access\",\"__source__\":\"");
        out.extend_from_slice(source.as_bytes());
        out.extend_from_slice(b"\",\"__tag__:__hostname__\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\",\"method\":\"");
        out.extend_from_slice(page.method.as_bytes());
        out.extend_from_slice(b"\",\"path\":\"");
        page.path.push(out, rng, &WORDS);
        out.extend_from_slice(b"\",\"status\":");
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b",\"bytes\":");
        push_number(out, if matches!(status, "304" | "499") { 0 } else { 150 + skewed_number(rng, 20) });
        out.extend_from_slice(b",\"latency\":");
        push_thousandths(out, 1 + skewed_number(rng, 12));
        out.extend_from_slice(b",\"host\":\"");
        out.extend_from_slice(self.hosts.pick(rng).as_bytes());
        out.extend_from_slice(b"\",\"client_ip\":\"");
        push_address(out, self.clients.pick(rng));
        out.extend_from_slice(b"\",\"referer\":\"");
        self.referers.pick(rng).push(out, rng, &WORDS);
        out.extend_from_slice(b"\",\"user_agent\":\"");
        out.extend_from_slice(self.agents.pick(rng).as_bytes());
        out.extend_from_slice(b"\",\"request_id\":\"");
        push_id(out, rng);
        out.extend_from_slice(b"\"}\n");
    }
}

impl Access {
    /// Switches to another server at the end of a batch.
    fn next_log(&mut self) {
        if self.remaining == 0 {
            self.server = self.rng.usize(..SERVERS.len());
            self.remaining = self.rng.u32(50..500);
        }
        self.remaining -= 1;
    }
}

/// Returns an IP address of the blocks reserved for documentation and benchmarks.
fn client(rng: &mut Rng) -> [u8; 4] {
    match rng.u8(..4) {
        0 => [203, 0, 113, rng.u8(1..255)],
        1 => [198, 51, 100, rng.u8(1..255)],
        _ => [198, 18 + rng.u8(..2), rng.u8(..), rng.u8(1..255)],
    }
}

fn push_address(out: &mut Vec<u8>, address: &[u8; 4]) {
    for (index, byte) in address.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        push_number(out, u64::from(*byte));
    }
}

const SERVERS: [(&str, &str); 4] =
    [("10.0.3.11", "web-1"), ("10.0.3.12", "web-2"), ("10.0.3.13", "web-3"), ("10.0.4.21", "edge-1")];

const PAGES: [(&str, &str); 32] = [
    ("GET", "/"),
    ("GET", "/product/#"),
    ("GET", "/static/js/app.#.js"),
    ("GET", "/api/v1/products?category=^&page=#"),
    ("GET", "/search?q=^+^&sort=price"),
    ("GET", "/images/product/#/large.webp"),
    ("POST", "/api/v1/cart/items"),
    ("GET", "/api/v1/cart"),
    ("GET", "/category/^?page=#"),
    ("GET", "/static/css/main.#.css"),
    ("POST", "/api/v1/session"),
    ("GET", "/healthz"),
    ("GET", "/api/v1/orders/#"),
    ("POST", "/api/v1/orders"),
    ("GET", "/favicon.ico"),
    ("GET", "/api/v1/users/#/recommendations?limit=20&seed=#"),
    ("GET", "/checkout/address"),
    ("GET", "/checkout/payment"),
    ("PUT", "/api/v1/cart/items/#"),
    ("GET", "/blog/^-and-^-in-practice"),
    ("GET", "/api/v1/products/#/reviews?page=#"),
    ("HEAD", "/"),
    ("GET", "/account/orders?from=2025-#"),
    ("DELETE", "/api/v1/cart/items/#"),
    ("GET", "/robots.txt"),
    ("GET", "/sitemap.xml"),
    ("GET", "/api/v2/search/suggest?prefix=^&lang=de"),
    ("OPTIONS", "/api/v1/orders"),
    ("PATCH", "/api/v1/users/#"),
    ("GET", "/search?q=caf%C3%A9"),
    ("GET", "/wp-login.php"),
    ("GET", "/.env"),
];

/// Returns a random HTTP status. Most are 200.
fn status(rng: &mut Rng) -> &'static str {
    const REST: [&str; 8] = ["301", "302", "499", "401", "403", "500", "502", "504"];
    match rng.usize(..100) {
        ..84 => "200",
        84..90 => "304",
        90..92 => "404",
        rest => REST[rest - 92],
    }
}

const HOSTS: [&str; 5] =
    ["shop.example.com", "www.example.com", "api.example.com", "img.example.net", "m.example.com"];

const REFERERS: [&str; 10] = [
    "-",
    "https://www.example.com/",
    "https://shop.example.com/product/#",
    "https://shop.example.com/search?q=^+^",
    "https://search.example.org/",
    "https://shop.example.com/category/^",
    "https://shop.example.com/checkout/address",
    "https://news.example.org/^/#",
    "android-app://com.example.shop/",
    "https://mail.example.net/",
];

/// Words in paths and queries that need no escaping.
const WORDS: [&str; 24] = [
    "shoes", "jacket", "lamp", "coffee", "garden", "books", "camera", "bicycle", "kettle", "desk", "chair",
    "tent", "phone", "wool", "linen", "toys", "violin", "paint", "honey", "tea", "soap", "mirror", "clock",
    "rug",
];

/// Returns forty user agents, in order of frequency.
fn agents() -> Vec<String> {
    let chrome = |system: &str, version: u32| {
        format!(
            "Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
        )
    };
    let firefox = |system: &str, version: u32| {
        format!("Mozilla/5.0 ({system}; rv:{version}.0) Gecko/20100101 Firefox/{version}.0")
    };
    let mut agents = vec![];
    for version in [141, 140, 139, 138] {
        agents.push(chrome("Windows NT 10.0; Win64; x64", version));
        agents.push(chrome("Linux; Android 10; K", version));
        agents.push(chrome("Macintosh; Intel Mac OS X 10_15_7", version));
        agents.push(chrome("X11; Linux x86_64", version));
        agents.push(firefox("Windows NT 10.0; Win64; x64", version + 2));
        agents.push(firefox("X11; Linux x86_64", version + 2));
    }
    agents.extend(OTHER_AGENTS.map(str::to_owned));
    agents
}

const OTHER_AGENTS: [&str; 16] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "curl/8.14.1",
    "python-requests/2.32.4",
    "Go-http-client/2.0",
    "okhttp/5.1.0",
    "kube-probe/1.33",
    "Apache-HttpClient/5.5 (Java/21.0.8)",
    "PostmanRuntime/7.45.0",
    "Wget/1.25.0",
    "ExampleShop/4.12.0 (iOS 18.6; iPhone15,2)",
    "ExampleShop/4.11.3 (Android 15; Pixel 8)",
    "axios/1.11.0",
];
