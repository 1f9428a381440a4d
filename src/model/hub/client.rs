//! Requests to the hub: every way that a network fails becomes an error within a few seconds.

use crate::error::{Error, Result};
use crate::files;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::{Response, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// From the request to the answer's headers: name lookup, connection, TLS and redirects together.
const ANSWER: Duration = Duration::from_secs(5);
const MOST_REDIRECTS: usize = 5;

/// What asks the hub.
pub(super) struct Client {
    agent: Agent,
    /// The hub's address, without a slash at its end.
    pub(super) endpoint: String,
    token: Option<String>,
    /// The longest silence in the middle of an answer.
    silence: Duration,
}

impl Client {
    /// Prepares requests to `endpoint`, with `token` for it and no other host, where a server is
    /// to be known by Mozilla's authorities or by those in the PEM file `certificates`.
    pub(super) fn new(
        endpoint: &str,
        token: Option<&str>,
        certificates: Option<&Path>,
        silence: Duration,
    ) -> Result<Self> {
        let endpoint = endpoint.trim_end_matches('/').to_string();
        let uri: Option<Uri> = endpoint.parse().ok();
        let host = uri
            .as_ref()
            .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
            .and_then(Uri::host)
            .ok_or_else(|| {
                Error::usage(format!("HF_ENDPOINT is {endpoint:?}, not an http(s) address"))
            })?;
        let roots = match certificates {
            None => RootCerts::WebPki,
            Some(path) => RootCerts::Specific(Arc::new(read_certificates(path)?)),
        };
        let mut settings = Agent::config_builder()
            .user_agent(concat!("crisp/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here: another host must not get the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(ANSWER))
            .timeout_connect(Some(ANSWER))
            .timeout_send_request(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(silence))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        // No proxy can reach this machine's own loopback.
        if ["127.0.0.1", "localhost", "[::1]"].contains(&host) {
            settings = settings.proxy(None);
        }
        let token = token.map(String::from);
        Ok(Self { agent: settings.build().into(), endpoint, token, silence })
    }

    /// Gets an address, following redirects, as far as a successful answer's headers.
    pub(super) fn get(&self, url: &str) -> Result<Response<Body>> {
        let deadline = Instant::now() + ANSWER;
        let mut at = url.to_string();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.ask(&at, deadline).map_err(|error| {
                if at == url { error } else { error.at(format!("{url}, redirected")) }
            })?;
            if !answer.status().is_redirection() {
                return match answer.status().as_u16() {
                    200 => Ok(answer),
                    status => Err(self.refused(&at, status, &answer)),
                };
            }
            let location =
                answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            at = location.and_then(|location| follow(&at, location)).ok_or_else(|| {
                Error::input(format!(
                    "{at}: redirects to {:?}, which is not followed",
                    location.unwrap_or_default()
                ))
            })?;
        }
        Err(Error::input(format!("{url}: more than {MOST_REDIRECTS} redirects")))
    }

    /// One request. It runs on a thread of its own, since a network has more ways to hang than one
    /// timeout covers; the thread ends by its own timeouts when it is no longer waited for.
    fn ask(&self, url: &str, deadline: Instant) -> Result<Response<Body>> {
        let mut request = self.agent.get(url);
        // Up to the slash, so that huggingface.co.example.org is another host.
        let own = url.starts_with(&format!("{}/", self.endpoint));
        if let Some(token) = self.token.as_ref().filter(|_| own) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let (send, receive) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let _ = send.send(request.call());
        });
        let left = deadline.saturating_duration_since(Instant::now());
        let (what, remedy) = match receive.recv_timeout(left) {
            Ok(Ok(answer)) => return Ok(answer),
            Err(_) | Ok(Err(ureq::Error::Timeout(_))) => {
                (format!("no answer within {} seconds", ANSWER.as_secs()), ELSEWHERE)
            }
            Ok(Err(ureq::Error::HostNotFound)) => ("no such host".to_string(), ELSEWHERE),
            Ok(Err(ureq::Error::Http(why))) => (
                format!("cannot be asked: {why}"),
                "Check HF_TOKEN and HF_ENDPOINT for stray characters.",
            ),
            Ok(Err(why)) if why.to_string().to_lowercase().contains("certificate") => (
                format!("cannot be trusted: {why}"),
                "If your network has its own authority, set SSL_CERT_FILE to its PEM file.",
            ),
            Ok(Err(why)) => (format!("cannot be reached: {why}"), ELSEWHERE),
        };
        Err(Error::input(format!("{url}: {what}")).remedy(remedy))
    }

    fn refused(&self, url: &str, status: u16, answer: &Response<Body>) -> Error {
        let code = answer
            .headers()
            .get("x-error-code")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let what = match (status, code) {
            (_, "GatedRepo") | (403, _) => "the hub refuses access",
            // The hub answers so for what does not exist, lest it tell what is private.
            (401 | 404, _) => "the hub has no such thing, or keeps it private",
            (429, _) => "the hub has had too many requests",
            (500.., _) => "the hub is out of order",
            _ => "the hub gives an answer that is not understood",
        };
        let remedy = match (status, self.token.is_some()) {
            (401 | 403 | 404, false) => "Check the id; for a private or gated one set HF_TOKEN.",
            (401 | 403 | 404, true) => "Check the id, and whether HF_TOKEN may read it.",
            _ => "Try again later, or give a directory in place of the id.",
        };
        Error::input(format!("{url}: {what} (status {status})")).remedy(remedy)
    }

    /// Why the body of an answer did not come to its end.
    pub(super) fn broken(&self, url: &str, why: &std::io::Error) -> Error {
        let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        let timeout = matches!(inner, Some(ureq::Error::Timeout(_)))
            || matches!(why.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock);
        let what = if timeout {
            format!("nothing more came for {} seconds", self.silence.as_secs())
        } else {
            format!("broken off: {why}")
        };
        Error::input(format!("{url}: {what}")).remedy("Try again; what is whole is kept.")
    }
}

const ELSEWHERE: &str = "Check the network; set HTTPS_PROXY for a proxy or HF_ENDPOINT for a \
                         mirror; or fetch the files elsewhere and give their directory in \
                         place of the id.";

/// The address that a redirect means, if it is one to follow: never from https down to http.
fn follow(from: &str, location: &str) -> Option<String> {
    let uri: Uri = from.parse().ok()?;
    let scheme = uri.scheme_str()?;
    let to = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_string()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", uri.authority()?)
    } else {
        return None;
    };
    (scheme == "http" || to.starts_with("https://")).then_some(to)
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = files::read(path).map_err(|error| error.at("SSL_CERT_FILE"))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::input(format!(
            "{}: no certificate in this file (SSL_CERT_FILE)",
            path.display()
        ))
        .remedy("Unset SSL_CERT_FILE, or set it to a PEM file of certificates."));
    }
    Ok(certificates)
}
