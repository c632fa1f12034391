//! From text to the parser's tree: keywords, and the limits of depth and length.
//!
//! Names that are no keyword of predicates are columns, also if they are keywords of other SQL (`path`, `user`,
//! `order`, `date`); a few words need quotes ([`RESERVED`]). What the parser reads but its tree does not show (`==`, comments,
//! `not null` for `is not null`) is refused here.

use sqlparser::ast::{Expr, Ident};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

/// Words that are columns only in quotes: those that begin or continue an expression.
pub(crate) const RESERVED: [&str; 24] = [
    "all",
    "and",
    "any",
    "between",
    "case",
    "distinct",
    "escape",
    "exists",
    "false",
    "ilike",
    "in",
    "is",
    "like",
    "not",
    "null",
    "or",
    "returning",
    "select",
    "some",
    "table",
    "true",
    "unnest",
    "values",
    "with",
];

/// How deep operators, functions and parentheses may nest. One level takes up to two of the parser's.
pub(crate) const DEPTH: usize = 50;
const PARSER_DEPTH: usize = 2 * DEPTH + 10;

/// The stack of the thread that parses, in bytes: a caller's may be small, and a level of the parser takes many kB where it is
/// built without optimisation.
const PARSER_STACK: usize = 16 << 20;

/// How many operators there may be: the parser's tree is as deep as its longest chain of them.
const OPERATORS: usize = 2_000;

/// What is wrong with a text, and where in it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) message: String,
    /// `None` if it is wrong as a whole.
    pub(crate) location: Option<Location>,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(location: Location, message: impl Into<String>) -> Fault {
        // Line 0 is the parser's mark for no place.
        Fault { message: message.into(), location: (location.line > 0).then_some(location), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the message with its place in the text.
    pub(crate) fn sentence(&self) -> String {
        match self.location {
            None => self.message.clone(),
            Some(Location { line: 1, column }) => format!("{} at column {column}", self.message),
            Some(Location { line, column }) => {
                format!("{} at line {line}, column {column}", self.message)
            }
        }
    }
}

/// Parses one expression.
///
/// # Errors
///
/// Returns the first fault: the parser does not read on behind one.
pub(crate) fn parse(text: &str) -> Result<Expr, Fault> {
    let parse = || parse_on_this_stack(text);
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().name("parser".to_owned()).stack_size(PARSER_STACK);
        let parser = parser.spawn_scoped(scope, parse).expect("the system starts a thread");
        parser.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn parse_on_this_stack(text: &str) -> Result<Expr, Fault> {
    let tokens = Tokenizer::new(&Predicates, text).with_unescape(true).tokenize_with_location();
    let tokens = tokens.map_err(|error| match lower_first(&error.message) {
        name if name.contains("close delimiter") => Fault::new(error.location, "a name in double quotes is not closed")
            .hint("text is in single quotes: `'text'`"),
        text => {
            Fault::new(error.location, text).hint("close it with a quote; one inside of text is doubled: `'it''s'`")
        }
    })?;
    check(&tokens)?;
    let mut parser = Parser::new(&Predicates)
        .with_options(ParserOptions::new().with_unescape(true))
        .with_recursion_limit(PARSER_DEPTH)
        .with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(fault)?;
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return Ok(expr);
    }
    let fault = Fault::new(next.span.start, format!("`{}` was not expected", next.token));
    Err(match next.token {
        Token::SemiColon => fault.hint("leave it out: a predicate is one condition"),
        Token::RParen => fault.hint("leave it out: no `(` is open before it"),
        Token::Comma => fault.hint("a list stands only after `in`, in parentheses"),
        Token::Word(Word { keyword: Keyword::NOT, .. }) => {
            fault.hint("`not` stands before a condition, before `in`, `between` and `like`, and in `is not null`")
        }
        _ => fault.hint("conditions are joined by `and` or `or`, texts by `||`"),
    })
}

/// Refuses tokens that leave no trace in the tree, and too many of them.
fn check(tokens: &[TokenWithSpan]) -> Result<(), Fault> {
    let mut operators = 0;
    let mut empty = true;
    let mut before = &Token::EOF;
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
                return Err(Fault::new(span.start, "a comment is not part of a predicate"));
            }
            Token::Whitespace(_) | Token::EOF => continue,
            Token::DoubleEq => {
                return Err(Fault::new(span.start, "`==` is not an operator of predicates").hint("write `=`"));
            }
            Token::Overlap => {
                return Err(Fault::new(span.start, "`&&` is not an operator of predicates").hint("write `and`"));
            }
            Token::ExclamationMark => {
                let fault = Fault::new(span.start, "`!` is not an operator of predicates");
                return Err(fault.hint("write `not`, and `<>` or `!=` without a space"));
            }
            Token::Word(Word { value, quote_style: None, .. })
                if matches!(before, Token::Number(..)) && unit(value).is_some() =>
            {
                let (number, unit) = (before.to_string(), unit(value).expect("it is one"));
                let fault = Fault::new(span.start, format!("`{number}{value}` is not a literal of predicates"));
                return Err(fault.hint(format!("write `interval '{number} {unit}'`")));
            }
            Token::HexStringLiteral(digits) if span.end.column - span.start.column == digits.len() as u64 + 2 => {
                let fault = Fault::new(span.start, format!("`0x{digits}` is not a literal of predicates"));
                return Err(match i64::from_str_radix(digits, 16) {
                    Ok(number) => fault.hint(format!("write it in decimal: `{number}`")),
                    Err(_) => fault.hint("write it in decimal"),
                });
            }
            // Literals only add to the length of a list, not to the depth of the tree.
            Token::Word(Word { keyword: Keyword::NoKeyword, .. })
            | Token::Number(..)
            | Token::SingleQuotedString(_) => {}
            Token::Word(Word { keyword: Keyword::TRUE | Keyword::FALSE | Keyword::NULL, .. }) => {}
            Token::Word(Word { keyword: Keyword::DATE | Keyword::TIMESTAMP, .. }) => {}
            Token::Comma | Token::LParen | Token::RParen => {}
            Token::Minus if matches!(before, Token::Comma) => {}
            _ => operators += 1,
        }
        before = token;
        empty = false;
        if operators > OPERATORS {
            let fault = Fault::new(span.start, format!("a predicate has no more than {OPERATORS} operators and names"));
            return Err(fault.hint("`in (...)` takes any number of literals"));
        }
    }
    if empty {
        return Err(Fault { message: "the predicate is empty".to_owned(), location: None, hint: None });
    }
    Ok(())
}

