//! A destination by name, as a value: whose API, what a change becomes in it, and what it takes.

use crate::{PlacedSecret, Rate, Text, WebhookMode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a destination by name has beside the delivery that it shares with webhooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VendorTarget {
    /// Whose API, and what a change becomes in it.
    pub api: VendorApi,
    /// Its key.
    pub key: PlacedSecret,
    /// A template of the person's id; `None`: the member's key.
    pub id: Option<Text>,
    /// A template of the name of the attribute that is true of members; `None`: the audience's id.
    pub attribute: Option<Text>,
}

/// A vendor's API, and what a change becomes in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum VendorApi {
    Segment {
        call: SegmentCall,
        id_type: SegmentId,
    },
    Rudderstack {
        call: SegmentCall,
        id_type: SegmentId,
    },
    Braze {
        shape: BrazeShape,
        id_type: BrazeId,
    },
    /// The list of each audience.
    Iterable {
        lists: BTreeMap<String, u32>,
        id_type: IterableId,
    },
    Customerio {
        site_id: String,
        shape: CustomerioRequest,
        id_type: CustomerioId,
    },
}

/// What a request to Customer.io has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CustomerioRequest {
    /// Attributes or events of people.
    People(CustomerioShape),
    /// People of a manual segment: that of each audience.
    Segments(BTreeMap<String, u32>),
}

/// What a vendor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorLimits {
    /// Changes of a request.
    pub changes: u32,
    /// Bytes of a body.
    pub bytes: u64,
    /// Bytes of what a change becomes; `None`: those of a body.
    pub item_bytes: Option<u64>,
    /// Requests in a unit of time; `None`: no number is documented.
    pub rate: Option<Rate>,
}

const fn per_second(number: u32) -> Option<Rate> {
    Some(Rate { number, unit_ms: 1_000 })
}

impl VendorApi {
    /// Returns its name: the key of the destination.
    pub fn name(&self) -> &'static str {
        match self {
            VendorApi::Segment { .. } => "segment",
            VendorApi::Rudderstack { .. } => "rudderstack",
            VendorApi::Braze { .. } => "braze",
            VendorApi::Iterable { .. } => "iterable",
            VendorApi::Customerio { .. } => "customerio",
        }
    }

    /// Returns the name of the vendor.
    pub fn vendor(&self) -> &'static str {
        match self {
            VendorApi::Segment { .. } => "Segment",
            VendorApi::Rudderstack { .. } => "RudderStack",
            VendorApi::Braze { .. } => "Braze",
            VendorApi::Iterable { .. } => "Iterable",
            VendorApi::Customerio { .. } => "Customer.io",
        }
    }

    /// Returns the host of its API in a region; `None` if accounts have hosts of their own.
    pub fn host(&self, region: Region) -> Option<&'static str> {
        match (self, region) {
            (VendorApi::Segment { .. }, Region::Us) => Some("https://api.segment.io"),
            (VendorApi::Segment { .. }, Region::Eu) => Some("https://events.eu1.segmentapis.com"),
            (VendorApi::Iterable { .. }, Region::Us) => Some("https://api.iterable.com"),
            (VendorApi::Iterable { .. }, Region::Eu) => Some("https://api.eu.iterable.com"),
            (VendorApi::Customerio { .. }, Region::Us) => Some("https://track.customer.io"),
            (VendorApi::Customerio { .. }, Region::Eu) => Some("https://track-eu.customer.io"),
            (VendorApi::Rudderstack { .. } | VendorApi::Braze { .. }, _) => None,
        }
    }

    /// Returns what the vendor documents that it takes.
    pub fn limits(&self) -> VendorLimits {
        match self {
            VendorApi::Segment { .. } => {
                VendorLimits { changes: 2_500, bytes: 500_000, item_bytes: Some(32_000), rate: per_second(1_000) }
            }
            VendorApi::Rudderstack { .. } => {
                VendorLimits { changes: 2_500, bytes: 4_000_000, item_bytes: Some(32_000), rate: None }
            }
            VendorApi::Braze { .. } => {
                VendorLimits { changes: 75, bytes: 4_000_000, item_bytes: None, rate: per_second(1_000) }
            }
            VendorApi::Iterable { .. } => {
                VendorLimits { changes: 1_000, bytes: 4_000_000, item_bytes: None, rate: per_second(5) }
            }
            VendorApi::Customerio { shape: CustomerioRequest::People(_), .. } => {
                VendorLimits { changes: 1_000, bytes: 500_000, item_bytes: Some(32_000), rate: per_second(100) }
            }
            VendorApi::Customerio { shape: CustomerioRequest::Segments(_), .. } => {
                VendorLimits { changes: 1_000, bytes: 500_000, item_bytes: None, rate: per_second(100) }
            }
        }
    }

    /// Returns whether a change becomes an event; if not, it sets what the destination holds.
    pub fn is_event(&self) -> bool {
        match self {
            VendorApi::Segment { call, .. } | VendorApi::Rudderstack { call, .. } => *call == SegmentCall::Track,
            VendorApi::Braze { shape, .. } => *shape == BrazeShape::Events,
            VendorApi::Iterable { .. } => false,
            VendorApi::Customerio { shape, .. } => {
                matches!(shape, CustomerioRequest::People(CustomerioShape::Events))
            }
        }
    }

    /// Returns whether an attribute is true of members.
    pub fn has_attribute(&self) -> bool {
        !self.is_event() && self.lists().is_none()
    }

    /// Returns the list of each audience, of a destination with lists.
    pub fn lists(&self) -> Option<&BTreeMap<String, u32>> {
        match self {
            VendorApi::Iterable { lists, .. }
            | VendorApi::Customerio { shape: CustomerioRequest::Segments(lists), .. } => Some(lists),
            _ => None,
        }
    }

    /// Returns what is sent after an outage where the file does not say: all events, else what the destination should hold.
    pub fn mode(&self) -> WebhookMode {
        if self.is_event() { WebhookMode::Changes } else { WebhookMode::State }
    }
}

/// Where an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Region {
    Us,
    Eu,
}

/// What a change becomes at Segment and RudderStack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentCall {
    /// An event.
    Track,
    /// A trait.
    Identify,
}

/// What a change becomes at Braze.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum BrazeShape {
    Attributes,
    Events,
}

/// What a change becomes at Customer.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CustomerioShape {
    Attributes,
    Events,
}

/// What identifies a person at Segment and RudderStack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SegmentId {
    UserId,
    AnonymousId,
}

impl SegmentId {
    /// Returns its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            SegmentId::UserId => "userId",
            SegmentId::AnonymousId => "anonymousId",
        }
    }
}

/// What identifies a user at Braze.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum BrazeId {
    ExternalId,
    BrazeId,
    Email,
    Phone,
}

impl BrazeId {
    /// Returns its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            BrazeId::ExternalId => "external_id",
            BrazeId::BrazeId => "braze_id",
            BrazeId::Email => "email",
            BrazeId::Phone => "phone",
        }
    }
}

/// What identifies a user at Iterable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum IterableId {
    UserId,
    Email,
}

impl IterableId {
    /// Returns its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            IterableId::UserId => "userId",
            IterableId::Email => "email",
        }
    }
}

/// What identifies a person at Customer.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CustomerioId {
    Id,
    Email,
    CioId,
}

impl CustomerioId {
    /// Returns its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            CustomerioId::Id => "id",
            CustomerioId::Email => "email",
            CustomerioId::CioId => "cio_id",
        }
    }
}
