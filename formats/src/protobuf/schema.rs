//! Protobuf's schemas: the text of `.proto` files, or their descriptors in base64, becomes a table of messages and enums.
//!
//! Promises: names are found as protoc finds them, from the innermost scope outwards; fields have presence as `syntax`, `edition`,
//! `optional` and `oneof` say. The files of `google/protobuf` that have types of their own here are known without their text.
//! Options but `json_name`, `features.field_presence` and `features.message_encoding`, services, extensions and reserved names are passed over.
//!
//! Refuses: groups, also as `features.message_encoding` makes them, and names that are not defined or defined twice.

use std::collections::{BTreeMap, HashMap};

mod descriptor;

/// A message or an enum, by its place in its table.
pub(crate) type TypeId = u32;

/// All messages and enums of some files.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    /// The messages of the file itself by their places: the index in the file, then those in the messages around it.
    places: Vec<(Vec<u32>, TypeId)>,
}

#[derive(Debug, Default)]
pub(crate) struct Message {
    /// With its package.
    pub(crate) name: String,
    /// In the order of their numbers.
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Default)]
pub(crate) struct Enum {
    /// The first one is the default.
    values: Vec<(i32, Box<str>)>,
}

impl Enum {
    /// Returns the name of a number.
    pub(crate) fn name(&self, number: i32) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == number).map(|(_, name)| &**name)
    }

    /// Returns the number that holds where none is given.
    pub(crate) fn first(&self) -> i32 {
        self.values.first().map_or(0, |(number, _)| *number)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: Box<str>,
    /// Its name in JSON.
    pub(crate) json_name: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) repeated: bool,
    /// Where it is left out it has no value, instead of the default.
    pub(crate) presence: bool,
    /// Those of one number exclude each other.
    pub(crate) oneof: Option<u32>,
    /// It is a map: its entries are messages with a key and a value.
    pub(crate) map: bool,
}

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(TypeId),
    Message(TypeId),
}

impl Kind {
    fn scalar(name: &str) -> Option<Kind> {
        Some(match name {
            "double" => Kind::Double,
            "float" => Kind::Float,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "uint32" => Kind::Uint32,
            "uint64" => Kind::Uint64,
            "sint32" => Kind::Sint32,
            "sint64" => Kind::Sint64,
            "fixed32" => Kind::Fixed32,
            "fixed64" => Kind::Fixed64,
            "sfixed32" => Kind::Sfixed32,
            "sfixed64" => Kind::Sfixed64,
            "bool" => Kind::Bool,
            "string" => Kind::String,
            "bytes" => Kind::Bytes,
            _ => return None,
        })
    }
}

