//! "Did you mean": the name that was probably meant, and lists of names in words.
//!
//! One metric serves keys and words of a job, columns, functions, audiences and topics: the number of slips (a letter
//! more, less, other, or two neighbours swapped) between two names, case aside. A candidate is near if there is at most
//! one slip in every three letters of the name, rounded up, and fewer slips than the candidate has letters.
//!
//! ```
//! use usher_core::suggest::{nearest, or_list};
//!
//! let columns = ["ltv", "plan", "email"];
//! assert_eq!(nearest("emial", columns), Some("email"));
//! assert_eq!(nearest("revenue", columns), None);
//! assert_eq!(or_list(&columns), "`ltv`, `plan` or `email`");
//! ```

/// Returns the candidate nearest to `name`; of equally near ones the first.
///
/// None if no candidate is near enough to have been meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let meant = Meant::new(name);
    candidates
        .into_iter()
        .map(|candidate| (meant.slips(candidate), candidate))
        .filter(|(slips, candidate)| meant.is_near(*slips, candidate))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Returns the candidates like `name`: those that are near, that contain it, or that it contains.
///
/// At most `count_max`, the nearest first, equally near ones by name.
pub fn similar<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>, count_max: usize) -> Vec<&'a str> {
    let meant = Meant::new(name);
    let mut similar: Vec<(usize, &str)> = candidates
        .into_iter()
        .map(|candidate| (meant.slips(candidate), candidate))
        .filter(|(slips, candidate)| {
            meant.is_near(*slips, candidate) || candidate.contains(name) || name.contains(*candidate)
        })
        .collect();
    similar.sort_unstable();
    similar.into_iter().take(count_max).map(|(_, candidate)| candidate).collect()
}

/// Returns `` `a`, `b` or `c` ``.
pub fn or_list(names: &[&str]) -> String {
    list(names, "or")
}

/// Returns `` `a`, `b` and `c` ``.
pub fn and_list(names: &[&str]) -> String {
    list(names, "and")
}

/// Returns `` `a`, `b` and 7 more ``: the first twelve of these names. None if there are none.
pub fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A hint is read by people: a wide table is cut.
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = &names[..names.len().min(SHOWN)];
    match names.len() - shown.len() {
        _ if names.is_empty() => None,
        0 => Some(and_list(shown)),
        more => Some(format!(
            "{} and {more} more",
            shown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn list(names: &[&str], last: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((end, start)) if !start.is_empty() => format!("{} {last} {end}", start.join(", ")),
        _ => quoted.concat(),
    }
}

/// A name that candidates are compared with.
struct Meant {
    lower: String,
    slips_max: usize,
}

impl Meant {
    fn new(name: &str) -> Meant {
        Meant { lower: name.to_lowercase(), slips_max: name.chars().count().div_ceil(3) }
    }

    fn slips(&self, candidate: &str) -> usize {
        strsim::osa_distance(&self.lower, &candidate.to_lowercase())
    }

    fn is_near(&self, slips: usize, candidate: &str) -> bool {
        slips <= self.slips_max && slips < candidate.chars().count()
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
    fn columns_and_functions_of_predicates_are_near_or_not() {
        let columns = ["b", "d", "i", "li", "ln", "ls", "ltv", "n", "path", "s", "t", "u", "total billed", "x.y"];
        for (name, expected) in [
            ("ltx", Some("ltv")),
            ("LTV", Some("ltv")),
            ("pth", Some("path")),
            ("/pricing", None),
            ("current_timestamp", None),
            ("now", None),
            ("é", None),
        ] {
            assert_eq!(nearest(name, columns), expected, "{name}");
        }
        let functions = [
            "lower",
            "upper",
            "length",
            "trim",
            "coalesce",
            "abs",
            "starts_with",
            "ends_with",
            "contains",
            "regexp_matches",
            "list_contains",
            "now",
        ];
        for (name, expected) in [("lowr", Some("lower")), ("foo", None), ("count", None)] {
            assert_eq!(nearest(name, functions), expected, "{name}");
        }
        assert_eq!(nearest("ltx", ["user_id", "ltv"]), Some("ltv"));
        assert_eq!(nearest("account", ["user_id", "ltv"]), None);
    }

    #[test]
    fn similar_names_are_near_or_hold_one_another_and_the_nearest_come_first() {
        let topics = ["many", "pricing-events-v2", "pricing-events", "events", "prcing-event"];
        let similar = |count_max| similar("pricing-event", topics, count_max);
        assert_eq!(similar(3), ["prcing-event", "pricing-events", "pricing-events-v2"]);
        assert_eq!(similar(1), ["prcing-event"]);
        assert_eq!(super::similar("web", ["app", "ios-web", "w"], 3), ["w", "ios-web"]);
    }

    #[test]
    fn lists_read_as_words() {
        assert_eq!(or_list(&[]), "");
        assert_eq!(or_list(&["a"]), "`a`");
        assert_eq!(or_list(&["a", "b"]), "`a` or `b`");
        assert_eq!(and_list(&["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
