//! The tool that decompresses objects.

mod support;

use std::fs;
use std::process::Command;

fn tool(args: &[&std::path::Path]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_snappy_tool")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_object_is_decompressed_to_what_was_encoded() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    let logs: String = (0..5000).map(|number| format!("{{\"__time__\":1,\"n\":\"{number}\"}}\n")).collect();
    fs::write(place.join("logs.ndjson"), logs).unwrap();
    for compression in ["none", "snappy"] {
        let shipped = support::logship()
            .current_dir(place)
            .args(["ship", "logs.ndjson", "--to", compression, "--compression", compression])
            .status();
        assert!(shipped.unwrap().success());
    }
    let plain = fs::read(&support::objects(&place.join("none"))[0]).unwrap();
    let object = &support::objects(&place.join("snappy"))[0];
    let (success, told, _) = tool(&[object, &place.join("out")]);
    assert!(success);
    let compressed = fs::metadata(object).unwrap().len();
    let expected =
        format!("compressed size: {compressed}\nsuccess: true\nuncompressed size: {}\n", plain.len());
    assert_eq!(told, expected);
    assert!(fs::read(place.join("out")).unwrap() == plain);
}

#[test]
fn what_is_no_block_is_named() {
    let place = tempfile::tempdir().unwrap();
    let text = place.path().join("text");
    fs::write(&text, "not snappy at all").unwrap();
    let (success, _, told) = tool(&[&text, &place.path().join("out")]);
    assert!(!success && told.contains("not a raw snappy block"), "{told}");
    assert!(!place.path().join("out").exists());
    let (success, _, told) = tool(&[&place.path().join("gone"), &text]);
    assert!(!success && told.contains("can't read"), "{told}");
    assert!(tool(&[]).2.contains("usage: snappy_tool IN OUT"));
}
