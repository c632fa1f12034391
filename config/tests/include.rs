//! Files that a job includes, and audiences that are not enabled.

use std::path::Path;

use usher_config::{Included, Job, Problems};

const JOB: &str = "job: j
include: ${WHERE:-audiences/*.yaml}
sources: {web: {file: {path: e.jsonl}, format: segment}}
models: {users: {parquet: u.parquet, key: id}}
events: {seen: {source: web, type: page, model: users}}
audiences:
  here: {model: users, where: {property: a}}
";

fn parse(job: &str, files: &[(&str, &str)]) -> Result<Job, Problems> {
    let include = |glob: &str| {
        if glob == "broken" {
            return Err("no permission".to_owned());
        }
        let folder = glob.strip_suffix("*.yaml").unwrap_or(glob);
        let matching = files.iter().filter(|(file, _)| file.starts_with(folder));
        Ok(matching.map(|(file, text)| Included { file: (*file).to_owned(), text: (*text).to_owned() }).collect())
    };
    let variable = |name: &str| (name == "N").then(|| "3".to_owned());
    usher_config::parse_or_salvage(job, "conf/job.yaml", Path::new("/jobs"), &variable, &include)
        .map_err(|broken| broken.problems)
}

fn refused(job: &str, files: &[(&str, &str)]) -> String {
    parse(job, files).expect_err("it has problems").to_string()
}

#[test]
fn an_included_file_adds_its_ids_to_those_of_the_job_file() {
    let growth = "audiences:\n  there: {model: users, where: {all: [{audience: here}, {performed: seen, at_least: \"${N}\", within: 1h}]}}\n";
    let more = "models: {orders: {parquet: o.parquet, key: id, belongs_to: {model: users, foreign_key: user}}}\nsyncs: {out: {to: {stdout: {}}}}\n";
    let job = parse(JOB, &[("audiences/growth.yaml", growth), ("audiences/more.yaml", more)]).expect("a sound job");
    assert_eq!(job.audiences.keys().collect::<Vec<_>>(), ["here", "there"]);
    assert_eq!(job.models.keys().collect::<Vec<_>>(), ["orders", "users"]);
    assert_eq!(job.syncs["out"].audiences, ["here", "there"]);
    let place = &job.audiences["there"].place;
    assert_eq!((&place.file[..], place.line, &place.path[..]), ("audiences/growth.yaml", 2, "audiences.there"));
    assert_eq!(job.audiences["here"].place.file, "");
}

#[test]
fn a_file_that_two_globs_match_is_included_once() {
    let job = JOB.replace("include: ${WHERE:-audiences/*.yaml}", "include: [audiences/a.yaml, \"audiences/*.yaml\"]");
    let job = parse(&job, &[("audiences/a.yaml", "audiences: {a: {model: users, where: {property: a}}}")]);
    assert_eq!(job.expect("a sound job").audiences.len(), 2);
}

#[test]
fn problems_of_an_included_file_name_that_file() {
    let files = [
        ("audiences/a.yaml", "audiences:\n  a: {model: user, where: {property: a}}\n"),
        ("audiences/b.yaml", "audiences: [\n"),
        ("audiences/c.yaml", "audiences:\n  c: {model: users, where: {property: a}}\n  c: {}\n"),
        ("audiences/d.yaml", "audiences:\n  d: {model: users, where: {property: \"${GONE}\"}}\n"),
    ];
    let text = refused(JOB, &files);
    for line in [
        "conf/audiences/a.yaml:2:14: audiences.a.model: unknown model `user`\n  hint: did you mean `users`?",
        "conf/audiences/b.yaml:",
        "conf/audiences/c.yaml:3:3: audiences.c: the key `c` is given twice, first on line 2",
        "conf/audiences/d.yaml:2:39: audiences.d.where.property: ",
    ] {
        assert!(text.contains(line), "`{line}` is not in\n{text}");
    }
}

#[test]
fn an_id_that_two_files_give_names_both_places() {
    let files = [
        (
            "audiences/a.yaml",
            "audiences:\n  here: {model: users, where: {property: a}}\n  x: {model: users, where: {property: a}}",
        ),
        ("audiences/b.yaml", "audiences: {x: {model: users, where: {property: a}}}"),
    ];
    let text = refused(JOB, &files);
    let first = "conf/audiences/a.yaml:2:3: audiences.here: `here` is given twice, first in the job file at 7:3";
    let second = "conf/audiences/b.yaml:1:13: audiences.x: `x` is given twice, first in `audiences/a.yaml` at 3:3";
    assert!(text.contains(first) && text.contains(second), "{text}");
}

#[test]
fn an_included_file_holds_only_sections_of_ids() {
    for key in ["job: other", "include: more.yaml", "api: {listen: \"127.0.0.1:1\"}", "limits: {}", "audience: {}"] {
        let text = refused(JOB, &[("audiences/a.yaml", key)]);
        let name = key.split(':').next().unwrap_or_default();
        let want = format!("conf/audiences/a.yaml:1:1: {name}: `{name}` has no place in an included file\n  hint: ");
        assert!(text.contains(&want), "{text}");
    }
    assert!(refused(JOB, &[("audiences/a.yaml", "[a]")]).contains("conf/audiences/a.yaml:1:1: an included file holds"));
    let text = refused(JOB, &[("audiences/a.yaml", "audiences: [a]")]);
    assert!(text.contains("conf/audiences/a.yaml:1:12: audiences: must be a mapping"), "{text}");
    assert!(parse(JOB, &[("audiences/a.yaml", "")]).is_ok(), "an empty file adds nothing");
}

#[test]
fn a_glob_that_matches_nothing_is_a_problem() {
    let text = refused(JOB, &[]);
    assert!(text.contains("conf/job.yaml:2:10: include: `audiences/*.yaml` matches no file\n  hint: "), "{text}");
    let text = refused(&JOB.replace("${WHERE:-audiences/*.yaml}", "broken"), &[]);
    assert!(text.contains("`broken` can't be included: no permission"), "{text}");
    let text = refused(&JOB.replace("${WHERE:-audiences/*.yaml}", "{a: b}"), &[]);
    assert!(text.contains("include: must be a string, not a mapping"), "{text}");
}

#[test]
fn an_audience_that_is_not_enabled_is_as_if_it_were_removed() {
    let off =
        "  off: {model: users, enabled: false, owner: growth, tags: [q4], where: {performed: gone, within: 1h}}\n";
    let job = JOB.replace("include: ${WHERE:-audiences/*.yaml}\n", "") + off + "syncs: {all: {to: {stdout: {}}}}\n";
    let built = parse(&job, &[]).expect("a sound job");
    assert_eq!(built.audiences.keys().collect::<Vec<_>>(), ["here"]);
    assert_eq!(built.syncs["all"].audiences, ["here"]);
    let on = parse(&job.replace("enabled: false", "enabled: \"${ON:-true}\"").replace("gone", "seen"), &[]);
    let on = on.expect("a sound job");
    assert_eq!(on.audiences["off"].owner.as_deref(), Some("growth"));
    assert_eq!(on.audiences["off"].tags, ["q4"]);
    let refers = [
        ("{to: {stdout: {}}}", "{audiences: [off], to: {stdout: {}}}"),
        ("where: {property: a}}", "where: {audience: off}}"),
    ];
    for (from, to) in refers {
        let text = refused(&job.replacen(from, to, 1), &[]);
        assert!(text.contains("the audience `off` has `enabled: false`"), "{text}");
        assert!(text.contains("hint: remove what refers to it, or enable it"), "{text}");
    }
}

#[test]
fn an_event_may_have_several_names_and_sources_and_a_predicate_that_its_conditions_share() {
    let job = JOB.replace("include: ${WHERE:-audiences/*.yaml}\n", "");
    let sources = "sources: {web: {file: {path: e.jsonl}, format: segment}, app: {file: {path: a/}, format: json}}";
    let job = job.replace("sources: {web: {file: {path: e.jsonl}, format: segment}}", sources);
    let of = |event: &str| {
        parse(&job.replace("seen: {source: web, type: page, model: users}", &format!("seen: {event}")), &[])
    };
    let event = "{source: [web, web2], name: [B, A], where: \"n > 1\", model: users, properties: {n: integer}}";
    let text = of(event).expect_err("no such source").to_string();
    assert!(text.contains("events.seen.source[1]: unknown source `web2`\n  hint: did you mean `web`?"), "{text}");
    let seen = &of(&event.replace("web, web2", "web")).expect("a sound job").events["seen"];
    assert_eq!((&seen.sources[..], &seen.names[..]), (&["web".to_owned()][..], &["A".to_owned(), "B".to_owned()][..]));
    assert_eq!(seen.filter.as_ref().expect("it has one").value, "n > 1");
    assert!(of(&event.replace("[B, A]", "[A, A]")).expect_err("twice").to_string().contains("`A` is listed twice"));
    assert!(of(&event.replace("[B, A]", "[]")).expect_err("empty").to_string().contains("must not be empty"));
    // Each source must be able to match it.
    let text = of(&event.replace("web2", "app")).expect_err("json has no name").to_string();
    assert!(text.contains("the format of the source `app` gives no `name`"), "{text}");
}
