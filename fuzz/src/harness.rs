//! What is shared with the tests: the notation in which the conformance tables are written, and a
//! second opinion on what a server may send.

// Only a part of it is used here.
#![allow(dead_code)]

#[path = "../../tests/harness/notation.rs"]
pub(crate) mod notation;
#[path = "../../tests/harness/packet.rs"]
pub(crate) mod packet;
#[path = "../../tests/harness/property.rs"]
pub(crate) mod property;
#[path = "../../tests/conformance/script.rs"]
pub(crate) mod script;
