//! The API as data: loads the tables under `api/` or a CRD's OpenAPI into one `Schema`, and holds the value shaped by it.
