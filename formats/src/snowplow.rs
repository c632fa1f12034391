//! Snowplow's enriched events: rows of 131 columns, and the JSON of its analytics SDKs.
//!
//! Both are read by the same paths, the names that the SDKs give:
//!
//! * an atomic column by its name, `page_urlpath`. In a row a column is text, an empty one is nothing, and the flags `0` and
//!   `1` are booleans;
//! * `contexts_com_acme_product_1[0].sku`: what is attached to the event, by vendor, name and model of its schema, as a list
//!   in the order of `contexts`, then `derived_contexts`;
//! * `unstruct_event_com_acme_bought_2.price`: the data of a self-describing event of that schema;
//! * `properties.price`: the same of any schema. `properties.contexts_…` is `contexts_…`;
//! * `contexts`, `derived_contexts` and `unstruct_event` lead into the JSON that stands there, schemas and all.
//!
//! In a row a path that starts otherwise leads nowhere. A schema that is none names nothing. `_schema_version`, which the
//! SDKs put into what they name by schema, is only in their JSON.
//!
//! A line end behind a row is passed over. A row is walked once for its tabs. Of its columns only the needed ones are looked at, so that a broken JSON column
//! is malformed where the job needs it. What is named by schema is looked up by one more pass over its list.

use std::borrow::Cow;

use usher_config::{Found, Path, Step};

use super::json::{Ahead, Walk, fill, over, utf8};
use super::layout::{Layout, Slot};
use super::malformed::{Malformed, What};
use super::scan::tabs;
use super::{Fields, star};

/// The columns of a row, in order.
#[rustfmt::skip]
pub(super) const COLUMNS: [&str; 131] = [
    "app_id", "platform", "etl_tstamp", "collector_tstamp", "dvce_created_tstamp", "event", "event_id", "txn_id",
    "name_tracker", "v_tracker", "v_collector", "v_etl", "user_id", "user_ipaddress", "user_fingerprint",
    "domain_userid", "domain_sessionidx", "network_userid", "geo_country", "geo_region", "geo_city", "geo_zipcode",
    "geo_latitude", "geo_longitude", "geo_region_name", "ip_isp", "ip_organization", "ip_domain", "ip_netspeed",
    "page_url", "page_title", "page_referrer", "page_urlscheme", "page_urlhost", "page_urlport", "page_urlpath",
    "page_urlquery", "page_urlfragment", "refr_urlscheme", "refr_urlhost", "refr_urlport", "refr_urlpath",
    "refr_urlquery", "refr_urlfragment", "refr_medium", "refr_source", "refr_term", "mkt_medium", "mkt_source",
    "mkt_term", "mkt_content", "mkt_campaign", "contexts", "se_category", "se_action", "se_label", "se_property",
    "se_value", "unstruct_event", "tr_orderid", "tr_affiliation", "tr_total", "tr_tax", "tr_shipping", "tr_city",
    "tr_state", "tr_country", "ti_orderid", "ti_sku", "ti_name", "ti_category", "ti_price", "ti_quantity",
    "pp_xoffset_min", "pp_xoffset_max", "pp_yoffset_min", "pp_yoffset_max", "useragent", "br_name", "br_family",
    "br_version", "br_type", "br_renderengine", "br_lang", "br_features_pdf", "br_features_flash",
    "br_features_java", "br_features_director", "br_features_quicktime", "br_features_realplayer",
    "br_features_windowsmedia", "br_features_gears", "br_features_silverlight", "br_cookies", "br_colordepth",
    "br_viewwidth", "br_viewheight", "os_name", "os_family", "os_manufacturer", "os_timezone", "dvce_type",
    "dvce_ismobile", "dvce_screenwidth", "dvce_screenheight", "doc_charset", "doc_width", "doc_height",
    "tr_currency", "tr_total_base", "tr_tax_base", "tr_shipping_base", "ti_currency", "ti_price_base",
    "base_currency", "geo_timezone", "mkt_clickid", "mkt_network", "etl_tags", "dvce_sent_tstamp",
    "refr_domain_userid", "refr_dvce_tstamp", "derived_contexts", "domain_sessionid", "derived_tstamp",
    "event_vendor", "event_name", "event_format", "event_version", "event_fingerprint", "true_tstamp",
];

/// The columns that hold `0` or `1`.
fn is_flag(column: &str) -> bool {
    column.starts_with("br_features_") || column == "br_cookies" || column == "dvce_ismobile"
}

/// What names by schema start with.
const ENTITY: &str = "contexts_";
const EVENT: &str = "unstruct_event_";

