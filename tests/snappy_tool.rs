//! `snappy_tool`, which decompresses objects.

use crate::support;

use std::fs;
use std::process::Command;

fn tool(args: &[&std::path::Path]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_snappy_tool")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn decompresses_object() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let logs: String = (0..5000).map(|number| format!("{{\"__time__\":1,\"n\":\"{number}\"}}\n")).collect();
    fs::write(folder.join("logs.ndjson"), logs).unwrap();
    for compression in ["none", "snappy"] {
        let shipped = support::logship()
            .current_dir(folder)
            .args(["ship", "logs.ndjson", "--to", compression, "--compression", compression])
            .status();
        assert!(shipped.unwrap().success());
    }
    let plain = fs::read(&support::objects(&folder.join("none"))[0]).unwrap();
    let object = &support::objects(&folder.join("snappy"))[0];
    let (success, output, _) = tool(&[object, &folder.join("out")]);
    assert!(success);
    let compressed = fs::metadata(object).unwrap().len();
    let expected =
        format!("compressed size: {compressed}\nsuccess: true\nuncompressed size: {}\n", plain.len());
    assert_eq!(output, expected);
    assert!(fs::read(folder.join("out")).unwrap() == plain);
}

#[test]
fn rejects_invalid_input() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, "not snappy at all").unwrap();
    let (success, _, error) = tool(&[&text, &folder.path().join("out")]);
    assert!(!success && error.contains("not a raw snappy block"), "{error}");
    assert!(!folder.path().join("out").exists());
    let (success, _, error) = tool(&[&folder.path().join("gone"), &text]);
    assert!(!success && error.contains("can't read"), "{error}");
    assert!(tool(&[]).2.contains("usage: snappy_tool IN OUT"));
}