/// Returns the unit of an interval that a letter stands for in a job's durations.
fn unit(letter: &str) -> Option<&'static str> {
    Some(match letter {
        "ms" => "milliseconds",
        "s" => "seconds",
        "m" => "minutes",
        "h" => "hours",
        "d" => "days",
        "w" => "weeks",
        _ => return None,
    })
}

/// Returns the parser's error as a fault.
fn fault(error: ParserError) -> Fault {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return Fault { message: too_deep(), location: None, hint: Some(SPLIT.to_owned()) };
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    let (text, location) = match text.rsplit_once(" at Line: ") {
        Some((text, place)) => (
            text,
            place
                .split_once(", Column: ")
                .and_then(|(line, column)| Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })),
        ),
        None => (text.as_str(), None),
    };
    let Some((expected, found)) = text.strip_prefix("Expected: ").and_then(|text| text.rsplit_once(", found: ")) else {
        return Fault { message: lower_first(text), location, hint: None };
    };
    let found = if found == "EOF" { "the end".to_owned() } else { format!("`{found}`") };
    let (message, hint) = match expected {
        _ if expected.ends_with(" after IS") => (
            format!("`is` takes `null`, `not null`, `distinct from` or `not distinct from`, found {found}"),
            Some("write `=` to compare values"),
        ),
        ")" => {
            (format!("expected `)`, found {found}"), Some("close each `(`, and separate the items of a list by commas"))
        }
        "AND" => (format!("expected `and`, found {found}"), Some("`between` takes two bounds: `x between 1 and 5`")),
        "(" => (format!("expected `(`, found {found}"), Some("`in` takes literals in parentheses: `x in (1, 2)`")),
        _ if found == "```" => {
            (format!("expected {expected}, found a backtick"), Some("a name is quoted as in `\"total billed\"`"))
        }
        _ if expected.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            (format!("expected {expected}, found {found}"), None)
        }
        _ => (format!("expected `{}`, found {found}", expected.to_lowercase()), None),
    };
    Fault { message, location, hint: hint.map(str::to_owned) }
}

/// Returns the message of a predicate that is too deep.
pub(crate) fn too_deep() -> String {
    format!("the predicate nests deeper than {DEPTH} levels")
}

/// What to do about a predicate that is too deep.
pub(crate) const SPLIT: &str =
    "leave out parentheses, or make conditions of its parts and join them by `all`, `any` and `not`";

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// The dialect: which words the parser reads as names.
#[derive(Debug)]
struct Predicates;

impl Dialect for Predicates {
    fn is_identifier_start(&self, char: char) -> bool {
        char.is_alphabetic() || char == '_'
    }

    fn is_identifier_part(&self, char: char) -> bool {
        char.is_alphanumeric() || char == '_'
    }

    fn is_delimited_identifier_start(&self, char: char) -> bool {
        char == '"'
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let TokenWithSpan { token: Token::Word(word), span } = parser.peek_token_ref() else {
            return None;
        };
        let (word, span) = (word.clone(), *span);
        if word.quote_style.is_none() {
            match word.value.to_ascii_lowercase().as_str() {
                "and" | "or" | "in" | "is" | "between" | "like" | "ilike" | "escape" => {
                    let found = parser.peek_token();
                    return Some(parser.expected("an expression", found));
                }
                name if RESERVED.contains(&name) => return None,
                _ => {}
            }
            match parser.peek_nth_token_ref(1).token {
                Token::LParen | Token::SingleQuotedString(_) | Token::Number(..) => return None,
                _ => {}
            }
        }
        parser.next_token();
        Some(Ok(Expr::Identifier(Ident { value: word.value, quote_style: word.quote_style, span })))
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let is = |index, keyword| match &parser.peek_nth_token_ref(index).token {
            Token::Word(word) => word.keyword == keyword,
            _ => false,
        };
        // `a not null` would be read as `a is not null`.
        (is(0, Keyword::NOT) && is(1, Keyword::NULL)).then_some(Ok(0))
    }
}