/// Where a path of the job that starts with `properties` leads.
pub(super) fn property(path: &Path) -> Vec<Step> {
    match path.0.get(1) {
        Some(Step::Key(name)) if name.starts_with(ENTITY) => path.0[1..].to_vec(),
        _ => path.0.clone(),
    }
}

/// What is needed of an event beside the members that are what they are called.
#[derive(Debug, Default)]
pub(super) struct Snowplow {
    /// The needed columns of a row, in order.
    columns: Vec<Column>,
    /// `properties`, which is no member: the data of the self-describing event.
    properties: Option<Slot>,
    /// Something attached is needed by its schema.
    entities: bool,
    /// The data of the self-describing event is needed.
    event: bool,
}

#[derive(Debug)]
struct Column {
    index: usize,
    /// Its node, if it is needed as it stands there.
    slot: Option<Slot>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Flag,
    Entities,
    Event,
}

/// Where the parts of an event in JSON are that are not read as they stand there.
#[derive(Clone, Copy, Default)]
pub(super) struct Parts {
    contexts: Option<usize>,
    derived_contexts: Option<usize>,
    unstruct_event: Option<usize>,
    /// The data of the self-describing event, where it is a member by its schema.
    data: Option<usize>,
}

/// An object with a schema: where its members are.
#[derive(Default)]
struct Described {
    /// The string, quotes included.
    schema: Option<(usize, usize)>,
    data: Option<usize>,
    end: usize,
}

impl Snowplow {
    pub(super) fn new(layout: &Layout) -> Snowplow {
        let starting = |with: &str| layout.nodes[0].members.iter().any(|member| member.name.starts_with(with));
        let properties = layout.root_member("properties");
        let (entities, event) = (starting(ENTITY), properties.is_some() || starting(EVENT));
        let column = |(index, name): (usize, &&str)| {
            let slot = layout.root_member(name);
            let (kind, needed) = match *name {
                "contexts" | "derived_contexts" => (Kind::Entities, slot.is_some() || entities),
                "unstruct_event" => (Kind::Event, slot.is_some() || event),
                // Into text no path leads.
                name => {
                    let kind = if is_flag(name) { Kind::Flag } else { Kind::Text };
                    (kind, slot.is_some_and(|slot| layout.nodes[slot as usize].needed))
                }
            };
            needed.then_some(Column { index, slot, kind })
        };
        Snowplow { columns: COLUMNS.iter().enumerate().filter_map(column).collect(), properties, entities, event }
    }

    /// The node of `properties`, which is no member.
    pub(super) fn properties(&self) -> Option<Slot> {
        self.properties
    }
}

/// Reads one row into `fields`, which is cleared and sized for `layout`.
pub(super) fn walk_tsv<'a>(layout: &Layout, message: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Malformed> {
    let message = message.strip_suffix(b"\n").map_or(message, |row| row.strip_suffix(b"\r").unwrap_or(row));
    let text = utf8(message)?;
    let mut ends = [0; COLUMNS.len()];
    let count = tabs(message, &mut ends) + 1;
    if count != COLUMNS.len() {
        // Where it lacks one, or has one too many.
        let at = if count < COLUMNS.len() { message.len() } else { ends[COLUMNS.len() - 1] };
        return Err(Malformed { what: What::Columns(count), at });
    }
    ends[COLUMNS.len() - 1] = message.len();
    for Column { index, slot, kind } in &layout.snowplow.columns {
        let start = if *index == 0 { 0 } else { ends[index - 1] + 1 };
        let value = &text[start..ends[*index]];
        if value.is_empty() {
            continue;
        }
        match (kind, *slot) {
            (Kind::Text, Some(slot)) => fill(&mut fields.found[slot as usize], Found::Text(Cow::Borrowed(value))),
            (Kind::Flag, Some(slot)) => {
                let flag = match value {
                    "0" => Found::Boolean(false),
                    "1" => Found::Boolean(true),
                    other => Found::Text(Cow::Borrowed(other)),
                };
                fill(&mut fields.found[slot as usize], flag);
            }
            (Kind::Text | Kind::Flag, None) => unreachable!("only needed columns are listed"),
            (Kind::Entities | Kind::Event, slot) => {
                let known = fields.broken.len();
                let walked = over(layout, value, fields, |walk| walk.column(slot, *kind));
                fields.place_broken(known, start);
                walked.map_err(|malformed| Malformed { at: malformed.at + start, ..malformed })?;
            }
        }
    }
    Ok(())
}

