//! Image references: `[host[:port]/]path[:tag][@digest]`.

/// True if `image` is a reference (the grammar of `distribution/reference`, as far as it decides anything here).
pub fn is_valid(image: &str) -> bool {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let (path, tag) = split_tag(rest);
    let digest_valid = digest.is_none_or(|d| {
        d.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    });
    let tag_valid = tag.is_none_or(|t| {
        (1..=128).contains(&t.len())
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !t.starts_with(['.', '-'])
    });
    digest_valid && tag_valid && path.len() <= 255 && is_valid_path(path)
}

fn is_valid_path(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    let is_host =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part != part.to_lowercase();
    if parts.len() > 1 && is_host(parts[0]) {
        let host = parts.remove(0);
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "1"));
        let host_byte = |b: u8| b.is_ascii_alphanumeric() || b".-[]:".contains(&b);
        if name.is_empty()
            || !name.bytes().all(host_byte)
            || !port.trim_end_matches(']').bytes().all(|b| b.is_ascii_hexdigit())
        {
            return false;
        }
    }
    parts.iter().all(|part| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        part.bytes().all(inner) && edge(part.as_bytes().first()) && edge(part.as_bytes().last())
    })
}

fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    }
}

/// The reference with `:latest` if it has neither tag nor digest.
pub fn with_default_tag(image: &str) -> String {
    let tagged = image.contains('@') || split_tag(image).1.is_some();
    if tagged { image.to_owned() } else { format!("{image}:latest") }
}

/// True if the reference names `latest`, by itself or by default.
pub fn is_latest(image: &str) -> bool {
    !image.contains('@') && split_tag(image).1.is_none_or(|tag| tag == "latest")
}

/// `host/path` of a reference, docker.io for those without a host: what credentials are found by.
pub fn repository(image: &str) -> String {
    let rest = image.split_once('@').map_or(image, |(rest, _)| rest);
    let (path, _) = split_tag(rest);
    match path.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => path.to_owned(),
        Some(_) => format!("docker.io/{path}"),
        None => format!("docker.io/library/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (image, valid, tagged, repository_) in [
            ("nginx", true, "nginx:latest", "docker.io/library/nginx"),
            ("nginx:1.25", true, "nginx:1.25", "docker.io/library/nginx"),
            ("a/b", true, "a/b:latest", "docker.io/a/b"),
            ("localhost:5000/a/b:x", true, "localhost:5000/a/b:x", "localhost:5000/a/b"),
            ("127.0.0.1:5000/a", true, "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a"),
            ("reg.io/a_b/c-d.e", true, "reg.io/a_b/c-d.e:latest", "reg.io/a_b/c-d.e"),
            ("Nginx", false, "Nginx:latest", "docker.io/library/Nginx"),
            ("a//b", false, "a//b:latest", "docker.io/a//b"),
            ("a:", false, "a:", "docker.io/library/a"),
            ("a b", false, "a b:latest", "docker.io/library/a b"),
            ("", false, ":latest", "docker.io/library/"),
        ] {
            assert_eq!(is_valid(image), valid, "{image}");
            assert_eq!(with_default_tag(image), tagged);
            assert_eq!(repository(image), repository_);
        }
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert!(is_valid(&digest) && with_default_tag(&digest) == digest && !is_latest(&digest));
        assert!(is_latest("a") && is_latest("a:latest") && !is_latest("a:1"));
    }
}
