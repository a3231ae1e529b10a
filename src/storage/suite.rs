//! The contract that every engine passes; an engine's tests call `engine_suite!`.

use super::{Engine, Record, Token};

/// Appends `count` records and gives back the last token.
pub(super) fn append(engine: &mut impl Engine, first: Token, count: usize) -> Token {
    let mut token = first;
    for _ in 0..count {
        token = token.next();
        engine.append(&Record::SessionBegun { client_id: "client" }, token);
    }
    token
}

/// Asks until `token` is committed; panics when the answers end before, or go too far.
pub(super) fn wait_for(engine: &mut impl Engine, token: Token) {
    for _ in 0..1000 {
        match engine.committed() {
            Some(committed) if committed == token => return,
            Some(committed) => assert!(committed < token, "answered before it was appended"),
            None => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    panic!("{token:?} was never committed");
}

macro_rules! engine_suite {
    ($engine:expr) => {
        #[test]
        fn answers_nothing_before_the_first_record() {
            assert_eq!($engine.committed(), None);
        }

        #[test]
        fn answers_every_record_once() {
            let mut engine = $engine;
            let first = crate::storage::suite::append(&mut engine, Token::default(), 3);
            crate::storage::suite::wait_for(&mut engine, first);
            assert_eq!(engine.committed(), None);
            let second = crate::storage::suite::append(&mut engine, first, 2);
            crate::storage::suite::wait_for(&mut engine, second);
            assert_eq!(engine.committed(), None);
        }
    };
}

pub(super) use engine_suite;
