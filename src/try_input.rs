//! `herald try`: shows what a number, an address or a template becomes. JSON lines in, JSON lines out.
