use super::*;

fn parse(text: &str) -> Result<Config, String> {
    let config =
        Config::parse(text, Path::new("/etc/logship/logship.toml")).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn errors_name_setting_and_range() {
    for (text, expected) in [
        ("[limits]\ngroup-bytes = 1", "limits.group-bytes = 1 is out of range: 65536 to 67108864 (64 MiB)"),
        ("[limits]\nbodies-bytes = 1", "limits.bodies-bytes = 1 is out of range: group-bytes to 4294967296"),
        (
            "[shipping]\nmax-memory-bytes = 1",
            "shipping.max-memory-bytes = 1 is out of range: 134217728 (128 MiB) or more, or 0 for 256 MiB per worker",
        ),
        ("[shipping]\nworkers = 2000", "shipping.workers = 2000 is out of range: 0 (one per core) to 1024"),
        (
            "[shipping]\nkeep-tasks-seconds = 1",
            "shipping.keep-tasks-seconds = 1 is out of range: 60 to 31622400 (a year)",
        ),
        ("[stages]\nwatch-seconds = 4000", "stages.watch-seconds = 4000 is out of range: 0 (never) to 3600"),
        ("[stages]\nallow-wasi = ['sha256:x']", "stages.allow-wasi: \"sha256:x\" is invalid"),
        ("[destinations.f]\ntype = 'function'", "destinations.f: url: \"\" is not a URL"),
        ("\n[receivers.r]\ntype = 'hec'\ntoken = 7", "logship.toml: line 2: receivers.r"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn paths_are_relative_to_file() {
    let text = "data = 'd'\n[shipping]\nspool = 's'\n[destinations.x]\ntype = 'directory'\npath = 'x'\n[receivers.r]\ntype = 'hec'\nurls = []\nca = '/ca.pem'";
    let mut config = parse(text).unwrap();
    assert_eq!(config.data, Path::new("/etc/logship/d"));
    assert_eq!(config.shipping.spool.as_deref(), Some(Path::new("/etc/logship/s")));
    assert_eq!(config.destinations()["x"], DestinationConfig::Directory { path: "/etc/logship/x".into() });
    let receiver = config.receivers.get_mut("r").unwrap();
    assert_eq!(receiver.files(), [Path::new("/ca.pem")]);
    assert_eq!(parse("").unwrap().data, Path::new("logship-data"));
}

#[test]
fn settings_know_their_secrets() {
    let has_secrets = |text: &str| parse(text).unwrap().has_secrets();
    assert!(!has_secrets("[destinations.s]\ntype = 's3'\naccess-key-id = 'a'\nproxy = 'http://proxy:3128'"));
    assert!(has_secrets("[destinations.s]\ntype = 's3'\naccess-key-secret = 's'"));
    assert!(has_secrets("[receivers.r]\ntype = 'hec'\ntoken = 't'"));
}
