//! A token from where the registry says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::http::{Http, failed};
use super::redirect;
use crate::error::{Error, Kind, Result};

const TOKEN_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The `Authorization` for what this challenge asks, if we have what it takes.
pub fn answer(
    http: &Http,
    challenge: &Challenge,
    credentials: Option<&Credentials>,
    repository: &str,
    is_tls: bool,
) -> Result<Option<String>> {
    match challenge {
        Challenge::Basic => Ok(match credentials {
            Some(Credentials::Password { user, password }) => Some(basic(user, password)),
            _ => None,
        }),
        Challenge::Bearer { realm, service, scope } => {
            // The password goes there.
            let allowed = realm.starts_with("https://") || (!is_tls && realm.starts_with("http://"));
            if !allowed {
                let why = format!("it says to ask {realm:?} for a token, which has no TLS");
                return Err(Error::new(Kind::Denied, "the registry cannot be trusted", why));
            }
            let scope = scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
            token(http, realm, service.as_deref(), &scope, credentials)
                .map(|token| Some(format!("Bearer {token}")))
        }
    }
}

fn token(
    http: &Http,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<String> {
    let mut fields = vec![("scope", scope)];
    if let Some(service) = service {
        fields.insert(0, ("service", service));
    }
    let response = match credentials {
        Some(Credentials::IdentityToken(token)) => {
            let more = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
                ("client_id", "sampan-image"),
            ];
            http.agent.post(realm).send_form(fields.into_iter().chain(more))
        }
        Some(Credentials::Password { user, password }) => {
            redirect::get(&http.agent, realm, &fields, &[], Some(&basic(user, password)))
        }
        None => redirect::get(&http.agent, realm, &fields, &[], None),
    };
    let response = response.map_err(|e| failed(realm, &e))?;
    if !response.status().is_success() {
        return Err(http.refused(realm, response, "a token"));
    }
    let text = http.small(realm, response, "the token", TOKEN_BYTES)?;
    let token: Option<Token> = serde_json::from_slice(&text).ok();
    let token = token.and_then(|t| t.token.filter(|t| !t.is_empty()).or(t.access_token));
    token.ok_or_else(|| {
        Error::new(Kind::Denied, format!("{realm} does not give a token"), "its answer has none")
    })
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
