//! Where requests go: a url whose path and query may have templates, and whose scheme and host may not.
//!
//! What a template puts in is percent-encoded, so that it stays where it was put. A path that would lead up (`..`) is none: a url
//! reads it as another path.

use crate::messages::template::Templates;
use minijinja::Value;
use url::{Host, Url};

/// What begins templates.
const TEMPLATE_MARKS: [&str; 3] = ["{{", "{%", "{#"];

/// A url, read.
#[derive(Debug)]
pub(super) struct Target {
    /// Scheme and authority, with the root as its path.
    root: Url,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Fixed(Url),
    /// Of path and query, behind `prefix`.
    Templates {
        prefix: String,
        templates: Templates,
    },
}

/// Why a text is no target. Does not quote it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    #[error("this is not a url: {0}")]
    NoUrl(String),
    #[error("scheme and host can't have templates")]
    HostTemplate,
    #[error("this template can't be read: {0}")]
    Template(String),
    #[error("requests are sent by `https` or `http`, not `{0}`")]
    Scheme(String),
}

/// Returns whether a host can only be this machine.
pub(crate) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
    }
}

impl Target {
    pub fn read(text: &str) -> Result<Target, TargetError> {
        let text = text.trim();
        let authority =
            text.find("://").map(|at| at + 3).ok_or_else(|| TargetError::NoUrl("it has no scheme".to_owned()))?;
        let end = text[authority..].find(['/', '?', '#', '\\']).map_or(text.len(), |at| authority + at);
        let has_template = |text: &str| TEMPLATE_MARKS.iter().any(|mark| text.contains(mark));
        let (prefix, rest) = text.split_at(end);
        if has_template(prefix) {
            return Err(TargetError::HostTemplate);
        }
        let parse = |text: &str| Url::parse(text).map_err(|error| TargetError::NoUrl(error.to_string()));
        let root = parse(prefix)?;
        if !matches!(root.scheme(), "http" | "https") {
            return Err(TargetError::Scheme(root.scheme().to_owned()));
        }
        let kind = if has_template(rest) {
            let failed = |error: minijinja::Error| {
                TargetError::Template(error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
            };
            Kind::Templates { prefix: prefix.to_owned(), templates: Templates::of_url(rest).map_err(failed)? }
        } else {
            Kind::Fixed(parse(text)?)
        };
        Ok(Target { root, kind })
    }

    /// Returns whether its url depends on the change.
    pub fn has_templates(&self) -> bool {
        matches!(self.kind, Kind::Templates { .. })
    }

    /// Returns whether its url has a user, a password, a query or a fragment.
    pub fn has_user_or_query(&self) -> bool {
        match &self.kind {
            Kind::Fixed(url) => {
                let has_user = !url.username().is_empty() || url.password().is_some();
                has_user || url.query().is_some() || url.fragment().is_some()
            }
            Kind::Templates { .. } => false,
        }
    }

    pub fn is_https(&self) -> bool {
        self.root.scheme() == "https"
    }

    pub fn host(&self) -> Host<&str> {
        self.root.host().expect("urls of http have a host")
    }

    /// Returns its host and port.
    pub fn address(&self) -> (String, u16) {
        let host = match self.host() {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        (host, self.root.port_or_known_default().expect("http and https have a port"))
    }

    /// Returns whether only this machine can be meant.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host())
    }

    /// Returns it as messages show it: without user, path and query.
    pub fn shown(&self) -> String {
        self.root.origin().ascii_serialization()
    }

    /// Returns the url for a change; `None` if its templates fail on it, or lead elsewhere than they say.
    pub fn url(&self, context: &Value) -> Option<Url> {
        let (prefix, templates) = match &self.kind {
            Kind::Fixed(url) => return Some(url.clone()),
            Kind::Templates { prefix, templates } => (prefix, templates),
        };
        let rest = templates.url(context)?;
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let is_dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
        if path.split(['/', '\\']).any(is_dots) {
            return None;
        }
        Url::parse(&format!("{prefix}{rest}")).ok().filter(|url| url.origin() == self.root.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, key: &str) -> Option<String> {
        let target = Target::read(text).unwrap();
        target.url(&minijinja::context! { key => key, n => 5 }).map(|url| url.to_string())
    }

    #[test]
    fn templates_make_path_and_query_and_nothing_else() {
        let template = "https://crm.example.com/users/{{ key }}/tags?n={{ n }}&key={{ key }}";
        assert_eq!(url(template, "u-1").unwrap(), "https://crm.example.com/users/u-1/tags?n=5&key=u-1");
        assert_eq!(
            url(template, "a/b?c#d e&é@evil.com").unwrap(),
            "https://crm.example.com/users/a%2Fb%3Fc%23d%20e%26%C3%A9%40evil.com/tags?n=5&key=a%2Fb%3Fc%23d%20e%26%C3%A9%40evil.com"
        );
        assert_eq!(url("https://a.example/{{ key }}", ".."), None, "a path that leads up is none");
        assert_eq!(url("https://a.example/x/{{ key }}", "."), None);
        assert_eq!(url("https://a.example/x/{{ key }}", "%2e%2E").unwrap(), "https://a.example/x/%252e%252E");
        assert_eq!(url("https://a.example/x/{{ key | abs }}", "x"), None, "one that fails is none");
        for text in
            ["https://{{ key }}/x", "https://a.{{ key }}.com/x", "{{ key }}://a.com/", "https://a.com{{ key }}/x"]
        {
            assert!(matches!(Target::read(text), Err(TargetError::HostTemplate)), "{text}");
        }
        assert!(matches!(Target::read("https://a.com/{{ key"), Err(TargetError::Template(_))));
        assert!(matches!(Target::read("ftp://a.com/"), Err(TargetError::Scheme(_))));
        for text in ["", "crm", "https://", "https://a b/"] {
            assert!(matches!(Target::read(text), Err(TargetError::NoUrl(_))), "{text}");
        }
    }

    #[test]
    fn what_is_shown_has_no_user_path_or_query() {
        let target = Target::read("https://ann:secret@crm.example.com:8443/hooks/secret?token=secret").unwrap();
        assert_eq!(target.shown(), "https://crm.example.com:8443");
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (text, expected) in [
            ("http://localhost:80/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:1/", true),
            ("http://127.1/", true),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(Target::read(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
