//! Why a file that a setting or a flag names cannot be read, in words that say what to do: one place for all of them.

use std::io::{Error, ErrorKind};

/// The reason, and the way out.
pub(crate) fn why(error: &Error) -> String {
    let way_out = match error.kind() {
        ErrorKind::NotFound => "correct the path, or create the file",
        ErrorKind::PermissionDenied => "let the user of this process read it",
        ErrorKind::IsADirectory => "name a file and not a folder",
        ErrorKind::InvalidData => return "must be UTF-8".to_owned(),
        _ => return error.to_string(),
    };
    format!("{error}: {way_out}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_the_way_out() {
        let told = |kind| why(&Error::from(kind));
        assert!(told(ErrorKind::NotFound).ends_with("correct the path, or create the file"));
        assert!(told(ErrorKind::PermissionDenied).ends_with("read it"));
        assert!(told(ErrorKind::IsADirectory).ends_with("name a file and not a folder"));
        assert_eq!(told(ErrorKind::InvalidData), "must be UTF-8");
        assert_eq!(why(&Error::other("no disk")), "no disk");
    }
}
