//! Avro's schemas: their text becomes a table of types.
//!
//! Promises: names are resolved as the specification has it, with namespaces, and may refer to themselves; a logical type that does not
//! fit its type is left out, as the specification asks. Refuses: a name that is defined twice or not at all, and what the
//! specification does not have.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// A type, by its place in [`Schema::types`].
pub(crate) type TypeId = u32;

/// A schema, and all types that it refers to.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) types: Vec<Type>,
    pub(crate) root: TypeId,
}

/// What values of a type are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Null,
    Boolean,
    /// 32 bits.
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// Days since the epoch, an int.
    Date,
    /// A long, in so many units a second.
    Timestamp(i64),
    /// A number with so many digits behind the point, in bytes or in a fixed of a size.
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    /// 16 bytes.
    Uuid,
    Fixed(usize),
    Enum(Vec<Box<str>>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(Box<str>, TypeId)>),
}

impl Schema {
    /// Reads the text of a schema. `references` are the texts of the schemas whose types it names, each behind those that it names itself.
    ///
    /// # Errors
    /// A clause about the text.
    pub(crate) fn parse(text: &str, references: &[&str]) -> Result<Schema, String> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        Ok(Schema { types: parser.types, root })
    }

    pub(crate) fn of(&self, id: TypeId) -> &Type {
        &self.types[id as usize]
    }
}

struct Parser {
    types: Vec<Type>,
    /// By full name.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<TypeId, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        self.schema(&value, "")
    }

    fn add(&mut self, of: Type) -> TypeId {
        let id = self.types.len() as TypeId;
        self.types.push(of);
        id
    }

    fn schema(&mut self, value: &Value, namespace: &str) -> Result<TypeId, String> {
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches: Result<Vec<_>, _> =
                    branches.iter().map(|branch| self.schema(branch, namespace)).collect();
                Ok(self.add(Type::Union(branches?)))
            }
            Value::Object(attributes) => self.attributes(attributes, namespace),
            other => Err(format!("`{other}` is no type")),
        }
    }

    /// Returns the type of a name.
    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        if let Some(primitive) = primitive(name) {
            return Ok(self.add(primitive));
        }
        let found = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("the type `{name}` is not defined"))
    }

    fn attributes(&mut self, of: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let kind = match of.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // `{"type": {"type": …}}`.
            Some(inner) => return self.schema(inner, namespace),
            None => return Err("a type has no `type`".to_owned()),
        };
        match kind {
            "array" => {
                let items = self.schema(of.get("items").ok_or("an array has no `items`")?, namespace)?;
                Ok(self.add(Type::Array(items)))
            }
            "map" => {
                let values = self.schema(of.get("values").ok_or("a map has no `values`")?, namespace)?;
                Ok(self.add(Type::Map(values)))
            }
            "record" | "error" | "enum" | "fixed" => self.definition(kind, of, namespace),
            _ => match primitive(kind) {
                Some(primitive) => Ok(self.add(logical(of, primitive))),
                None => self.named(kind, namespace),
            },
        }
    }

    /// Returns the type that a definition with a name makes.
    fn definition(&mut self, kind: &str, of: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let name = of.get("name").and_then(Value::as_str).ok_or_else(|| format!("a type `{kind}` has no `name`"))?;
        let namespace = of.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let full = full_name(name, namespace);
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        // Its own fields may name it.
        let id = self.add(Type::Null);
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("the type `{full}` is defined twice"));
        }
        let list = |key: &str| of.get(key).and_then(Value::as_array).ok_or_else(|| format!("`{full}` has no `{key}`"));
        let defined = match kind {
            "enum" => {
                let symbols = list("symbols")?.iter().map(|symbol| symbol.as_str().map(Box::from));
                Type::Enum(symbols.collect::<Option<_>>().ok_or_else(|| format!("a symbol of `{full}` is no text"))?)
            }
            "fixed" => {
                let size = of.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                logical(of, Type::Fixed(size.ok_or_else(|| format!("`{full}` has no `size`"))?))
            }
            _ => {
                let mut fields: Vec<(Box<str>, TypeId)> = Vec::new();
                for field in list("fields")? {
                    let name = field.get("name").and_then(Value::as_str);
                    let name = name.ok_or_else(|| format!("a field of `{full}` has no `name`"))?;
                    let of =
                        field.get("type").ok_or_else(|| format!("the field `{name}` of `{full}` has no `type`"))?;
                    if fields.iter().any(|(known, _)| **known == *name) {
                        return Err(format!("`{full}` has the field `{name}` twice"));
                    }
                    fields.push((name.into(), self.schema(of, &namespace)?));
                }
                Type::Record(fields)
            }
        };
        self.types[id as usize] = defined;
        Ok(id)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}

