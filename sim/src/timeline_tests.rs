//! The page in a real browser: what it draws, and that it can be zoomed.

use super::*;
use crate::history::{Answer, Input, Outcome};
use crate::record::Happening;
use std::path::PathBuf;
use std::process::Command;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn happening(at_s: u64, who: &str, event: &str, term: u64, note: &str) -> Happening {
    Happening {
        at: seconds(at_s),
        who: who.into(),
        event: event.into(),
        term,
        note: note.into(),
    }
}

/// Two members, one leader after the other, a partition, a crash, and three operations of which the second is a stale read.
fn example() -> (Title, Record, Vec<Violation>) {
    let mut record = Record {
        happenings: vec![
            happening(1, "m1", "leader", 2, ""),
            happening(2, "--", "! partition", 0, "{m1} {m2}"),
            happening(5, "--", "partition heals", 0, ""),
            happening(6, "m1", "! kill", 2, ""),
            happening(7, "m2", "leader", 3, "</script><b>not markup</b>"),
            happening(9, "m1", "restart", 0, ""),
        ],
        ..Record::default()
    };
    let get = Input::Get {
        key: 1,
        serializable: false,
    };
    for (client, at_s, input) in [
        (0, 2, Input::Put { key: 1 }),
        (1, 4, get),
        (0, 8, Input::Put { key: 2 }),
    ] {
        let id = record.history.call(client, seconds(at_s), input);
        let outcome = match id {
            1 => Outcome::Answered(Answer::Written { revision: 2 }),
            2 => Outcome::Answered(Answer::Got {
                revision: 1,
                value: None,
            }),
            _ => Outcome::Unknown("request timed out".into()),
        };
        record.history.returned(id, seconds(at_s + 1), outcome);
    }
    let title = Title {
        command: "cargo sim --seed 7".into(),
        options: "seed=7 members=2".into(),
        members: 2,
        simulated: seconds(20),
    };
    let text = "operation 2 was answered at revision 1, after operation 1 had been at 2";
    (title, record, vec![Violation(text.into())])
}

/// The page in the browser after its scripts, and the given one, have run.
fn in_browser(page: &str, name: &str, hash: &str, script: &str) -> String {
    let directory = std::env::temp_dir().join(format!("callboard-timeline-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a scratch directory can be made");
    let path: PathBuf = directory.join("page.html");
    let page = page.replace("</body>", &format!("<script>{script}</script></body>"));
    std::fs::write(&path, page).expect("a scratch file can be written");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg("--window-size=1200,800")
        .arg(format!("--user-data-dir={}", directory.join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}{hash}", path.display()))
        .output()
        .expect("Chromium is installed: tests/setup does that");
    // Its processes may still use the files: leftovers do no harm.
    let _ = std::fs::remove_dir_all(&directory);
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !page.is_empty(), "{complaints}");
    // Removes the script itself, which is not part of what the page shows.
    let (before, rest) = page.split_once("<script>").expect("the page has a script");
    let after = rest.rsplit_once("</script>").map_or("", |(_, after)| after);
    format!("{before}{after}")
}

/// The part of the rehearsal that the page shows, in seconds.
fn window(page: &str) -> (f64, f64) {
    let number = |name: &str| {
        let rest = page.split(name).nth(1).expect("the chart says what it shows");
        let text = rest.split('"').nth(1).expect("in quotation marks");
        text.parse().expect("a number")
    };
    (number("data-from="), number("data-to="))
}

#[test]
fn a_browser_shows_everything_that_happened() {
    let (title, record, violations) = example();
    let page = in_browser(&page(&title, &record, &violations), "all", "", "");
    assert_eq!(window(&page), (0.0, 20.0));
    for expected in [
        "cargo sim --seed 7",
        "FAILED",
        "class=\"violation\">operation 2 was answered at revision 1",
        "show operation 2",
        "class=\"operation answered failing\" data-operation=\"2\"",
        "class=\"operation unknown\" data-operation=\"3\"",
        "class=\"span cut\" data-name=\"partition\"",
        "class=\"span down\" data-name=\"kill\"",
        "class=\"span leader\" data-name=\"leads term 2\"",
        "class=\"span leader\" data-name=\"leads term 3\"",
    ] {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    assert!(!page.contains("<b>not markup</b>"), "data is not markup");
    assert_eq!(page.matches("class=\"operation").count(), 3);
}

#[test]
fn a_rehearsal_without_violations_is_shown_as_passed() {
    let (title, record, _) = example();
    let page = in_browser(&page(&title, &record, &[]), "passed", "", "");
    assert!(page.contains("PASSED") && !page.contains("failing\""), "{page}");
}

#[test]
fn the_page_can_be_zoomed() {
    let (title, record, violations) = example();
    let html = page(&title, &record, &violations);
    let by_address = in_browser(&html, "address", "#6.5,8.5", "");
    assert_eq!(window(&by_address), (6.5, 8.5));
    assert_eq!(
        by_address.matches("class=\"operation").count(),
        1,
        "the others lie elsewhere"
    );
    let turn = "el('chart').dispatchEvent(new WheelEvent('wheel', { deltaY: -120, clientX: 600, cancelable: true }))";
    let by_wheel = window(&in_browser(&html, "wheel", "", turn));
    assert!(by_wheel.0 > 0.0 && by_wheel.1 < 20.0, "{by_wheel:?}");
    let by_button = in_browser(
        &html,
        "button",
        "",
        "document.querySelector('.violation button').click()",
    );
    assert_eq!(window(&by_button), (3.0, 6.0));
    assert!(
        by_button.contains("FAILING: operation 2"),
        "the evidence is shown"
    );
}

#[test]
fn a_violation_names_its_operations() {
    assert_eq!(
        evidence("operation 12 came after operation 7 (operation)"),
        [12, 7]
    );
    assert!(evidence("term 3 has two leaders").is_empty());
}
