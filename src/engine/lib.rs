//! Durable workflow runs on Postgres.
