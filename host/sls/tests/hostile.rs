//! Property tests: every parser either accepts or rejects mutated input, without a panic. The fuzzer calls the same
//! functions.

#[path = "hostile/mod.rs"]
pub mod checks;

use logship_sls::compression::Compression;
use logship_sls::log_group::{Header, LogGroupBuilder, frame_header};
use proptest::prelude::*;
use proptest::sample::Index;

/// A mutation of the input.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<Index>().prop_map(Mutation::Remove),
        any::<Index>().prop_map(Mutation::Truncate),
    ]
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    proptest::collection::vec(mutation(), 0..4)
}

fn mutate(seed: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for mutation in mutations {
        match mutation {
            Mutation::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
            _ if bytes.is_empty() => {}
            Mutation::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Mutation::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

fn group() -> Vec<u8> {
    let header = Header {
        topic: Some(b"t"),
        source: Some(b"10.0.0.1"),
        tags: &[(b"host", b"h")],
        ..Header::default()
    };
    let mut group = LogGroupBuilder::new(&header);
    for index in 0..6_u32 {
        let mut log = group.begin_log(1_700_000_000 + index, (index % 2 == 0).then_some(index));
        log.field("status", "200");
        log.field("request", format!("/index/{index}?{}", "x".repeat(index as usize * 30)));
        log.end_log();
    }
    group.finish()
}

fn package_list() -> Vec<u8> {
    let group = group();
    let mut list = vec![];
    for (number, compression) in [(2, Compression::Lz4), (3, Compression::Zstd), (1, Compression::Deflate)] {
        let data = compression.compress(&group).unwrap();
        let [low, high] = [group.len() as u8 | 0x80, (group.len() >> 7) as u8];
        let package = [&*frame_header(data.len()), &data, &[0x10, low, high, 0x18, number]].concat();
        list.extend_from_slice(&frame_header(package.len()));
        list.extend_from_slice(&package);
    }
    list
}

fn body(selector: u8, compression: Compression) -> Vec<u8> {
    let group = group();
    let size = (group.len() as u32).to_le_bytes();
    [&[selector, size[0], size[1], size[2]], &*compression.compress(&group).unwrap()].concat()
}

const REQUEST: &[u8] = b"SLS4-HMAC-SHA256 Credential=id/20261123/local/sls/aliyun_v4_request,Signature=00ff\nGET\n/logstores/l/shards/0\ntype=log&cursor=MQ%3D%3D\nHost: p.h\nx-log-date: 20261123T093321Z\nDate: Mon, 23 Nov 2026 09:33:21 GMT\nx-log-signaturemethod: hmac-sha1\n\nbody";

#[test]
fn seeds_are_valid() {
    use logship_sls::log_group::{LogGroupView, packages};
    let list = package_list();
    let found: Vec<_> =
        packages(&list).map(|package| package.unwrap().decompress(1 << 20).unwrap()).collect();
    assert_eq!(found, [group(), group(), group()]);
    assert_eq!(LogGroupView::parse(&group()).unwrap().log_count(), 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn log_groups(mutations in mutations()) {
        checks::log_group(&mutate(&group(), &mutations));
    }

    #[test]
    fn package_lists(mutations in mutations()) {
        checks::package_list(&mutate(&package_list(), &mutations));
    }

    #[test]
    fn bodies(mutations in mutations(), selector in 0_u8..4) {
        let all = [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Deflate];
        checks::compression(&mutate(&body(selector, all[usize::from(selector)]), &mutations));
    }

    #[test]
    fn blocks(mutations in mutations(), parts in any::<u8>()) {
        let block = Compression::Lz4.compress(&group()).unwrap();
        checks::splice(&mutate(&[&[parts], &*block].concat(), &mutations));
    }

    #[test]
    fn cursors(mutations in mutations()) {
        checks::cursor(&mutate(b"MTQ0NzMyOTQwMTEwMjEzMDkwNA==", &mutations));
        checks::cursor(&mutate(b"ef0123456789abcdef0123456789abcd", &mutations));
    }

    #[test]
    fn queries(mutations in mutations()) {
        checks::query(&mutate(b"type=log&cursor=MQ%3D%3D&count=1&q=a+b%C3%BC", &mutations));
    }

    #[test]
    fn signatures(mutations in mutations()) {
        checks::signature(&mutate(REQUEST, &mutations));
        checks::signature(&mutate(&[b"LOG id:AAAA", &REQUEST[82..]].concat(), &mutations));
    }
}
