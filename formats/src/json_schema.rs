//! Which paths the messages of a JSON Schema can have: for `check`, not for reading. Messages are read as any JSON.
//!
//! A member counts as lacking where the schema lists properties and this is none of them, or where the value can be no object; not where
//! `additionalProperties` or `patternProperties` say that there are others, and not below a reference that can't be followed.

use serde_json::Value;

use super::layout::{Layout, Slot};

/// Keywords whose schemas hold for the same value.
const SAME: [&str; 7] = ["allOf", "anyOf", "oneOf", "if", "then", "else", "not"];
/// Schemas of one value at most: more are a circle of another kind.
const SCHEMAS_MAX: usize = 10_000;

/// Calls `each` with each node of the layout that a schema has something for, and the names of the members there. `references` are the
/// schemas that it refers to, by name.
///
/// # Errors
/// A clause about the schema.
pub(super) fn reached(
    text: &str,
    references: &[(&str, &str)],
    layout: &Layout,
    mut each: impl FnMut(Slot, &mut dyn Iterator<Item = &str>),
) -> Result<(), String> {
    let parse = |text: &str| serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"));
    let root = parse(text)?;
    let others = references.iter().map(|(name, text)| Ok(((*name).to_owned(), parse(text)?)));
    let others: Vec<(String, Value)> = others.collect::<Result<_, String>>()?;
    let mut left: Vec<(Vec<At<'_>>, Slot)> = vec![(vec![At { root: &root, schema: &root }], 0)];
    while let Some((schemas, slot)) = left.pop() {
        let node = &layout.nodes[slot as usize];
        let found = Gathered::of(schemas, &others);
        let names = found.properties.iter().map(|(name, _)| name.as_str());
        each(slot, &mut { names });
        let members = node.members.iter().map(|member| {
            let own = found.properties.iter().filter(|(name, _)| **name == *member.name).map(|(_, at)| *at);
            (own.collect::<Vec<_>>(), found.may_have_others, member.node)
        });
        let elements = node.elements.iter().map(|(index, element)| {
            let own = found.items.iter().filter(|(of, _)| of.is_none_or(|of| of == *index)).map(|(_, at)| *at);
            (own.collect::<Vec<_>>(), found.may_have_elements, *element)
        });
        for (own, is_open, slot) in members.chain(elements) {
            match own.is_empty() {
                false => left.push((own, slot)),
                // Anything may be there.
                true if is_open => {
                    (slot..layout.nodes[slot as usize].end).for_each(|slot| each(slot, &mut std::iter::empty()))
                }
                true => {}
            }
        }
    }
    Ok(())
}

/// A schema, and the document that its references lead into.
#[derive(Clone, Copy)]
struct At<'v> {
    root: &'v Value,
    schema: &'v Value,
}

/// What schemas of one value say about its parts.
#[derive(Default)]
struct Gathered<'v> {
    properties: Vec<(&'v String, At<'v>)>,
    may_have_others: bool,
    /// By index, or for all.
    items: Vec<(Option<usize>, At<'v>)>,
    may_have_elements: bool,
}

impl<'v> Gathered<'v> {
    fn of(mut left: Vec<At<'v>>, others: &'v [(String, Value)]) -> Gathered<'v> {
        let mut found = Gathered::default();
        let mut seen: Vec<*const Value> = Vec::new();
        let (mut types, mut is_unknown): (Vec<&str>, bool) = (Vec::new(), false);
        while let Some(at) = left.pop() {
            if seen.contains(&std::ptr::from_ref(at.schema)) || seen.len() > SCHEMAS_MAX {
                continue;
            }
            seen.push(at.schema);
            let inside = |schema| At { root: at.root, schema };
            if let Some(reference) = at.schema["$ref"].as_str() {
                match follow(at.root, reference, others) {
                    Some(to) => left.push(to),
                    None => is_unknown = true,
                }
            }
            for keyword in SAME {
                match &at.schema[keyword] {
                    Value::Array(all) => left.extend(all.iter().map(inside)),
                    one @ Value::Object(_) if keyword != "not" => left.push(inside(one)),
                    _ => {}
                }
            }
            match &at.schema["type"] {
                Value::String(name) => types.push(name),
                Value::Array(names) => types.extend(names.iter().filter_map(Value::as_str)),
                _ => {}
            }
            if let Some(properties) = at.schema["properties"].as_object() {
                found.properties.extend(properties.iter().map(|(name, schema)| (name, inside(schema))));
            }
            let says_more = |keyword: &str| matches!(&at.schema[keyword], Value::Bool(true) | Value::Object(_));
            found.may_have_others |=
                ["additionalProperties", "unevaluatedProperties", "patternProperties"].into_iter().any(says_more);
            for keyword in ["items", "prefixItems"] {
                match &at.schema[keyword] {
                    Value::Array(list) => {
                        found.items.extend(list.iter().enumerate().map(|(index, of)| (Some(index), inside(of))))
                    }
                    one @ Value::Object(_) => found.items.push((None, inside(one))),
                    _ => {}
                }
            }
        }
        let may_be = |name: &str| types.is_empty() || types.contains(&name);
        found.may_have_others |= is_unknown || found.properties.is_empty() && may_be("object");
        found.may_have_elements |= is_unknown || may_be("array");
        found
    }
}

/// Returns where a reference leads to; `None` if it is followed by no rule that is known here.
fn follow<'v>(root: &'v Value, reference: &str, others: &'v [(String, Value)]) -> Option<At<'v>> {
    let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let root = match document {
        "" => root,
        name => {
            let is_meant = |(known, schema): &&(String, Value)| known == name || schema["$id"].as_str() == Some(name);
            &others.iter().find(is_meant)?.1
        }
    };
    Some(At { root, schema: root.pointer(fragment)? })
}
