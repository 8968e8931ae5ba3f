//! Checks of every parser of untrusted input. Each function takes arbitrary bytes and panics if an invariant is
//! violated. The tests pass mutations of valid input; the fuzzer (`fuzz/`) generates its own input.

use logship_sls::compression::Compression;
use logship_sls::cursor::Cursor;
use logship_sls::error::ApiError;
use logship_sls::hash_key::{HashKey, HashRange};
use logship_sls::log_group::{
    Header, LogGroupBuilder, LogGroupView, Visitor, frame_header, groups, packages,
};
use logship_sls::lz4_splice::{self, BlockWriter};
use logship_sls::query::{self, Query};
use logship_sls::signature::{AccessKey, Authorization, Request, v1, v4};

/// The limit of decompressed sizes, in bytes.
const LIMIT: usize = 1 << 20;

type Log = (u32, Option<u32>, Vec<(Vec<u8>, Vec<u8>)>);

#[derive(Default)]
struct Collect {
    logs: Vec<Log>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Visitor for Collect {
    fn field(&mut self, key: &[u8], value: &[u8]) {
        self.fields.push((key.to_vec(), value.to_vec()));
    }

    fn end_log(&mut self, time: u32, nanos: Option<u32>) {
        self.logs.push((time, nanos, std::mem::take(&mut self.fields)));
    }
}

fn collect_logs(bytes: &[u8]) -> Vec<Log> {
    let mut collect = Collect::default();
    LogGroupView::parse_into(bytes, &mut collect).expect("it was parsed before");
    collect.logs
}

/// Both ways to read a group return the same logs, and a group built from these logs has the same content.
pub fn log_group(bytes: &[u8]) {
    for group in groups(bytes).flatten() {
        assert!(group.len() < bytes.len());
    }
    let Ok(view) = LogGroupView::parse(bytes) else { return };
    let logs = collect_logs(bytes);
    let fields = |log: logship_sls::log_group::LogView<'_>| {
        log.fields().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    };
    let from_iterator: Vec<Log> = view.logs().map(|log| (log.time(), log.nanos(), fields(log))).collect();
    assert_eq!(logs, from_iterator);
    assert_eq!(logs.len(), view.log_count() as usize);
    assert_eq!(view.newest_time(), logs.iter().map(|log| log.0).max());

    let header = Header {
        topic: Some(view.topic()),
        source: Some(view.source()),
        machine_uuid: Some(view.machine_uuid()),
        tags: view.tags(),
    };
    let mut builder = LogGroupBuilder::new(&header);
    for (time, nanos, fields) in &logs {
        let mut log = builder.begin_log(*time, *nanos);
        fields.iter().for_each(|(key, value)| log.field(key, value));
        log.end_log();
    }
    let built = builder.finish();
    let copy = LogGroupView::parse(&built).expect("a built group is valid");
    assert_eq!((copy.topic(), copy.source(), copy.tags()), (view.topic(), view.source(), view.tags()));
    assert_eq!(collect_logs(&built), logs);
    let list = [&*frame_header(built.len()), &built, &*frame_header(0)].concat();
    assert_eq!(groups(&list).collect::<Vec<_>>(), [Ok(&built[..]), Ok(b"")]);
}

/// Packages are within their list, and decompress to their declared size.
pub fn package_list(bytes: &[u8]) {
    for package in packages(bytes).flatten() {
        assert!(package.data.len() < bytes.len());
        if let Ok(group) = package.decompress(LIMIT) {
            assert_eq!(group.len(), package.raw_size.map_or(package.data.len(), |size| size as usize));
            assert!(group.len() <= LIMIT);
        }
    }
}

/// Decompression allocates at most the declared size, and compressed bytes round-trip. The first byte selects the
/// compression; the next three are the declared size.
pub fn compression(bytes: &[u8]) {
    let Some((&[selector, a, b, c], body)) = bytes.split_first_chunk() else { return };
    let compression = [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Deflate]
        [usize::from(selector % 4)];
    let raw_size = u32::from_le_bytes([a, b, c, 0]) as usize;
    match compression.decompress(body, raw_size, LIMIT) {
        Ok(raw) => {
            assert!(raw_size <= LIMIT);
            assert_eq!(raw.len(), raw_size);
            assert!(raw.capacity() <= raw_size.max(8), "{} for {raw_size}", raw.capacity());
        }
        Err(error) => assert!(ApiError::from(error).status() == 400),
    }
    let compressed = compression.compress(body).expect("enough memory");
    assert_eq!(compression.decompress(&compressed, body.len(), LIMIT).as_deref(), Ok(body));
    assert!(compression.decompress(&compressed, body.len() + 1, LIMIT).is_err());
}

