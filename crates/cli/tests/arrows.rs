//! The crates of this workspace use one another in one direction only, as the table in ARCHITECTURE.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate with the crates of this workspace that it uses.
type Row = (String, BTreeSet<String>);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of the table "| crate | what it does | uses |", top first.
fn table(text: &str) -> Vec<Row> {
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| crate |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, uses] = cells[..] else {
            panic!("three cells are expected in {row:?}")
        };
        let uses = uses
            .split(',')
            .map(str::trim)
            .filter(|used| !used.is_empty());
        (
            name.trim_matches('`').to_owned(),
            uses.map(str::to_owned).collect(),
        )
    })
    .collect()
}

/// The same from the crates' Cargo.toml files; what only tests use counts too.
fn found() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |package: &serde_json::Value| package["name"].as_str().unwrap().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let uses = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap();
        all.iter()
            .map(name)
            .filter(|used| members.contains(used))
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), uses(package)))
        .collect()
}

/// What is wrong with a table.
fn problems(table: &[Row], found: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut problems = Vec::new();
    let none = BTreeSet::new();
    let listed: BTreeSet<&String> = table.iter().map(|(name, _)| name).collect();
    for name in found.keys().filter(|name| !listed.contains(name)) {
        problems.push(format!("{name} has no row"));
    }
    for (place, (name, listed)) in table.iter().enumerate() {
        let below: BTreeSet<&String> = table[place + 1..].iter().map(|(name, _)| name).collect();
        let found = found.get(name).unwrap_or(&none);
        for used in found.difference(listed) {
            problems.push(format!("{name} uses {used}, which its row does not name"));
        }
        for used in listed.difference(found) {
            problems.push(format!("{name} does not use {used}, which its row names"));
        }
        for used in found.union(listed).filter(|used| !below.contains(used)) {
            problems.push(format!("{name} uses {used}, which does not stand below it"));
        }
    }
    problems
}

#[test]
fn every_crate_uses_what_its_row_names_and_nothing_above_it() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let problems = problems(&table(&text), &found());
    assert!(
        problems.is_empty(),
        "ARCHITECTURE.md and the crates disagree:\n{}",
        problems.join("\n")
    );
}

#[test]
fn arrows_that_point_up_or_are_not_told_are_found() {
    let row = |name: &str, uses: &[&str]| {
        (
            name.to_owned(),
            uses.iter().map(|used| (*used).to_owned()).collect(),
        )
    };
    let text = "| crate | what it does | uses |\n| --- | --- | --- |\n| `top` | Asks. | low |\n| `low` | Adds. | |\n\n| `no` |";
    let told = table(text);
    assert_eq!(told, [row("top", &["low"]), row("low", &[])]);
    let found = |rows: &[Row]| problems(&told, &rows.iter().cloned().collect());
    assert!(found(&[row("top", &["low"]), row("low", &[])]).is_empty());
    assert_eq!(
        found(&[row("top", &[]), row("low", &["top"]), row("new", &[])]),
        [
            "new has no row",
            "top does not use low, which its row names",
            "low uses top, which its row does not name",
            "low uses top, which does not stand below it",
        ]
    );
}