/// The files of `google/protobuf` that are known, but for their comments and options.
const KNOWN: [(&str, &str); 7] = [
    (
        "google/protobuf/timestamp.proto",
        r#"syntax = "proto3"; package google.protobuf; message Timestamp { int64 seconds = 1; int32 nanos = 2; }"#,
    ),
    (
        "google/protobuf/duration.proto",
        r#"syntax = "proto3"; package google.protobuf; message Duration { int64 seconds = 1; int32 nanos = 2; }"#,
    ),
    (
        "google/protobuf/any.proto",
        r#"syntax = "proto3"; package google.protobuf; message Any { string type_url = 1; bytes value = 2; }"#,
    ),
    (
        "google/protobuf/field_mask.proto",
        r#"syntax = "proto3"; package google.protobuf; message FieldMask { repeated string paths = 1; }"#,
    ),
    ("google/protobuf/empty.proto", r#"syntax = "proto3"; package google.protobuf; message Empty {}"#),
    (
        "google/protobuf/wrappers.proto",
        r#"syntax = "proto3"; package google.protobuf;
        message DoubleValue { double value = 1; } message FloatValue { float value = 1; }
        message Int64Value { int64 value = 1; } message UInt64Value { uint64 value = 1; }
        message Int32Value { int32 value = 1; } message UInt32Value { uint32 value = 1; }
        message BoolValue { bool value = 1; } message StringValue { string value = 1; } message BytesValue { bytes value = 1; }"#,
    ),
    (
        "google/protobuf/struct.proto",
        r#"syntax = "proto3"; package google.protobuf;
        message Struct { map<string, Value> fields = 1; }
        message Value { oneof kind { NullValue null_value = 1; double number_value = 2; string string_value = 3; bool bool_value = 4;
            Struct struct_value = 5; ListValue list_value = 6; } }
        enum NullValue { NULL_VALUE = 0; }
        message ListValue { repeated Value values = 1; }"#,
    ),
];

/// Files that only options refer to.
fn is_about_options(import: &str) -> bool {
    matches!(import, "google/protobuf/descriptor.proto" | "confluent/meta.proto")
}

/// Returns the files that a file imports and that are not known without their text, as it names them.
///
/// # Errors
/// A clause about the text.
pub fn imports(text: &str) -> Result<Vec<String>, String> {
    let file = File::read(text)?;
    let unknown = |import: &String| !KNOWN.iter().any(|(known, _)| known == import) && !is_about_options(import);
    Ok(file.imports.into_iter().filter(unknown).collect())
}

impl Schema {
    /// Reads a file and those that it imports, which are given by the names that they are imported by.
    ///
    /// # Errors
    /// A clause about the text.
    pub(crate) fn parse(text: &str, files: &BTreeMap<String, String>) -> Result<Schema, String> {
        let mut drafts = Drafts::default();
        drafts.file(text, files, &mut Vec::new())?;
        drafts.resolve()
    }

    /// Returns the message at a place in the file: the index in the file, then those in the messages around it.
    pub(crate) fn at(&self, place: &[u32]) -> Option<TypeId> {
        self.places.iter().find(|(known, _)| known == place).map(|(_, id)| *id)
    }

    /// Returns the messages of the file that are in no other one.
    pub(crate) fn outermost(&self) -> impl Iterator<Item = TypeId> {
        self.places.iter().filter(|(place, _)| place.len() == 1).map(|(_, id)| *id)
    }

    /// Returns the message of a name: with its package, or without it where that is unique.
    pub(crate) fn message(&self, name: &str) -> Option<TypeId> {
        let whole = self.messages.iter().position(|message| message.name == name);
        let is_end = |message: &Message| message.name.strip_suffix(name).is_some_and(|before| before.ends_with('.'));
        let mut ends = self.messages.iter().enumerate().filter(|(_, message)| is_end(message)).map(|(id, _)| id);
        let found = whole.or_else(|| ends.next().filter(|_| ends.next().is_none()));
        found.map(|id| id as TypeId)
    }

    /// Returns the names of all messages.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().map(|message| message.name.as_str()).filter(|name| !name.starts_with("google.protobuf."))
    }
}

/// One file.
#[derive(Default)]
struct File {
    imports: Vec<String>,
    messages: Vec<DraftMessage>,
    enums: Vec<(String, Enum)>,
}

impl File {
    /// Reads a file, as text or as its descriptor in base64.
    fn read(text: &str) -> Result<File, String> {
        if let Some(bytes) = descriptor::of_base64(text) {
            return descriptor::file(&bytes);
        }
        let mut parser = Parser::new(text);
        parser.file()?;
        Ok(File { imports: parser.imports, messages: parser.messages, enums: parser.enums })
    }
}

/// Messages whose types are names.
#[derive(Default)]
struct Drafts {
    messages: Vec<DraftMessage>,
    enums: Vec<(String, Enum)>,
    /// Where the messages of the file itself begin, behind those that it imports.
    own: usize,
}

#[derive(Debug)]
struct DraftMessage {
    name: String,
    fields: Vec<DraftField>,
    /// Its place in its file; `None`: the entry of a map, which a text does not have.
    place: Option<Vec<u32>>,
}

#[derive(Debug)]
struct DraftField {
    /// Its `kind` is to be found.
    field: Field,
    of: String,
}

