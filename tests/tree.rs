//! Who may import whom. The manifests are the truth: a crate cannot name what its manifest does not.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Our crates, each with those of ours that it may depend on.
const IMPORTS: [(&str, &[&str]); 8] = [
    ("src/message", &[]),
    ("src/engine", &[]),
    ("src/metrics", &[]),
    ("src/providers", &["herald-message"]),
    ("src/store", &["herald-message"]),
    (
        "workflows",
        &[
            "herald-engine",
            "herald-message",
            "herald-metrics",
            "herald-providers",
            "herald-store",
        ],
    ),
    (
        "src/api",
        &[
            "herald-engine",
            "herald-message",
            "herald-metrics",
            "herald-providers",
            "herald-store",
            "herald-workflows",
        ],
    ),
    ("src/stub", &["herald-message"]),
];

/// Outside crates that only some of ours may name.
const ALONE: [(&str, &[&str]); 6] = [
    ("apalis", &["src/engine"]),
    ("poem", &["src/api"]),
    // The stub is the other end of the line: it posts receipts.
    ("reqwest", &["src/providers", "src/stub"]),
    ("aws-", &["src/providers"]),
    ("metrics", &["src/metrics"]),
    ("statsd", &["src/metrics"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn manifest(folder: &str) -> Table {
    std::fs::read_to_string(root().join(folder).join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

fn dependencies(folder: &str) -> Vec<String> {
    manifest(folder)
        .get("dependencies")
        .and_then(Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn imports_go_one_way() {
    for (folder, allowed) in IMPORTS {
        for dependency in dependencies(folder).iter().filter(|name| name.starts_with("herald-")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{folder} may not import {dependency}"
            );
        }
    }
}

#[test]
fn some_outside_crates_are_named_in_one_place_only() {
    for (folder, _) in IMPORTS {
        for dependency in dependencies(folder) {
            for (alone, places) in ALONE {
                assert!(
                    !dependency.starts_with(alone) || places.contains(&folder),
                    "{folder} may not name {dependency}"
                );
            }
        }
    }
}

#[test]
fn every_crate_of_the_workspace_is_in_the_list_and_bears_the_lints() {
    let members = manifest(".")["workspace"]["members"].as_array().unwrap().clone();
    for member in members.iter().map(|member| member.as_str().unwrap()) {
        assert!(
            IMPORTS.iter().any(|(folder, _)| *folder == member),
            "{member} has no import rule"
        );
        assert_eq!(
            manifest(member)["lints"]["workspace"].as_bool(),
            Some(true),
            "{member} has no lints"
        );
    }
}
