use fastrand::Rng;

use super::Source;
use super::pick::Skewed;
use super::template::Template;
use super::text::{push_id, push_number};

/// Application logs with levels, loggers, various messages, and sometimes an object.
#[derive(Debug)]
pub(crate) struct App {
    rng: Rng,
    server: usize,
    remaining: u32,
    events: Skewed<Event>,
    contexts: Skewed<Template>,
    users: Skewed<String>,
}

#[derive(Debug)]
struct Event {
    level: &'static str,
    logger: &'static str,
    message: Template,
}

impl Source for App {
    fn new(rng: Rng) -> Self {
        let event = |&(level, logger, message): &(_, _, &str)| Event {
            level,
            logger,
            message: Template::in_string(message),
        };
        let user = |name: &&str| serde_json::Value::from(*name).to_string();
        Self {
            rng,
            server: 0,
            remaining: 0,
            events: Skewed::new(EVENTS.iter().map(event)),
            contexts: Skewed::new(CONTEXTS.map(Template::raw)),
            users: Skewed::new(USERS.iter().map(user)),
        }
    }

    fn push(&mut self, out: &mut Vec<u8>, time: u64) {
        self.next_log();
        let rng = &mut self.rng;
        let (source, name) = SERVERS[self.server];
        let event = self.events.pick(rng);
        out.extend_from_slice(b"{\"__time__\":");
        push_number(out, time);
        out.extend_from_slice(b",\"__topic__\":\"app\",\"__source__\":\"");
        out.extend_from_slice(source.as_bytes());
        out.extend_from_slice(b"\",\"__tag__:__hostname__\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(event.level.as_bytes());
        out.extend_from_slice(b"\",\"logger\":\"");
        out.extend_from_slice(event.logger.as_bytes());
        out.extend_from_slice(b"\",\"message\":\"");
        event.message.push(out, rng, &WORDS);
        out.extend_from_slice(b"\",\"trace_id\":\"");
        push_id(out, rng);
        out.extend_from_slice(b"\",\"thread\":\"http-nio-8080-exec-");
        push_number(out, rng.u64(1..=32));
        out.push(b'"');
        self.push_user(out);
        self.push_context(out);
        out.extend_from_slice(b"}\n");
    }
}

impl App {
    /// Switches to another server at the end of a batch.
    fn next_log(&mut self) {
        if self.remaining == 0 {
            self.server = self.rng.usize(..SERVERS.len());
            self.remaining = self.rng.u32(20..200);
        }
        self.remaining -= 1;
    }

    /// Appends the user. Some logs have null, and some lack the field.
    fn push_user(&mut self, out: &mut Vec<u8>) {
        let user = match self.rng.u8(..10) {
            0 | 1 => return,
            2 => "null",
            _ => self.users.pick(&mut self.rng),
        };
        out.extend_from_slice(b",\"user\":");
        out.extend_from_slice(user.as_bytes());
    }