impl Drafts {
    fn file(&mut self, text: &str, files: &BTreeMap<String, String>, seen: &mut Vec<String>) -> Result<(), String> {
        let mut read = File::read(text)?;
        for import in &read.imports {
            if seen.contains(import) || is_about_options(import) {
                continue;
            }
            seen.push(import.clone());
            let known = KNOWN.iter().find(|(name, _)| name == import).map(|(_, text)| *text);
            let text = files.get(import).map(String::as_str).or(known);
            let text = text.ok_or_else(|| format!("it imports `{import}`, which is not there"))?;
            self.file(text, files, seen).map_err(|reason| format!("`{import}`: {reason}"))?;
        }
        self.own = self.messages.len();
        self.messages.append(&mut read.messages);
        self.enums.append(&mut read.enums);
        Ok(())
    }

    fn resolve(self) -> Result<Schema, String> {
        let mut kinds: HashMap<String, Kind> = HashMap::new();
        let messages = self.messages.iter().enumerate().map(|(id, of)| (&of.name, Kind::Message(id as TypeId)));
        let enums = self.enums.iter().enumerate().map(|(id, (name, _))| (name, Kind::Enum(id as TypeId)));
        for (name, kind) in messages.chain(enums) {
            if kinds.insert(name.clone(), kind).is_some() {
                return Err(format!("`{name}` is defined twice"));
            }
        }
        let mut schema = Schema::default();
        for (id, DraftMessage { name, fields, place }) in self.messages.into_iter().enumerate() {
            if let Some(place) = place.filter(|_| id >= self.own) {
                schema.places.push((place, id as TypeId));
            }
            let mut resolved = Vec::new();
            for DraftField { mut field, of } in fields {
                field.kind = match Kind::scalar(&of) {
                    Some(scalar) => scalar,
                    None => find(&kinds, &of, &name).ok_or_else(|| format!("the type `{of}` is not defined"))?,
                };
                if matches!(field.kind, Kind::Message(_)) {
                    field.presence = true;
                }
                resolved.push(field);
            }
            resolved.sort_by_key(|field| field.number);
            schema.messages.push(Message { name, fields: resolved });
        }
        schema.enums = self.enums.into_iter().map(|(_, of)| of).collect();
        schema.places.sort_unstable();
        Ok(schema)
    }
}

/// Returns the type of a name that a message uses.
fn find(kinds: &HashMap<String, Kind>, name: &str, inside: &str) -> Option<Kind> {
    if let Some(absolute) = name.strip_prefix('.') {
        return kinds.get(absolute).copied();
    }
    let mut scope = inside;
    loop {
        if let Some(kind) = kinds.get(&format!("{scope}.{name}")) {
            return Some(*kind);
        }
        match scope.rsplit_once('.') {
            Some((outer, _)) => scope = outer,
            None => return kinds.get(name).copied(),
        }
    }
}

