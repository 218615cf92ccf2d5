//! `herald try` agrees with what GOV.UK Notify makes of numbers, addresses and templates, case by case.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::harness::program;

/// Case numbers where Herald differs on purpose, and why.
type Exceptions = &'static [(usize, &'static str)];

/// Runs all cases of a file through one process. `input` makes the line, `compared` picks what counts of a result.
fn agree(what: &str, golden: &str, exceptions: Exceptions, input: fn(&Value) -> Value, compared: fn(&mut Value)) {
    let golden: Value = serde_json::from_str(golden).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(Some(cases.len() as u64), golden["count"].as_u64());
    let mut child = program()
        .args(["try", what])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(|case| input(case).to_string()).collect();
    let writer = std::thread::spawn(move || lines.iter().for_each(|line| writeln!(stdin, "{line}").unwrap()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), cases.len());
    let mut differences = Vec::new();
    for (number, (case, mut answer)) in cases.iter().zip(answers).enumerate() {
        let mut expected = case["result"].clone();
        compared(&mut expected);
        compared(&mut answer);
        let excepted = exceptions.iter().any(|(exception, _)| *exception == number);
        match (expected == answer, excepted) {
            (true, false) | (false, true) => {}
            (true, true) => differences.push(format!("{number}: an exception, and yet it agrees")),
            (false, false) => differences.push(format!("{number}: {case}\nbecame {answer}")),
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        cases.len(),
        differences.join("\n")
    );
}

/// Notify lets every national number through that begins with 7700 and one more digit; Herald only the thousand that
/// are set aside for fiction, 7700900000 to 7700900999. What is left are Jersey's numbers, and numbers of nobody.
const FICTION: &str = "Notify's test for fictional numbers is wider than they are";
const PHONE_EXCEPTIONS: Exceptions = &[
    (122, FICTION),
    (139, FICTION),
    (140, FICTION),
    (141, FICTION),
    (142, FICTION),
    (143, FICTION),
    (144, FICTION),
    (145, FICTION),
];

#[test]
fn phone_numbers_are_read_as_notify_reads_them() {
    let input = |case: &Value| json!({"input": case["input"], "settings": case["settings"]});
    agree(
        "phone",
        include_str!("golden/phone.json"),
        PHONE_EXCEPTIONS,
        input,
        |_| {},
    );
}

#[test]
fn email_addresses_are_read_as_notify_reads_them() {
    let input = |case: &Value| json!({"input": case["input"]});
    agree(
        "email-address",
        include_str!("golden/email_address.json"),
        &[],
        input,
        |_| {},
    );
}

#[test]
fn texts_are_rendered_and_counted_as_notify_does() {
    agree(
        "sms",
        include_str!("golden/sms_render.json"),
        &[],
        |case| case["input"].clone(),
        |_| {},
    );
}

#[test]
fn emails_are_rendered_as_notify_renders_them() {
    // The wrapper of the whole document is a design of our own.
    let compared = |result: &mut Value| drop(result.as_object_mut().unwrap().remove("html_document"));
    agree(
        "email",
        include_str!("golden/email_render.json"),
        &[],
        |case| case["input"].clone(),
        compared,
    );
}
