//! What is shared with the tests: the notation in which the conformance tables are written, and a
//! second opinion on what a server may send.

// Only a part of it is used here.
#![allow(dead_code)]

#[path = "../../tests/harness/src/notation.rs"]
pub(crate) mod notation;
#[path = "../../tests/harness/src/packet.rs"]
pub(crate) mod packet;
#[path = "../../tests/harness/src/property.rs"]
pub(crate) mod property;
#[path = "../../tests/conformance/script.rs"]
pub(crate) mod script;
