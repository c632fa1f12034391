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
    let tokens = tokens.map_err(|error| Fault::new(error.location, lower_first(&error.message)))?;
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
    Err(Fault::new(next.span.start, format!("`{}` was not expected", next.token)))
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
            let message = format!("the predicate nests deeper than {DEPTH} levels");
            return Fault { message, location: None, hint: None };
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
    let message = match text.strip_prefix("Expected: ").and_then(|text| text.rsplit_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected}, found the end"),
        Some((expected, found)) => format!("expected {expected}, found `{found}`"),
        None => lower_first(text),
    };
    Fault { message, location, hint: None }
}

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
