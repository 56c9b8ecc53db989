//! Journal files, described by chunks so that an input is small although a journal is not (see `journal::build`).

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::codec;
use surefoot::journal::scan_bytes;
use surefoot::limits::JOURNAL_FRAMES;
use surefoot::transaction::{Input, Record, State};
use surefoot_fuzz::journal;

fuzz_target!(|data: &[u8]| {
    let _ = scan_bytes(data);
    let mut file = journal::build(data);
    let found = scan_bytes(&file);
    file.extend_from_slice(data);
    match (found, scan_bytes(&file)) {
        (Ok(found), Ok(again)) => {
            assert_eq!(found, again, "what follows the blocks means nothing");
            assert!(found.payloads.len() <= JOURNAL_FRAMES);
            let mut state = State::Idle;
            for payload in &found.payloads {
                let Ok(record) = codec::decode::<Record>(payload) else { return };
                assert_eq!(codec::encode(&record), *payload);
                let Ok(next) = state.replay(&record) else { return };
                state = next;
            }
            let mut effects = Vec::new();
            let _ = state.on(Input::Resume { session: [7; 16] }, &mut effects);
        }
        (Err(_), Err(_)) => {}
        (one, other) => panic!("{one:?} and {other:?}"),
    }
});