/// Returns the type with its logical type, if it has one that fits.
fn logical(of: &Map<String, Value>, plain: Type) -> Type {
    let Some(logical) = of.get("logicalType").and_then(Value::as_str) else { return plain };
    match (logical, &plain) {
        ("date", Type::Int) => Type::Date,
        ("timestamp-millis" | "local-timestamp-millis", Type::Long) => Type::Timestamp(1_000),
        ("timestamp-micros" | "local-timestamp-micros", Type::Long) => Type::Timestamp(1_000_000),
        ("timestamp-nanos" | "local-timestamp-nanos", Type::Long) => Type::Timestamp(1_000_000_000),
        ("uuid", Type::Fixed(16)) => Type::Uuid,
        ("decimal", Type::Bytes | Type::Fixed(_)) => {
            let size = match plain {
                Type::Fixed(size) => Some(size),
                _ => None,
            };
            let precision = of.get("precision").and_then(Value::as_u64);
            let scale = of.get("scale").map_or(Some(0), Value::as_u64);
            match (precision, scale) {
                (Some(precision), Some(scale)) if scale <= precision && precision <= PRECISION_MAX && precision > 0 => {
                    Type::Decimal { scale: scale as u32, size }
                }
                _ => plain,
            }
        }
        _ => plain,
    }
}

/// The most digits of a decimal.
const PRECISION_MAX: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schema, String> {
        Schema::parse(text, &[])
    }

    #[test]
    fn names_are_resolved_in_their_namespaces() {
        let text = r#"{"type":"record","name":"a.b.R","fields":[
            {"name":"e","type":{"type":"enum","name":"E","symbols":["X"]}},
            {"name":"f","type":{"type":"fixed","name":"F","namespace":"c","size":2}},
            {"name":"again","type":["null","E","a.b.E","c.F","R"]}]}"#;
        let schema = parse(text).expect("it is sound");
        let Type::Record(fields) = schema.of(schema.root) else { panic!("a record") };
        let Type::Union(branches) = schema.of(fields[2].1) else { panic!("a union") };
        assert_eq!(branches[1..], [fields[0].1, fields[0].1, fields[1].1, schema.root]);
    }

    #[test]
    fn types_of_other_schemas_are_found_by_name() {
        let color = r#"{"type":"enum","name":"Color","namespace":"a","symbols":["RED"]}"#;
        let text = r#"{"type":"record","name":"R","fields":[{"name":"c","type":"a.Color"}]}"#;
        assert!(Schema::parse(text, &[color]).is_ok());
        assert_eq!(parse(text).err().as_deref(), Some("the type `a.Color` is not defined"));
    }

    #[test]
    fn logical_types_that_do_not_fit_are_left_out() {
        for (text, expected) in [
            (r#"{"type":"int","logicalType":"date"}"#, Type::Date),
            (r#"{"type":"long","logicalType":"timestamp-micros"}"#, Type::Timestamp(1_000_000)),
            (r#"{"type":"string","logicalType":"timestamp-millis"}"#, Type::String),
            (r#"{"type":"string","logicalType":"uuid"}"#, Type::String),
            (r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#, Type::Uuid),
            (r#"{"type":"fixed","name":"U","size":15,"logicalType":"uuid"}"#, Type::Fixed(15)),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":76,"scale":38}"#,
                Type::Decimal { scale: 38, size: None },
            ),
            (r#"{"type":"bytes","logicalType":"decimal","precision":3,"scale":4}"#, Type::Bytes),
            (r#"{"type":"bytes","logicalType":"decimal","scale":4}"#, Type::Bytes),
            (r#"{"type":{"type":"long"}}"#, Type::Long),
        ] {
            let schema = parse(text).expect("it is sound");
            assert_eq!(*schema.of(schema.root), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused_with_the_reason() {
        for (text, reason) in [
            ("string", "it is not JSON: expected value at line 1 column 1"),
            ("7", "`7` is no type"),
            ("{}", "a type has no `type`"),
            (r#""strin""#, "the type `strin` is not defined"),
            (r#"{"type":"array"}"#, "an array has no `items`"),
            (r#"{"type":"record","fields":[]}"#, "a type `record` has no `name`"),
            (r#"{"type":"record","name":"R"}"#, "`R` has no `fields`"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "the field `a` of `R` has no `type`"),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"R","size":1}}]}"#,
                "the type `R` is defined twice",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
                "`R` has the field `a` twice",
            ),
        ] {
            assert_eq!(parse(text).err().as_deref(), Some(reason), "{text}");
        }
    }
}
