//! OpenAPI documents, discovery and Table output made from the schema.
