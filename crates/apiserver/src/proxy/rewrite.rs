//! Addresses in what pods and services answer, made to lead through the proxy (upstream `proxy.Transport`): redirects,
//! and links in HTML.

use std::io::Read;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Response, Uri};
use http_body_util::{BodyExt, StreamBody};

use crate::http::Body;

/// Pages that are larger are passed on as they are.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// Headers by which a pod could let other sites read what the API server answers.
const CORS: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];
/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

/// How addresses change.
#[derive(Debug)]
pub struct Rewrite {
    /// The path before what the other end knows, without a slash at its end.
    pub prefix: String,
    /// The host by which the client knows this server.
    pub our_host: String,
    /// The other end's `host:port`.
    pub their_host: String,
}

impl Rewrite {
    /// The answer with its addresses changed.
    pub async fn answer(&self, mut response: Response<Body>) -> Response<Body> {
        for name in CORS {
            response.headers_mut().remove(name);
        }
        let redirect = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        if let Some(to) = redirect.filter(|to| !to.is_empty()) {
            if let Some(Ok(changed)) = self.address(to).map(HeaderValue::try_from) {
                response.headers_mut().insert(LOCATION, changed);
            }
            return response;
        }
        match is_html(response.headers()) {
            true => self.page(response).await,
            false => response,
        }
    }

