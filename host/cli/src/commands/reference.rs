//! Renders `docs/cli.md` from the command line's definition, and proves that the page is current.
//!
//! `BLESS=1 cargo test -p logship --lib reference` renews the page.

use std::collections::HashMap;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;

const INTRODUCTION: &str = "# Commands

<!-- Generated from the definitions in host/cli/src/commands. Change their doc comments, then run: BLESS=1 cargo test -p logship --lib reference -->

`logship COMMAND --help` shows the same texts. An option overrides its environment variable, and both override a settings file:
[settings.md](settings.md). The exit code is 0 after success, 1 after a failure, and 2 if the command line is invalid.
";

#[test]
fn page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = render();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let current = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(current == page, "docs/cli.md is outdated: run BLESS=1 cargo test -p logship --lib reference");
}

#[test]
fn every_option_has_a_description() {
    let mut cli = Cli::command();
    cli.build();
    for command in leaves(&cli) {
        assert!(command.get_about().is_some(), "{}", title(command));
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{} {}", title(command), arg.get_id());
        }
    }
}

fn render() -> String {
    let mut cli = Cli::command();
    cli.build();
    let commands = leaves(&cli);
    let mut page = INTRODUCTION.to_owned() + "\n| command | purpose |\n|---|---|\n";
    for command in &commands {
        let (title, about) = (title(command), sentence(&command.get_about().unwrap().to_string()));
        page += &format!("| [`{title}`](#{}) | {about} |\n", title.replace(' ', "-"));
    }
    let (global, _): (Vec<_>, Vec<_>) = cli.get_arguments().partition(|arg| arg.is_global_set());
    page += &format!("\n## Options of all commands\n\n{}", table("option", &global));
    let mut shown = HashMap::new();
    for command in commands {
        page += &section(command, &global, &mut shown);
    }
    page
}

/// Returns all commands that do something, in the order of the help. Hidden commands are internal.
fn leaves(command: &Command) -> Vec<&Command> {
    let is_shown = |command: &&Command| command.get_name() != "help" && !command.is_hide_set();
    let commands = command.get_subcommands().filter(is_shown);
    commands
        .flat_map(|command| if command.has_subcommands() { leaves(command) } else { vec![command] })
        .collect()
}

fn title(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).to_owned()
}

/// Renders a command. A group of options that an earlier command has too is a link to that command.
fn section(command: &Command, global: &[&Arg], shown: &mut HashMap<String, String>) -> String {
    let title = title(command);
    let about = command.get_long_about().or(command.get_about()).unwrap().to_string();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let mut text = format!("\n## {title}\n\n{}\n\n```text\n{usage}\n```\n", paragraphs(&about));
    let is_shown = |arg: &&Arg| {
        !arg.is_hide_set()
            && !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version)
            && !global.iter().any(|other| other.get_id() == arg.get_id())
    };
    let arguments: Vec<_> = command.get_positionals().filter(is_shown).collect();
    if !arguments.is_empty() {
        text += &format!("\n{}", table("argument", &arguments));
    }
    let mut groups: Vec<(&str, Vec<&Arg>)> = vec![];
    for arg in command.get_arguments().filter(|arg| !arg.is_positional()).filter(is_shown) {
        let heading = arg.get_help_heading().unwrap_or_default();
        match groups.iter_mut().find(|(other, _)| *other == heading) {
            Some((_, args)) => args.push(arg),
            None => groups.push((heading, vec![arg])),
        }
    }
    for (heading, args) in groups {
        let table = table("option", &args);
        // A command that changes one of the options has them in another order.
        let mut rows: Vec<_> = table.lines().collect();
        rows.sort_unstable();
        let rows = rows.join("\n");
        match (heading, shown.get(&rows)) {
            ("", _) => text += &format!("\n{table}"),
            (_, Some(first)) => {
                text +=
                    &format!("\n**{heading}**: the options of [`{first}`](#{}).\n", first.replace(' ', "-"));
            }
            (_, None) => {
                text += &format!("\n**{heading}**\n\n{table}");
                shown.insert(rows, title.clone());
            }
        }
    }
    text
}

fn table(kind: &str, args: &[&Arg]) -> String {
    let mut table = format!("| {kind} | environment | default | meaning |\n|---|---|---|---|\n");
    for arg in args {
        let (meaning, default) = meaning(arg);
        let environment = arg.get_env().map(|name| format!("`{}`", name.display())).unwrap_or_default();
        table +=
            &format!("| `{}` | {environment} | {default} | {} |\n", name(arg), meaning.replace('|', "\\|"));
    }
    table
}

/// Returns the option with its values, as in a usage line.
fn name(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let values: Vec<_> = values.iter().map(|value| value.replace('|', "\\|")).collect();
    let values = if arg.get_action().takes_values() { values.join(" ") } else { String::new() };
    let name = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) if arg.is_required_set() => return values,
        (None, None) => return format!("[{values}]"),
    };
    format!("{name} {values}").trim().to_owned()
}

/// Returns the meaning of an argument, and its default. Some help texts state the default: `[default: 300]`.
fn meaning(arg: &Arg) -> (String, String) {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (help, stated) = match help.split_once(" [default: ") {
        Some((help, default)) => (help.to_owned(), Some(default.trim_end_matches(']').to_owned())),
        None => (help, None),
    };
    let values: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let takes_value = arg.get_action().takes_values();
    let default = match stated {
        _ if arg.is_required_set() => "required".into(),
        Some(stated) if stated.contains(' ') => stated,
        Some(stated) => format!("`{stated}`"),
        None if takes_value
            && values.iter().any(|value| !value.is_empty())
            && !arg.is_hide_default_value_set() =>
        {
            format!("`{}`", values.join(","))
        }
        None => String::new(),
    };
    let mut meaning = sentence(&help);
    if takes_value {
        for value in arg.get_possible_values() {
            let help = value.get_help().map(|help| format!(": {}", sentence(&help.to_string())));
            meaning += &format!(" `{}`{}", value.get_name(), help.unwrap_or_else(|| ".".into()));
        }
    }
    (meaning, default)
}

/// Returns a help text with its final period, which clap removes.
fn sentence(help: &str) -> String {
    if help.ends_with(['.', '!']) { help.to_owned() } else { format!("{help}.") }
}

fn paragraphs(text: &str) -> String {
    let line = |paragraph: &str| {
        if paragraph.starts_with("  ") {
            let lines: Vec<_> = paragraph.lines().map(|line| format!("$ {}", line.trim())).collect();
            return format!("```console\n{}\n```", lines.join("\n"));
        }
        sentence(&paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    text.split("\n\n").map(line).collect::<Vec<_>>().join("\n\n")
}