/// What a text is made of.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name, with its points, or a number.
    Word(String),
    Text(String),
    Sign(char),
    End,
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    next: Token,
    package: String,
    /// What fields without a label have.
    presence: bool,
    imports: Vec<String>,
    messages: Vec<DraftMessage>,
    enums: Vec<(String, Enum)>,
    /// The place of the message that is read.
    place: Vec<u32>,
    /// How many messages there have been in it, in the message around it and so on, and in the file, which comes first.
    siblings: Vec<u32>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Parser<'t> {
        Parser {
            text,
            at: 0,
            next: Token::End,
            package: String::new(),
            // Without `syntax` it is proto2.
            presence: true,
            imports: Vec::new(),
            messages: Vec::new(),
            enums: Vec::new(),
            place: Vec::new(),
            siblings: vec![0],
        }
    }

    /// Reads the whole file.
    fn file(&mut self) -> Result<(), String> {
        self.advance()?;
        while self.next != Token::End {
            match self.word_or_sign()?.as_str() {
                ";" => {}
                "syntax" => {
                    self.sign('=')?;
                    self.presence = self.string()? != "proto3";
                    self.sign(';')?;
                }
                "edition" => {
                    self.sign('=')?;
                    self.string()?;
                    self.sign(';')?;
                }
                "package" => {
                    self.package = self.word()?;
                    self.sign(';')?;
                }
                "import" => {
                    if matches!(&self.next, Token::Word(word) if word == "public" || word == "weak") {
                        self.advance()?;
                    }
                    let import = self.string()?;
                    self.imports.push(import);
                    self.sign(';')?;
                }
                "option" => {
                    let option = self.statement()?;
                    self.not_delimited(&option)?;
                    if option.replace(' ', "").contains("features.field_presence=IMPLICIT") {
                        self.presence = false;
                    }
                }
                "message" => self.message(&self.package.clone())?,
                "enum" => self.enumeration(&self.package.clone())?,
                "service" | "extend" => {
                    while self.next != Token::Sign('{') {
                        self.advance()?;
                        self.not_ended()?;
                    }
                    self.balanced()?;
                }
                other => return Err(format!("`{other}` has no place in a file, {}", self.line())),
            }
        }
        Ok(())
    }

    fn message(&mut self, scope: &str) -> Result<(), String> {
        let name = full_name(scope, &self.word()?);
        let siblings = self.siblings.last_mut().expect("the file is the first");
        self.place.push(*siblings);
        *siblings += 1;
        self.siblings.push(0);
        let mut fields = Vec::new();
        let mut oneofs = 0;
        self.sign('{')?;
        loop {
            match self.word_or_sign()?.as_str() {
                "}" => break,
                ";" => {}
                "message" if matches!(self.next, Token::Word(_)) => self.message(&name)?,
                "enum" if matches!(self.next, Token::Word(_)) => self.enumeration(&name)?,
                "option" => drop(self.statement()?),
                "reserved" | "extensions" => drop(self.statement()?),
                "extend" => {
                    self.word()?;
                    self.balanced()?;
                }
                "oneof" => {
                    self.word()?;
                    self.sign('{')?;
                    loop {
                        match self.word_or_sign()?.as_str() {
                            "}" => break,
                            ";" => {}
                            "option" => drop(self.statement()?),
                            of => {
                                let mut field = self.field(of.to_owned(), Some(true))?;
                                field.field.oneof = Some(oneofs);
                                fields.push(field);
                            }
                        }
                    }
                    oneofs += 1;
                }
                "map" if self.next == Token::Sign('<') => {
                    let field = self.map(&name)?;
                    fields.push(field);
                }
                "repeated" => {
                    let of = self.word()?;
                    let mut field = self.field(of, Some(false))?;
                    field.field.repeated = true;
                    fields.push(field);
                }
                "optional" | "required" => {
                    let of = self.word()?;
                    let field = self.field(of, Some(true))?;
                    fields.push(field);
                }
                of => {
                    let field = self.field(of.to_owned(), None)?;
                    fields.push(field);
                }
            }
        }
        let mut numbers: Vec<u32> = fields.iter().map(|field| field.field.number).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!("`{name}` has a number twice"));
        }
        self.messages.push(DraftMessage { name, fields, place: Some(self.place.clone()) });
        self.place.pop();
        self.siblings.pop();
        Ok(())
    }

    /// A field, behind its type.
    fn field(&mut self, of: String, presence: Option<bool>) -> Result<DraftField, String> {
        if of == "group" {
            return Err(format!("groups are not read, {}", self.line()));
        }
        if !of.starts_with(|first: char| first.is_alphabetic() || first == '_' || first == '.') {
            return Err(format!("`{of}` is no type, {}", self.line()));
        }
        let name = self.word()?;
        self.sign('=')?;
        let number = self.number()?;
        let number = u32::try_from(number).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or_else(|| format!("the field `{name}` has a number out of range, {}", self.line()))?;
        let mut json_name = json_name(&name);
        let mut presence = presence.unwrap_or(self.presence);
        if self.next == Token::Sign('[') {
            let options = self.balanced()?;
            self.not_delimited(&options)?;
            if let Some((_, given)) = options.split_once("json_name = \"") {
                given.split('"').next().unwrap_or_default().clone_into(&mut json_name);
            }
            if options.contains("features . field_presence = IMPLICIT")
                || options.contains("features.field_presence = IMPLICIT")
            {
                presence = false;
            }
        }
        self.sign(';')?;
        let (name, json_name) = (name.into(), json_name.into());
        let field =
            Field { number, name, json_name, kind: Kind::Bool, repeated: false, presence, oneof: None, map: false };
        Ok(DraftField { field, of })
    }

    /// A map, behind its first word: its entries are a message.
    fn map(&mut self, scope: &str) -> Result<DraftField, String> {
        self.sign('<')?;
        let key = self.word()?;
        self.sign(',')?;
        let value = self.word()?;
        self.sign('>')?;
        let mut field = self.field("map".to_owned(), Some(false))?;
        // No type has a name with a space.
        let name = format!("{scope}.{} entry", field.field.name);
        let part = |number: u32, name: &str, of: String| DraftField {
            field: Field {
                number,
                name: name.into(),
                json_name: name.into(),
                kind: Kind::Bool,
                repeated: false,
                presence: false,
                oneof: None,
                map: false,
            },
            of,
        };
        let fields = vec![part(1, "key", key), part(2, "value", value)];
        field.of = format!(".{name}");
        (field.field.repeated, field.field.map) = (true, true);
        self.messages.push(DraftMessage { name, fields, place: None });
        Ok(field)
    }

    fn enumeration(&mut self, scope: &str) -> Result<(), String> {
        let name = full_name(scope, &self.word()?);
        let mut values = Vec::new();
        self.sign('{')?;
        loop {
            match self.word_or_sign()?.as_str() {
                "}" => break,
                ";" => {}
                "option" | "reserved" if self.next != Token::Sign('=') => drop(self.statement()?),
                value => {
                    let value: Box<str> = value.into();
                    self.sign('=')?;
                    let number = self.number()?;
                    let number = i32::try_from(number).map_err(|_| format!("`{value}` has a number beyond 32 bits"))?;
                    values.push((number, value));
                    if self.next == Token::Sign('[') {
                        self.balanced()?;
                    }
                    self.sign(';')?;
                }
            }
        }
        self.enums.push((name, Enum { values }));
        Ok(())
    }

    fn number(&mut self) -> Result<i64, String> {
        let negative = self.next == Token::Sign('-');
        if negative {
            self.advance()?;
        }
        let word = self.word()?;
        let digits = |text: &str, radix| i64::from_str_radix(text, radix).ok();
        let number = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(hexadecimal) => digits(hexadecimal, 16),
            None if word.len() > 1 && word.starts_with('0') => digits(&word, 8),
            None => digits(&word, 10),
        };
        let number = number.ok_or_else(|| format!("`{word}` is no number, {}", self.line()))?;
        Ok(if negative { -number } else { number })
    }

    fn word(&mut self) -> Result<String, String> {
        match self.advance()? {
            Token::Word(word) => Ok(word),
            other => Err(self.unexpected(&other, "a name")),
        }
    }

    /// A word, or a sign as a word.
    fn word_or_sign(&mut self) -> Result<String, String> {
        match self.advance()? {
            Token::Word(word) => Ok(word),
            Token::Sign(sign) => Ok(sign.to_string()),
            other => Err(self.unexpected(&other, "a name")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        match self.advance()? {
            Token::Text(text) => Ok(text),
            other => Err(self.unexpected(&other, "a text in quotes")),
        }
    }

    fn sign(&mut self, sign: char) -> Result<(), String> {
        match self.advance()? {
            Token::Sign(found) if found == sign => Ok(()),
            other => Err(self.unexpected(&other, &format!("`{sign}`"))),
        }
    }

    fn unexpected(&self, found: &Token, expected: &str) -> String {
        let found = match found {
            Token::Word(word) => format!("`{word}`"),
            Token::Text(text) => format!("\"{text}\""),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        };
        format!("{found} stands where {expected} is expected, {}", self.line())
    }

    /// Where the parser is.
    fn line(&self) -> String {
        format!("line {}", self.text[..self.at].matches('\n').count() + 1)
    }

    fn not_ended(&self) -> Result<(), String> {
        if self.next == Token::End { Err(self.unexpected(&Token::End, "`}`")) } else { Ok(()) }
    }

    /// Refuses options that make messages groups.
    fn not_delimited(&self, options: &str) -> Result<(), String> {
        let sets = |sign: &str| options.contains(&format!("message_encoding {sign} DELIMITED"));
        if sets("=") || sets(":") {
            return Err(format!("groups are not read, which `message_encoding = DELIMITED` writes, {}", self.line()));
        }
        Ok(())
    }

    /// Passes over the rest of a statement, with its `;`.
    fn statement(&mut self) -> Result<String, String> {
        let mut passed = String::new();
        while self.next != Token::Sign(';') {
            self.not_ended()?;
            match self.next {
                Token::Sign('{' | '[') => passed.push_str(&self.balanced()?),
                _ => passed.push_str(&shown(&self.advance()?)),
            }
        }
        self.sign(';')?;
        Ok(passed)
    }

    /// Passes over what is between brackets.
    fn balanced(&mut self) -> Result<String, String> {
        let mut passed = String::new();
        let mut depth = 0;
        loop {
            self.not_ended()?;
            let token = self.advance()?;
            match token {
                Token::Sign('{' | '[') => depth += 1,
                Token::Sign('}' | ']') => depth -= 1,
                _ => {}
            }
            passed.push_str(&shown(&token));
            if depth == 0 {
                return Ok(passed);
            }
        }
    }

    /// Returns the next token, and reads the one behind it.
    fn advance(&mut self) -> Result<Token, String> {
        let read = self.token()?;
        Ok(std::mem::replace(&mut self.next, read))
    }

    fn token(&mut self) -> Result<Token, String> {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').len();
            let rest = &rest[blank..];
            self.at += blank;
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").ok_or_else(|| format!("a comment does not end, {}", self.line()))?;
                self.at += end + 2;
            } else {
                break;
            }
        }
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if first == '"' || first == '\'' {
            let mut text = String::new();
            let mut chars = rest.char_indices().skip(1);
            while let Some((at, char)) = chars.next() {
                match char {
                    '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                    char if char == first => {
                        self.at += at + 1;
                        return Ok(Token::Text(text));
                    }
                    char => text.push(char),
                }
            }
            return Err(format!("a text does not end, {}", self.line()));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if is_word(first) {
            let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
            self.at += word.len();
            return Ok(Token::Word(word.to_owned()));
        }
        self.at += first.len_utf8();
        Ok(Token::Sign(first))
    }
}

