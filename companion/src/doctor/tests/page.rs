//! docs/doctor.md has a section for every code, in order, and for no other.

use super::*;

#[test]
fn the_page_has_a_section_for_every_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/doctor.md");
    let page = std::fs::read_to_string(path).unwrap();
    let sections: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(sections, codes);
    // However its lines are broken.
    let text = page.replace('\n', " ");
    for code in Code::ALL {
        let (name, severity) = (code.as_str(), code.severity().as_str());
        let head = format!(
            "### {name}  **{}** ({severity}). {}",
            code.title(),
            code.follows()
        );
        assert!(text.contains(&head), "docs/doctor.md must have: {head}");
        let finding = of_source("", *code, "", "");
        let anchor = finding.page.strip_prefix("docs/doctor.md#").unwrap();
        assert_eq!(anchor, code.as_str().to_lowercase());
    }
}

#[test]
fn codes_are_grouped_and_ordered() {
    let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let as_listed = codes.clone();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes, as_listed);
    assert!(
        codes
            .iter()
            .all(|code| code.len() == 6 && code.starts_with("UR0"))
    );
}