/// Reads one event in JSON into `fields`, which is cleared and sized for `layout`.
pub(super) fn walk_json<'a>(layout: &Layout, message: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Malformed> {
    over(layout, utf8(message)?, fields, |walk| walk.event())
}

impl Walk<'_, '_> {
    /// A whole event in JSON.
    fn event(&mut self) -> Option<()> {
        let start = self.scan.blank(0);
        if self.scan.byte(start) != b'{' {
            return self.scan.fail(What::NotOneObject, start);
        }
        let end = self.object::<true>(0, start, 0)?;
        self.ends(end)?;
        let Parts { contexts, derived_contexts, unstruct_event, data } = self.parts;
        for at in [contexts, derived_contexts].into_iter().flatten() {
            let wrapper = self.described(at)?;
            self.entities(wrapper.data)?;
        }
        if let Some(at) = unstruct_event {
            let wrapper = self.described(at)?;
            self.self_describing(wrapper.data)?;
        }
        if let (Some(slot), Some(at)) = (self.layout.snowplow.properties, data) {
            self.value(slot, at, 0, Ahead::default())?;
        }
        Some(())
    }

    /// Only white space follows.
    fn ends(&mut self, at: usize) -> Option<()> {
        let rest = self.scan.blank(at);
        if rest != self.scan.bytes.len() {
            return self.scan.fail(What::NotOneObject, rest);
        }
        Some(())
    }

    /// Notes the value at `at` if its member, whose name is the string from `name` to `end`, is more than a value.
    ///
    /// Answers the node of the member, which is `child` but for one that is not meant.
    #[inline]
    pub(super) fn part(&mut self, name: usize, end: usize, at: usize, child: Option<Slot>) -> Option<Slot> {
        let name = self.scan.string(name, end).unwrap_or_default();
        let snowplow = &self.layout.snowplow;
        // Of a repeated name the last counts.
        let object = (self.scan.byte(at) == b'{').then_some(at);
        match &*name {
            "contexts" if snowplow.entities => self.parts.contexts = object,
            "derived_contexts" if snowplow.entities => self.parts.derived_contexts = object,
            "unstruct_event" if snowplow.event => self.parts.unstruct_event = object,
            // Loaders write null for all schemas but the event's own.
            name if name.starts_with(EVENT) => self.parts.data = object.or(self.parts.data),
            _ => {}
        }
        child.filter(|child| Some(*child) != snowplow.properties)
    }

    /// A column of a row that is one JSON object.
    fn column(&mut self, slot: Option<Slot>, kind: Kind) -> Option<()> {
        let start = self.scan.blank(0);
        if self.scan.byte(start) != b'{' {
            return self.scan.fail(What::NotOneObject, start);
        }
        let wrapper = self.described(start)?;
        self.ends(wrapper.end)?;
        if let Some(slot) = slot {
            self.value(slot, start, 0, Ahead::default())?;
        }
        match kind {
            Kind::Entities if self.layout.snowplow.entities => self.entities(wrapper.data),
            Kind::Event if self.layout.snowplow.event => self.self_describing(wrapper.data),
            _ => Some(()),
        }
    }

    /// Goes over the object at `at`, and checks its structure.
    fn described(&mut self, at: usize) -> Option<Described> {
        let mut found = Described::default();
        let mut at = self.scan.blank(at + 1);
        if self.scan.byte(at) == b'}' {
            found.end = at + 1;
            return Some(found);
        }
        loop {
            if self.scan.byte(at) != b'"' {
                return self.scan.fail(What::Expected("a name"), at);
            }
            let end = self.scan.skip_string(at)?;
            let name = self.scan.string(at, end);
            let value = self.scan.colon(end)?;
            // The object that they are in is a level.
            at = self.scan.skip::<false>(value, 1)?;
            match name.as_deref() {
                Some("schema") => found.schema = (self.scan.byte(value) == b'"').then_some((value, at)),
                Some("data") => found.data = Some(value),
                _ => {}
            }
            at = self.scan.blank(at);
            match self.scan.byte(at) {
                b',' => at = self.scan.blank(at + 1),
                b'}' => {
                    found.end = at + 1;
                    return Some(found);
                }
                _ => return self.scan.fail(What::Expected("`,` or `}`"), at),
            }
        }
    }

    /// The node of what has that schema; none: nobody needs it.
    fn node_of(&mut self, prefix: &str, schema: Option<(usize, usize)>) -> Option<Slot> {
        let (at, end) = schema?;
        let mut name = std::mem::take(&mut self.fields.name);
        let named = name_by_schema(prefix, &self.scan.string(at, end)?, &mut name);
        let node = named.and_then(|()| self.layout.root_member(&name));
        self.fields.name = name;
        // A member of that name was there: it is that.
        node.filter(|slot| self.fields.met[*slot as usize / 64] & (1 << (slot % 64)) == 0)
    }