/// A token as options are compared.
fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => format!(" {word}"),
        Token::Text(text) => format!(" \"{text}\""),
        Token::Sign(sign) => format!(" {sign}"),
        Token::End => String::new(),
    }
}

fn full_name(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// The name of a field in JSON: without underscores, and with a capital behind each.
fn json_name(name: &str) -> String {
    let mut json = String::new();
    let mut capital = false;
    for char in name.chars() {
        match char {
            '_' => capital = true,
            char if capital => {
                json.push(char.to_ascii_uppercase());
                capital = false;
            }
            char => json.push(char),
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schema, String> {
        Schema::parse(text, &BTreeMap::new())
    }

    #[test]
    fn a_file_becomes_messages_whose_names_are_found() {
        let text = r#"
            // A comment; /* not one */
            syntax = "proto3";
            package shop.v1;
            import public "google/protobuf/timestamp.proto";
            option java_package = "x";
            option (custom) = { a: 1 b: [2, 3] };
            message Order {
                reserved 7, 9 to 11; reserved "old";
                string order_id = 1 [json_name = "oid", deprecated = true];
                repeated Item items = 2;
                map<string, Item.Kind> kinds = 3;
                oneof who { string user = 4; int64 visitor_id = 5; }
                optional double total = 6;
                google.protobuf.Timestamp at = 8;
                .shop.v1.Order previous = 0x10;
                message Item { enum Kind { option allow_alias = true; UNKNOWN = 0; SOLD = -1; } Kind kind = 1; }
            }
            service S { rpc Get(Order) returns (Order) { option (x) = {}; } }
        "#;
        let schema = parse(text).expect("it is sound");
        let order = &schema.messages[schema.message("Order").expect("it is there") as usize];
        assert_eq!(order.name, "shop.v1.Order");
        let fields = order.fields.iter().map(|field| {
            let Field { number, name, json_name, repeated, presence, oneof, map, .. } = field;
            format!(
                "{number} {name} {json_name} {}",
                [*repeated, *presence, oneof.is_some(), *map].map(u8::from).map(|b| b.to_string()).concat()
            )
        });
        assert_eq!(
            fields.collect::<Vec<_>>(),
            [
                "1 order_id oid 0000",
                "2 items items 1100",
                "3 kinds kinds 1101",
                "4 user user 0110",
                "5 visitor_id visitorId 0110",
                "6 total total 0100",
                "8 at at 0100",
                "16 previous previous 0100",
            ]
        );
        assert_eq!(order.fields[7].kind, Kind::Message(schema.message("shop.v1.Order").expect("it is there")));
        assert_eq!(schema.enums[0].name(-1), Some("SOLD"));
        assert_eq!(
            schema.names().filter(|name| !name.contains(' ')).collect::<Vec<_>>(),
            ["shop.v1.Order.Item", "shop.v1.Order"]
        );
        assert_eq!(imports(text), Ok(vec![]));
    }

    #[test]
    fn fields_have_presence_as_their_syntax_says() {
        let presence = |text: &str| {
            let schema = parse(text).expect("it is sound");
            schema.messages.last().expect("a message").fields.iter().map(|field| field.presence).collect::<Vec<_>>()
        };
        assert_eq!(
            presence("message M { optional int32 a = 1; required int32 b = 2; repeated int32 c = 3; }"),
            [true, true, false]
        );
        assert_eq!(
            presence(r#"syntax = "proto3"; message M { int32 a = 1; optional int32 b = 2; M m = 3; }"#),
            [false, true, true]
        );
        assert_eq!(
            presence(
                r#"edition = "2023"; message M { int32 a = 1; int32 b = 2 [features.field_presence = IMPLICIT]; }"#
            ),
            [true, false]
        );
        assert_eq!(
            presence(r#"edition = "2023"; option features.field_presence = IMPLICIT; message M { int32 a = 1; }"#),
            [false]
        );
    }

    #[test]
    fn imported_files_are_read_once_also_in_a_circle() {
        let files = BTreeMap::from([
            ("a.proto".to_owned(), r#"import "b.proto"; message A { optional B b = 1; }"#.to_owned()),
            ("b.proto".to_owned(), r#"import "a.proto"; message B { optional int32 x = 1; }"#.to_owned()),
        ]);
        let text = r#"import "a.proto"; import "b.proto"; message M { optional A a = 1; optional B b = 2; }"#;
        assert_eq!(imports(text), Ok(vec!["a.proto".to_owned(), "b.proto".to_owned()]));
        assert_eq!(Schema::parse(text, &files).expect("it is sound").messages.len(), 3);
        assert_eq!(parse(text).err().as_deref(), Some("it imports `a.proto`, which is not there"));
    }

    #[test]
    fn a_file_whose_message_fields_use_is_imported() {
        let decimal = "confluent/type/decimal.proto";
        let text = format!(r#"import "{decimal}"; message M {{ optional confluent.type.Decimal price = 1; }}"#);
        assert_eq!(imports(&text), Ok(vec![decimal.to_owned()]));
        let file = r#"syntax = "proto3"; package confluent.type; message Decimal { bytes value = 1; }"#;
        let files = BTreeMap::from([(decimal.to_owned(), file.to_owned())]);
        assert!(Schema::parse(&text, &files).is_ok());
    }

    /// The descriptors that Google's library makes of [`AS_TEXT`] and of the file that it imports, in base64.
    const DESCRIPTORS: &str = include_str!("../../testdata/protobuf/descriptors.txt");
    const AS_TEXT: [&str; 2] = [
        r#"syntax = "proto3"; package shop; import "google/protobuf/timestamp.proto"; import "parts.proto";
        message Other {}
        message Event {
          enum Kind { none = 0; minus = -1; }
          message Inner { sfixed64 deep = 1; }
          string user_id = 1; optional int32 maybe = 2; oneof either { double left = 3; bytes right = 4; }
          Kind kind = 5; map<string, Inner> tags = 6; google.protobuf.Timestamp at = 7; repeated sint64 many = 8 [json_name = "lots"];
          parts.Part part = 9;
        }"#,
        r#"package parts; message Part { optional bool a = 1; required uint32 b = 2; }"#,
    ];

    #[test]
    fn a_file_is_the_same_as_a_descriptor_and_as_text() {
        let described: Vec<&str> = DESCRIPTORS.lines().collect();
        let shown = |texts: [&str; 2]| {
            let schema =
                Schema::parse(texts[0], &BTreeMap::from([("parts.proto".to_owned(), texts[1].to_owned())])).unwrap();
            let fields = schema.messages.iter().map(|message| {
                // The entries of maps have names that only we give them.
                let of = |kind: Kind| match kind {
                    Kind::Message(id) => {
                        format!("message {}", schema.messages[id as usize].name.replace("TagsEntry", "tags entry"))
                    }
                    Kind::Enum(id) => format!("{:?}", schema.enums[id as usize]),
                    scalar => format!("{scalar:?}"),
                };
                let field = |field: &Field| {
                    let Field { number, name, json_name, kind, repeated, presence, oneof, map } = field;
                    let is_in_oneof = oneof.is_some();
                    format!("{number} {name} {json_name} {} {repeated} {presence} {is_in_oneof} {map}", of(*kind))
                };
                (message.name.replace("TagsEntry", "tags entry"), message.fields.iter().map(field).collect::<Vec<_>>())
            });
            let mut fields: Vec<_> = fields.collect();
            fields.sort();
            let place = |place: &[u32]| schema.at(place).map(|id| schema.messages[id as usize].name.clone());
            (fields, place(&[0]), place(&[1]), place(&[1, 0]), place(&[2]))
        };
        let expected = shown(AS_TEXT);
        assert_eq!(expected.3.as_deref(), Some("shop.Event.Inner"));
        assert_eq!(shown([described[0], described[1]]), expected);
        assert_eq!(shown([described[0], AS_TEXT[1]]), expected);
        assert_eq!(imports(described[0]).unwrap(), ["parts.proto"]);
    }

    #[test]
    fn bytes_that_are_no_descriptor_are_refused() {
        for wrong in ["AAAA", "////", "Zm9vYmFy", "EgRzaG9wIg=="] {
            assert!(Schema::parse(wrong, &BTreeMap::new()).is_err(), "{wrong}");
        }
        let whole = DESCRIPTORS.lines().next().unwrap();
        for end in (4..whole.len()).step_by(4) {
            // A descriptor that ends early is refused, or has fewer messages.
            let _ = Schema::parse(&whole[..end], &BTreeMap::new());
        }
    }

    #[test]
    fn what_is_no_schema_is_refused_with_the_reason() {
        for (text, reason) in [
            ("message M {", "the end stands where a name is expected, line 1"),
            ("message M { int32 a = 1 }", "`}` stands where `;` is expected, line 1"),
            ("message M { int32 a = 0; }", "the field `a` has a number out of range, line 1"),
            ("message M { int32 a = x; }", "`x` is no number, line 1"),
            ("message M { int32 a = 1;\n int32 b = 1; }", "`M` has a number twice"),
            ("message M { N n = 1; }", "the type `N` is not defined"),
            ("message M {} message M {}", "`M` is defined twice"),
            ("message M { optional group G = 1 {} }", "groups are not read, line 1"),
            (
                r#"edition = "2023"; message M { M m = 1 [features.message_encoding = DELIMITED]; }"#,
                "groups are not read, which `message_encoding = DELIMITED` writes, line 1",
            ),
            (
                r#"edition = "2023"; message M { M m = 1 [features = { message_encoding: DELIMITED }]; }"#,
                "groups are not read, which `message_encoding = DELIMITED` writes, line 1",
            ),
            (
                "edition = \"2023\";\noption features.message_encoding = DELIMITED; message M {}",
                "groups are not read, which `message_encoding = DELIMITED` writes, line 2",
            ),
            ("{\"type\": 1}", "`{` has no place in a file, line 1"),
            ("/* x", "a comment does not end, line 1"),
            ("import \"x", "a text does not end, line 1"),
        ] {
            assert_eq!(parse(text).err().as_deref(), Some(reason), "{text}");
        }
    }
}
