//! Counters and timings behind one small interface.
