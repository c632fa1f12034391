//! `usher init`: writes a job file from samples of events and tables, or a small shop to begin with.
//!
//! Samples are distinguished by their content. Nothing is overwritten. What is written is a job that `run` takes.

mod tables;
mod text;

use super::demo::shop;
use crate::exit::Exit;
use crate::open::{self, load};
use crate::profile::{Profile, Texts, guess_format};
use crate::sample;
use crate::terminal::print_stderr;
use std::path::{Path, PathBuf};
use tables::Table;
use usher_config::{Format, SourceFrom};

/// Messages of each source that are read.
const MESSAGES: usize = 10_000;
/// Messages in the file of events of the small shop.
const EVENTS: u64 = 2_000;

/// A source of events, and what its messages contain.
struct Events {
    /// Its id in the job.
    id: String,
    from: SourceFrom,
    format: Format,
    profile: Profile,
    texts: Texts,
}

/// Writes a job file.
pub fn init(samples: &[String], output: &Path) -> Result<(), Exit> {
    refuse_existing(output)?;
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    if samples.is_empty() {
        return shop(output, &folder);
    }
    let (mut events, mut tables) = (Vec::new(), Vec::new());
    for sample in samples {
        if tables::is_table(sample) {
            tables.push(Table::read(sample)?);
        } else {
            events.push(read_events(sample)?);
        }
    }
    name_apart(events.iter_mut().map(|events| &mut events.id));
    name_apart(tables.iter_mut().map(|table| &mut table.id));
    let job = text::job(&mut events, &tables, &folder);
    write(output, &job)?;
    let loaded = load(output).map_err(|exit| {
        // It was just made, and nothing takes it.
        let _ = std::fs::remove_file(output);
        Exit::wrong(format_args!("the samples give no job that can run, and none is written: {}", exit.in_one_line()))
            .hint("give samples whose messages have a key and a time; `usher peek` prints what they contain".to_owned())
    })?;
    let plan = &loaded.plan.job;
    print_stderr(format_args!(
        "wrote `{}`: sources {}, models {}, events {}, audiences {}\nhint: edit it, then `usher replay {0}` prints every change of the \
         past, and `usher run {0}` goes on with what comes",
        output.display(),
        plan.sources.len(),
        plan.models.len(),
        plan.events.len(),
        plan.audiences.len()
    ));
    tables.iter().for_each(warn);
    Ok(())
}

/// Prints what a table lacks, and what is left out beside it.
fn warn(table: &Table) {
    if !table.has_key() {
        print_stderr(format_args!(
            "warning: no column of `{}` has a value of its own in each row, so the `key` of the model `{}` is a guess\n\
             hint: set `key` to the column that names a member, and export one row for each",
            table.path, table.id
        ));
    }
    let others = table.others();
    if let Some(first) = others.first() {
        print_stderr(format_args!(
            "warning: `{}` is taken for a table, and what is not Parquet in it is left out: `{}`{}\n\
             hint: give files of events by themselves, beside the tables: `usher init {} {}`",
            table.path,
            first.display(),
            if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() },
            table.path,
            first.display()
        ));
    }
}

fn read_events(sample: &str) -> Result<Events, Exit> {
    let from = sample::source_of(sample)?;
    let messages = sample::read(sample, &from, Path::new("."), MESSAGES)?;
    if messages.is_empty() {
        return Err(Exit::wrong(format_args!("`{sample}` has no messages"))
            .hint("give a sample with some messages, as many as show what comes in".to_owned()));
    }
    let mut texts = Texts::default();
    messages.iter().for_each(|message| texts.add(message));
    let format = guess_format(&messages, &texts).map_err(|look| {
        let hint = match look.envelope() {
            Some(envelope) => format!(
                "a job reads them with `unwrap: {}` of the source; give a sample of what is inside, one message a line",
                envelope.name()
            ),
            None => "give events as JSON, one object a line, or as Snowplow's rows; `usher peek` prints what a file contains"
                .to_owned(),
        };
        Exit::wrong(format_args!("no format reads the messages of `{sample}`: {look}")).hint(hint)
    })?;
    let mut profile = Profile::default();
    messages.iter().for_each(|message| profile.add(message, &format));
    let name = match &from {
        SourceFrom::File { path, .. } => Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned()),
        SourceFrom::Kafka { topics, .. } => topics.first().cloned(),
    };
    Ok(Events { id: text::id(&name.unwrap_or_default(), "events"), from, format, profile, texts })
}

/// Gives later ones of the same id a number.
fn name_apart<'a>(ids: impl Iterator<Item = &'a mut String>) {
    let mut taken = std::collections::BTreeSet::new();
    for id in ids {
        let first = id.clone();
        let mut number = 1;
        while !taken.insert(id.clone()) {
            number += 1;
            *id = format!("{first}_{number}");
        }
    }
}

fn refuse_existing(path: &Path) -> Result<(), Exit> {
    if path.exists() {
        return Err(Exit::wrong(format_args!("`{}` is there already, and nothing is overwritten", path.display()))
            .hint("give another file with `-o`, or move this one".to_owned()));
    }
    Ok(())
}

/// Writes a file that is not there yet.
fn write(path: &Path, text: &str) -> Result<(), Exit> {
    let written =
        std::fs::File::create_new(path).and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| Exit::not_opened(format_args!("`{}` can't be written: {error}", path.display())))
}

/// Writes the small shop: its tables, its events and its job.
fn shop(output: &Path, folder: &Path) -> Result<(), Exit> {
    let parts: [PathBuf; 2] = [folder.join("warehouse"), folder.join("events.jsonl")];
    parts.iter().try_for_each(|part| refuse_existing(part))?;
    let written = shop::write_tables(folder).and_then(|()| shop::write_events(&folder.join("events.jsonl"), EVENTS));
    written.map_err(|error| Exit::not_opened(format_args!("`{}` can't be written: {error}", folder.display())))?;
    write(output, &format!("{}{}{}", text::SHOP, shop::JOB, text::SHOP_SYNC))?;
    open::load(output)?;
    print_stderr(format_args!(
        "wrote `{}` with a small shop: `warehouse/`, `events.jsonl`\nhint: `usher replay {0}` prints every change, `usher run {0}` goes \
         on with what is appended to `events.jsonl`",
        output.display()
    ));
    Ok(())
}
