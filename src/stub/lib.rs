//! The fake outside world for development and tests.
