//! The SQL of the notification tables, one aggregate a file.
