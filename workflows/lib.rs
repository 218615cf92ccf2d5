//! What the service does, one story a file.
