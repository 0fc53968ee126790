use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// Most bytes of all files together.
const BUDGET_BYTES: usize = 250 << 10;

/// The files below a folder, by their paths relative to `root`.
fn below(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => below(root, &path, found),
            false => {
                let relative = path.strip_prefix(root).unwrap();
                found.insert(relative.to_str().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn the_console_has_at_most_250_kb() {
    let bytes: usize = FILES.values().map(|(file, _)| file.bytes.len()).sum();
    println!("{bytes} bytes");
    assert!(bytes <= BUDGET_BYTES, "{bytes}");
}

#[test]
fn every_file_of_the_folder_is_part_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    let mut there = BTreeSet::new();
    below(&root, &root, &mut there);
    let served: BTreeSet<String> = FILES.keys().map(|path| (*path).to_owned()).collect();
    assert_eq!(there, served);
}

#[test]
fn the_page_has_no_script_or_style_of_its_own_and_names_no_other_site() {
    for (path, (file, _)) in FILES.iter() {
        let text = std::str::from_utf8(file.bytes).unwrap();
        if path.starts_with("vendor/") {
            continue;
        }
        // The name of SVG elements is no address.
        let addresses = text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !addresses.contains("http://") && !addresses.contains("https://"),
            "{path}"
        );
        for markup in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!text.contains(markup), "{path}: {markup}");
        }
        if path.ends_with(".html") {
            assert!(
                !text.contains("<style") && !text.contains(" style="),
                "{path}"
            );
            let scripts = text.matches("<script").count();
            assert_eq!(
                scripts,
                text.matches("></script>").count(),
                "{path}: a script inside"
            );
            assert!(!text.contains(" on"), "{path}: a handler");
        }
    }
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    let asked = |tag: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, tag.parse().unwrap());
        answer("app.js", &headers).unwrap().status()
    };
    let fresh = answer("app.js", &HeaderMap::new()).unwrap();
    assert_eq!(fresh.status(), StatusCode::OK);
    let tag = fresh.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(asked(&tag), StatusCode::NOT_MODIFIED);
    assert_eq!(asked(&format!("\"x\", W/{tag}")), StatusCode::NOT_MODIFIED);
    assert_eq!(asked("\"x\""), StatusCode::OK);
}

#[test]
fn what_is_no_file_of_the_console_is_not_found() {
    for path in ["", "../Cargo.toml", "views", "app.js/", "..%2Fhttp.rs"] {
        let refused = answer(path, &HeaderMap::new()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
