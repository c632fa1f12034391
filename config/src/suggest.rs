//! "Did you mean": the name that was probably meant, and lists of names in words.

/// Returns the candidate nearest to `name`; `None` if no candidate is near enough to have been meant.
///
/// Near enough is one slip (a letter inserted, deleted, replaced, or two swapped) per three letters, ignoring case. Of
/// equally near candidates, the first is returned.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let distance = |candidate: &str| strsim::osa_distance(&lower, &candidate.to_lowercase());
    let slips_max = name.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Returns `` `a`, `b` or `c` ``.
pub(crate) fn or_list(names: &[&str]) -> String {
    list(names, "or")
}

/// Returns `` `a`, `b` and `c` ``.
pub(crate) fn and_list(names: &[&str]) -> String {
    list(names, "and")
}

fn list(names: &[&str], last: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((end, start)) if !start.is_empty() => format!("{} {last} {end}", start.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_meant_is_the_nearest_within_a_slip_in_three_letters() {
        let columns = ["ltv", "plan", "email", "last_seen"];
        for (name, expected) in [
            ("ltx", Some("ltv")),
            ("LTV", Some("ltv")),
            ("emial", Some("email")),
            ("last_sen", Some("last_seen")),
            ("plans", Some("plan")),
            ("revenue", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, columns), expected, "{name}");
        }
        assert_eq!(nearest("ab", ["ac", "ad"]), Some("ac"));
    }

    #[test]
    fn lists_read_as_words() {
        assert_eq!(or_list(&["a"]), "`a`");
        assert_eq!(or_list(&["a", "b"]), "`a` or `b`");
        assert_eq!(and_list(&["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