/// A spliced block decompresses to the concatenated contents of its parts, and invalid blocks are rejected. The first
/// byte selects the number of parts.
pub fn splice(bytes: &[u8]) {
    let Some((&parts, rest)) = bytes.split_first() else { return };
    let is_block = BlockWriter::default().block(rest).is_ok();
    assert_eq!(is_block, lz4_splice::check(rest).is_ok());
    // The input itself is spliced too, if it is a block.
    let own_content = is_block.then(|| lz4_flex::block::decompress(rest, LIMIT).ok()).flatten();
    let mut writer = BlockWriter::default();
    let mut expected = vec![];
    for part in rest.chunks(rest.len() / usize::from(parts % 8 + 1) + 1) {
        let literals = &part[..part.len() / 3];
        writer.literals(literals);
        writer.block(&lz4_flex::block::compress(part)).expect("it is a block");
        expected.extend_from_slice(literals);
        expected.extend_from_slice(part);
        if let Some(own_content) = &own_content {
            writer.block(rest).expect("it was accepted before");
            expected.extend_from_slice(own_content);
        }
    }
    let block = writer.finish();
    assert!(lz4_splice::check(&block).is_ok());
    let content = lz4_flex::block::decompress(&block, expected.len()).expect("it is a block");
    assert!(content == expected, "{} bytes for {}", content.len(), expected.len());
}

/// Each cursor has exactly one text.
pub fn cursor(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(cursor) = Cursor::decode(&text) {
        assert_eq!(cursor.encode(), text.trim());
    }
    if let Ok(key) = text.parse::<HashKey>() {
        assert_eq!(key.to_string(), text.to_lowercase());
        assert_eq!(HashRange::evenly(7).filter(|range| range.contains(key)).count(), 1);
    }
    let _ = ApiError::from_json(bytes);
    let _ = Compression::from_header(&text);
    let _ = Compression::from_accept_encoding(&text);
}

/// A parsed query round-trips.
pub fn query(bytes: &[u8]) {
    if let Ok(query) = Query::parse(&String::from_utf8_lossy(bytes)) {
        // A pair with an empty key and value is encoded as `=`, and kept.
        assert_eq!(Query::parse(&query::encode(query.pairs())).as_ref(), Ok(&query));
    }
}

/// Unsigned requests are rejected, and signed requests accepted. The lines of the input are Authorization, method,
/// path, query, headers up to an empty line, and the body.
pub fn signature(bytes: &[u8]) {
    const NOW: u64 = 1_795_426_401;
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (authorization, method, path, raw_query) = (line(), line(), line(), line());
    let Ok(query) = Query::parse(raw_query) else { return };
    let headers: Vec<(String, String)> = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let body = lines.collect::<Vec<_>>().join("\n");
    let request = Request { method, path, query: query.pairs(), headers: &headers, body: body.as_bytes() };
    if let Ok(authorization) = Authorization::parse(authorization) {
        let result = authorization.verify("a secret that no fuzzer finds", &request, NOW);
        let error = ApiError::from(result.expect_err("an unsigned request"));
        assert!([400, 401].contains(&error.status()));
    }
    let key = AccessKey { id: "id", secret: "secret" };
    for added in [v1::sign(&key, &request, NOW), v4::sign(&key, "local", &request, NOW)] {
        check_signed(&request, &added, NOW);
    }
}

fn check_signed(request: &Request<'_>, added: &[(&'static str, String)], now: u64) {
    let mut headers: Vec<_> = added.iter().map(|(name, value)| (*name, &**value)).collect();
    headers.extend(request.headers);
    let request = Request { headers: &headers, ..*request };
    let authorization = headers.iter().find(|(name, _)| *name == "authorization").expect("it is signed");
    let authorization = Authorization::parse(authorization.1).expect("a valid form");
    assert_eq!(authorization.verify("secret", &request, now + 900), Ok(()));
    assert!(authorization.verify("Secret", &request, now).is_err());
    assert!(authorization.verify("secret", &request, now + 901).is_err());
    let body = [request.body, b"!"].concat();
    assert!(authorization.verify("secret", &Request { body: &body, ..request }, now).is_err());
    let path = format!("{}!", request.path);
    assert!(authorization.verify("secret", &Request { path: &path, ..request }, now).is_err());
}