    /// What is attached: the list at `data`, whose structure is known to be sound.
    fn entities(&mut self, data: Option<usize>) -> Option<()> {
        let Some(list) = data.filter(|at| self.scan.byte(*at) == b'[') else {
            return Some(());
        };
        let mut at = self.scan.blank(list + 1);
        while self.scan.byte(at) != b']' {
            if self.scan.byte(at) == b'{' {
                let Described { schema, data, end } = self.described(at)?;
                if let (Some(slot), Some(data)) = (self.node_of(ENTITY, schema), data) {
                    self.entity(slot, data)?;
                }
                at = end;
            } else {
                at = self.scan.skip::<false>(at, 0)?;
            }
            at = self.scan.blank(at);
            if self.scan.byte(at) == b',' {
                at = self.scan.blank(at + 1);
            }
        }
        Some(())
    }

    /// One more element of the list at `slot`, which is in no message.
    fn entity(&mut self, slot: Slot, data: usize) -> Option<()> {
        let layout = self.layout;
        let node = &layout.nodes[slot as usize];
        let index = match self.fields.entities.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, count)) => {
                *count += 1;
                *count - 1
            }
            None => {
                self.fields.entities.push((slot, 1));
                0
            }
        };
        if let Some((_, element)) = node.elements.iter().find(|(wanted, _)| *wanted == index) {
            self.value(*element, data, 0, Ahead::default())?;
        }
        if node.needed {
            self.append(slot, data, None);
        }
        for each in layout.stars.iter().filter(|star| star.node == slot) {
            self.append(each.slot, data, Some(&each.rest[1..]));
        }
        Some(())
    }

    /// Adds the value at `data`, or what is at the end of a `path` with `[*]` from there, to the list that is put together
    /// in `slot`.
    fn append(&mut self, slot: Slot, data: usize, path: Option<&[Step]>) {
        let mut list = match std::mem::take(self.place(slot)) {
            Found::Compound(list) => list.into_owned(),
            _ => "[]".to_owned(),
        };
        list.pop();
        let added = match path {
            Some(path) => star::follow(&mut self.scan, data, path, &mut list),
            None => self.scan.strict(data).map(|text| {
                if list.len() > 1 {
                    list.push(',');
                }
                list.push_str(&text);
            }),
        };
        if added.is_none() {
            self.fields.broken.push((slot, self.scan.error));
        }
        list.push(']');
        *self.place(slot) = Found::Compound(Cow::Owned(list));
    }

    /// The event's own data: the object at `data`, whose structure is known to be sound.
    fn self_describing(&mut self, data: Option<usize>) -> Option<()> {
        let Some(at) = data.filter(|at| self.scan.byte(*at) == b'{') else {
            return Some(());
        };
        let Described { schema, data: Some(data), .. } = self.described(at)? else {
            return Some(());
        };
        if let Some(slot) = self.node_of(EVENT, schema) {
            self.value(slot, data, 0, Ahead::default())?;
        }
        if self.scan.byte(data) == b'{'
            && let Some(slot) = self.layout.snowplow.properties
        {
            self.value(slot, data, 0, Ahead::default())?;
        }
        Some(())
    }
}

/// Makes the SDKs' name of a schema: `iglu:com.acme/WebPage/jsonschema/1-0-2` behind `contexts_` is
/// `contexts_com_acme_web_page_1`. None: it is no schema.
fn name_by_schema(prefix: &str, schema: &str, into: &mut String) -> Option<()> {
    let mut parts = schema.strip_prefix("iglu:")?.split('/');
    let (vendor, name, _format, version) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let model = version.split('-').next().filter(|model| model.bytes().all(|byte| byte.is_ascii_digit()))?;
    if parts.next().is_some() || [vendor, name, model].contains(&"") {
        return None;
    }
    let plain = |char: char| if matches!(char, '.' | '-') { '_' } else { char.to_ascii_lowercase() };
    into.clear();
    into.push_str(prefix);
    into.extend(vendor.chars().map(plain));
    into.push('_');
    let mut before = '_';
    for char in name.chars() {
        // A word starts where a capital follows what is none.
        if char.is_ascii_uppercase() && !before.is_ascii_uppercase() && before != '_' {
            into.push('_');
        }
        before = if matches!(char, '.' | '-') { '_' } else { char };
        into.push(plain(char));
    }
    into.push('_');
    into.push_str(model);
    Some(())
}
