//! Builds what the process itself needs: durable state, the HTTP API, the cluster, limits.

use super::Builder;
use crate::schema::process::{self as keys, Permission};
use crate::schema::{At, Fields, Form};
use crate::{Api, ApiKey, Cluster, Console, Limits, State};

impl<'a> Builder<'a> {
    pub(super) fn api(&mut self, api: At<'a, &'a Fields>) -> Option<Api> {
        let fields = api.value;
        let listen = fields.at(&keys::LISTEN);
        if let Some(At { place, value: listen }) = &listen
            && !fields.has(&keys::KEYS)
            && !is_loopback(listen)
        {
            let message = format!("without `keys` the API is for this machine alone, and others can reach `{listen}`");
            let hint = "listen on `127.0.0.1`, or give `keys: [{token: \"${TOKEN}\", can: [read]}]`";
            self.report_with_hint(place, message, hint);
        }
        Some(Api {
            place: api.place.clone(),
            keys: fields.list(&keys::KEYS).into_iter().map(|key| api_key(key.value)).collect::<Option<_>>()?,
            listen: listen?.value.to_owned(),
            rate_limit: fields.get(&keys::RATE_LIMIT),
            console: console(fields)?,
        })
    }
}

/// Returns the console of an API: there is one unless it is switched off.
fn console(api: &Fields) -> Option<Console> {
    Some(match api.get(&keys::CONSOLE) {
        None | Some(Form::Short(true)) => Console::On { actions: true },
        Some(Form::Short(false)) => Console::Off,
        Some(Form::Long(long)) => Console::On { actions: long.get(&keys::CONSOLE_ACTIONS)? },
    })
}

fn api_key(fields: &Fields) -> Option<ApiKey> {
    let can = fields.get(&keys::CAN).unwrap_or_default();
    Some(ApiKey {
        token: fields.get(&keys::TOKEN)?.clone(),
        read: can.contains(&Permission::Read),
        admin: can.contains(&Permission::Admin),
    })
}

/// Returns whether only this machine can reach an address. The only name that counts as such is `localhost`.
fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn state(fields: &Fields) -> Option<State> {
    Some(State { url: fields.get(&keys::URL)?.clone(), checkpoint_every: fields.get(&keys::CHECKPOINT_EVERY)? })
}

pub(super) fn cluster(fields: &Fields) -> Option<Cluster> {
    Some(Cluster {
        connect_timeout: fields.get(&keys::CONNECT_TIMEOUT)?,
        peer_timeout: fields.get(&keys::PEER_TIMEOUT)?,
    })
}

pub(super) fn limits(fields: &Fields) -> Option<Limits> {
    Some(Limits { future_skew: fields.get(&keys::FUTURE_SKEW)?, message_bytes: fields.get(&keys::MESSAGE_BYTES)? })
}