    async fn page(&self, response: Response<Body>) -> Response<Body> {
        let (mut parts, mut body) = response.into_parts();
        let packed = match parts.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => false,
            Some(b"gzip") => true,
            Some(_) => return Response::from_parts(parts, body),
        };
        let mut page = Vec::new();
        loop {
            match body.frame().await {
                None => break,
                Some(Ok(frame)) => page.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Response::from_parts(parts, broken_off(page, error)),
            }
            if page.len() > MAX_PAGE_BYTES {
                return Response::from_parts(parts, followed_by(page, body));
            }
        }
        let plain = match packed {
            true => unpacked(&page),
            false => Some(page.clone()),
        };
        let Some(plain) = plain.and_then(|plain| String::from_utf8(plain).ok()) else {
            return Response::from_parts(parts, crate::http::body::full(page));
        };
        let changed = self.html(&plain);
        parts.headers.remove(CONTENT_ENCODING);
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(changed.len()));
        Response::from_parts(parts, crate::http::body::full(changed))
    }

    /// An address that leads to the other end, as one that leads there through the proxy; None if it stays as it is.
    fn address(&self, text: &str) -> Option<String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return None,
            None => match text.strip_prefix("//") {
                Some(rest) => (Some(""), rest),
                None => (None, text),
            },
        };
        let Some(_) = scheme else {
            return (rest.starts_with('/') && !rest.starts_with(&self.prefix))
                .then(|| format!("{}{rest}", self.prefix));
        };
        let (host, path) = rest.split_at(rest.find('/')?);
        if host != self.their_host && host != self.our_host {
            return None;
        }
        let prefix = if path.starts_with(&self.prefix) { "" } else { &self.prefix };
        Some(format!("https://{}{prefix}{path}", self.our_host))
    }

    /// A page with the addresses of its links changed.
    fn html(&self, page: &str) -> String {
        let mut out = String::with_capacity(page.len() + page.len() / 8);
        let mut rest = page;
        while let Some(at) = rest.find('<') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = if rest.starts_with("<!--") {
                rest.find("-->").map_or(rest.len(), |end| end + 3)
            } else {
                tag_end(rest)
            };
            let tag = &rest[..end];
            rest = &rest[end..];
            let name: String =
                tag[1..].chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
            match addresses_of(&name) {
                [] => out.push_str(tag),
                attributes => self.tag(&mut out, tag, attributes),
            }
            if RAW.contains(&name.as_str()) {
                let content = find_ignoring_case(rest, &format!("</{name}")).unwrap_or(rest.len());
                out.push_str(&rest[..content]);
                rest = &rest[content..];
            }
        }
        out.push_str(rest);
        out
    }

    fn tag(&self, out: &mut String, tag: &str, attributes: &[&str]) {
        let mut rest = tag;
        while let Some(at) = rest.find('=') {
            let name =
                rest[..at].trim_end().rsplit(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
            let wanted = attributes.iter().any(|attribute| attribute.eq_ignore_ascii_case(name));
            let value_at = at + 1 + rest[at + 1..].len() - rest[at + 1..].trim_start().len();
            let (start, end) = value_bounds(rest, value_at);
            let value = &rest[start..end];
            out.push_str(&rest[..start]);
            match self.address(value).filter(|_| wanted) {
                Some(changed) => out.push_str(&changed),
                None => out.push_str(value),
            }
            rest = &rest[end..];
        }
        out.push_str(rest);
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html")
}

fn unpacked(page: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let limit = MAX_PAGE_BYTES as u64 + 1;
    flate2::read::MultiGzDecoder::new(page).take(limit).read_to_end(&mut plain).ok()?;
    (plain.len() <= MAX_PAGE_BYTES).then_some(plain)
}

fn followed_by(start: Vec<u8>, rest: Body) -> Body {
    let first = futures::stream::once(async move { Ok(hyper::body::Frame::data(Bytes::from(start))) });
    let rest = futures::stream::unfold(rest, |mut rest| async move { Some((rest.frame().await?, rest)) });
    StreamBody::new(futures::StreamExt::chain(first, rest)).boxed_unsync()
}

fn broken_off(start: Vec<u8>, error: crate::http::body::BoxError) -> Body {
    let frames = [Ok(hyper::body::Frame::data(Bytes::from(start))), Err(error)];
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

/// Where a tag ends that `text` begins with: after the `>` that is in no quotes.
fn tag_end(text: &str) -> usize {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// Where an attribute's value begins and ends, without its quotes.
fn value_bounds(tag: &str, at: usize) -> (usize, usize) {
    let end_of = |start: usize, ends: &dyn Fn(u8) -> bool| {
        tag.as_bytes()[start..].iter().position(|byte| ends(*byte)).map_or(tag.len(), |n| start + n)
    };
    match tag.as_bytes().get(at) {
        Some(quote @ (b'"' | b'\'')) => (at + 1, end_of(at + 1, &|byte| byte == *quote)),
        _ => (at, end_of(at, &|byte| byte.is_ascii_whitespace() || byte == b'>')),
    }
}

fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes().windows(wanted.len()).position(|w| w.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// The attributes of an element that are addresses.
fn addresses_of(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// The answer to a request that lacks the slash after `proxy`: what the other end answers may be relative to it.
pub fn to_folder(uri: &Uri) -> Option<Response<Body>> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = HeaderValue::try_from(format!("{}/{query}", uri.path())).ok()?;
    let mut response = Response::new(crate::http::body::empty());
    *response.status_mut() = http::StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, to);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite() -> Rewrite {
        Rewrite {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            our_host: "server:6443".to_owned(),
            their_host: "10.0.0.1:80".to_owned(),
        }
    }

    #[test]
    fn addresses_lead_through_the_proxy() {
        const PREFIX: &str = "/api/v1/namespaces/n/pods/p/proxy";
        for (address, expected) in [
            ("/x?y=/z", Some(format!("{PREFIX}/x?y=/z"))),
            ("/", Some(format!("{PREFIX}/"))),
            ("x/y", None),
            ("", None),
            ("#top", None),
            ("mailto:a@b", None),
            ("http://10.0.0.1:80/x", Some(format!("https://server:6443{PREFIX}/x"))),
            ("//server:6443/x", Some(format!("https://server:6443{PREFIX}/x"))),
            ("http://10.0.0.1:80", None),
            ("https://elsewhere/x", None),
            ("/api/v1/namespaces/n/pods/p/proxy/x", None),
        ] {
            assert_eq!(rewrite().address(address), expected, "{address}");
        }
    }

    #[test]
    fn links_of_a_page_change_and_nothing_else() {
        const P: &str = "/api/v1/namespaces/n/pods/p/proxy";
        for (page, expected) in [
            (r#"<a href="/rewriteme">test</a>"#, format!(r#"<a href="{P}/rewriteme">test</a>"#)),
            ("<A class=b HREF = '/x' id=\"c\">", format!("<A class=b HREF = '{P}/x' id=\"c\">")),
            ("<img src=/a.png alt=\"/b\"><br>", format!("<img src={P}/a.png alt=\"/b\"><br>")),
            (
                "<script>a = '<a href=\"/x\">'</script><p href=/x>",
                "<script>a = '<a href=\"/x\">'</script><p href=/x>".to_owned(),
            ),
            (
                "<!-- <a href=\"/x\"> --><a name=\"a>b\" href=/y>",
                format!("<!-- <a href=\"/x\"> --><a name=\"a>b\" href={P}/y>"),
            ),
            ("1 < 2 é <", "1 < 2 é <".to_owned()),
            ("<a href=\"/open", format!("<a href=\"{P}/open")),
        ] {
            assert_eq!(rewrite().html(page), expected, "{page}");
        }
    }

    #[tokio::test]
    async fn redirects_and_pages_are_changed() {
        use std::io::Write;
        let page = "<a href='/x'>é</a>";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(page.as_bytes()).unwrap();
        let packed = gzip.finish().unwrap();
        for (kind, encoding, body, changed) in [
            ("text/html; charset=utf-8", "identity", page.as_bytes().to_vec(), true),
            ("text/html", "gzip", packed, true),
            ("text/plain", "identity", page.as_bytes().to_vec(), false),
        ] {
            let mut response = Response::new(crate::http::body::full(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            response.headers_mut().insert("access-control-allow-origin", HeaderValue::from_static("*"));
            let answer = rewrite().answer(response).await;
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert_eq!(text.contains("/proxy/x"), changed, "{kind} {encoding}: {text}");
        }
        let mut redirect = Response::new(crate::http::body::empty());
        redirect.headers_mut().insert(LOCATION, HeaderValue::from_static("/login"));
        let to = rewrite().answer(redirect).await.headers()[LOCATION].clone();
        assert_eq!(to, "/api/v1/namespaces/n/pods/p/proxy/login");
    }
}