    fn push_context(&mut self, out: &mut Vec<u8>) {
        if self.rng.u8(..3) == 0 {
            out.extend_from_slice(b",\"context\":");
            self.contexts.pick(&mut self.rng).push(out, &mut self.rng, &WORDS);
        }
    }
}

const SERVERS: [(&str, &str); 3] =
    [("10.0.8.4", "app-1"), ("10.0.8.5", "app-2"), ("fd00:8::6", "app-3.berlin.example.com")];

const EVENTS: [(&str, &str, &str); 26] = [
    ("INFO", "com.example.http.RequestLog", "Request finished in # ms"),
    ("INFO", "com.example.checkout.OrderService", "Order # placed: # items, total # EUR"),
    ("DEBUG", "com.example.cache.LocalCache", "Cache miss for key \"product:#\", loading"),
    ("INFO", "com.example.catalog.Search", "Query \"^ ^\" matched # products, showing 20"),
    ("WARN", "com.example.db.Pool", "Connection acquired after # ms, pool is at 90 %"),
    ("INFO", "com.example.auth.Sessions", "User signed in from a new device, session # opened"),
    ("INFO", "com.example.mail.Sender", "Mail \"Your order #\" queued for delivery\tattempt=1"),
    ("DEBUG", "com.example.cart.CartService", "Added # x ^, cart now holds # items"),
    ("INFO", "com.example.payment.支付网关", "支付成功，订单号 #，金额 # 元"),
    (
        "ERROR",
        "com.example.payment.PaymentService",
        "Payment declined: code=#, reason=\"insufficient funds\"",
    ),
    ("INFO", "com.example.catalog.Importer", "Imported # rows from feed_^.csv; skipped #, see report"),
    ("WARN", "com.example.http.Client", "Retrying GET https://stock.example.net/v2/items/# (attempt 2 of 5)"),
    (
        "ERROR",
        "com.example.checkout.OrderService",
        "java.lang.IllegalStateException: stock of ^ is negative (-#)\n\tat com.example.stock.Ledger.take(Ledger.java:118)\n\tat com.example.checkout.OrderService.place(OrderService.java:#)\n\tat java.base/java.lang.Thread.run(Thread.java:1583)\nCaused by: java.sql.SQLException: deadlock detected",
    ),
    ("INFO", "com.example.deploy.Rollout", "🚀 Version 4.12.# is live in ^ — welcome"),
    (
        "INFO",
        "com.example.reviews.Reviews",
        "New review of product #: “Très joli, livré à l’heure. Ça vaut le café !”",
    ),
    ("WARN", "com.example.i18n.Messages", "Übersetzung fehlt: schlüssel='warenkorb.^', größe=#"),
    ("DEBUG", "com.example.template.Render", "Rendered <div class=\"^\" data-id='#'>…</div>"),
    ("INFO", "com.example.stock.Ledger", "Moved # pieces,\"^\", from aisle # to aisle #"),
    ("INFO", "com.example.files.Uploads", "Stored C:\\uploads\\^\\#.png (# bytes)"),
    ("WARN", "com.example.limits.RateLimiter", "Limit reached for token #, next try in # ms"),
    ("INFO", "com.example.chat.Support", "客服消息: “您好，请问 ^ 有货吗？” (#)"),
    (
        "DEBUG",
        "com.example.sql.Statements",
        "select * from orders where id = # and name like '%\\_%'\n-- # rows",
    ),
    ("INFO", "com.example.chat.Support", "お問い合わせ #: ありがとうございます 🙏"),
    ("ERROR", "com.example.http.Server", "Malformed header: \"X-^: \u{1b}[31m\r\n\""),
    ("INFO", "com.example.chat.Support", "Спасибо, заказ # получен 👩‍💻👍🏽"),
    ("INFO", "com.example.heartbeat", ""),
];

/// Raw JSON objects. Some have spaces, as some libraries write them.
const CONTEXTS: [&str; 6] = [
    r#"{"order_id": #, "items": [{"sku": "^-#", "qty": 2}], "express": false}"#,
    r#"{"region":"eu-central","shard":#,"flags":["^","^"]}"#,
    r#"{"retry":{"attempt":2,"delay_ms":#},"cause":null}"#,
    r#"{"ratio": 0.#, "limits": [1e3, -1, #]}"#,
    r#"{"note":"\"^\", says the customer\nand # others","empty":{}}"#,
    r#"{"城市": "柏林", "count": #}"#,
];

const USERS: [&str; 16] = [
    "alice",
    "bob",
    "carol",
    "dmitri",
    "眞子",
    "zoë",
    "o'neill",
    "andré",
    "fatima",
    "李雷",
    "guest",
    "j.r. \"jr\"",
    "ana maria",
    "søren",
    "admin",
    "",
];

const WORDS: [&str; 12] = [
    "shoes", "jacket", "lamp", "coffee", "books", "camera", "kettle", "desk", "tent", "phone", "toys",
    "clock",
];
