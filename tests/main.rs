//! The tests, in reading order.
