//! Markdown. Pure.

/// A table whose first column is text and whose other columns are numbers.
pub(crate) fn markdown(heads: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rule = "---:|".repeat(heads.len().saturating_sub(1));
    let mut table = format!("{}|---|{rule}\n", line(&heads));
    for row in rows {
        table.push_str(&line(row));
    }
    table
}

/// The page with this text between the markers of the area; `None` without such markers.
pub(crate) fn replaced(page: &str, area: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- bench:{area} -->"),
        format!("<!-- /bench:{area} -->"),
    );
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_rule_of_its_width() {
        let table = markdown(&["who", "n"], &[vec!["a".to_owned(), "1".to_owned()]]);
        assert_eq!(table, "| who | n |\n|---|---:|\n| a | 1 |\n");
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "above\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nbelow\n";
        let after = replaced(page, "x", "new\n").unwrap();
        assert_eq!(
            after,
            "above\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nbelow\n"
        );
        assert_eq!(replaced(&after, "x", "new"), Some(after));
        assert_eq!(replaced(page, "y", "new"), None);
    }
}
