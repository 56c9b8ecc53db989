//! Answers of a hostile repository, which has all the keys but that of the first root: the parts of the input, cut at
//! bytes 0xff, each signed by the keys of the roles below the root.

#![no_main]

use libfuzzer_sys::fuzz_target;
use surefoot::limits;
use surefoot::repository::{Anchor, Answer, Client, Clock, Moment, OfflinePolicy, Step, Stored, add_signature};
use surefoot_fuzz::repository::{first_root, online_key};

fuzz_target!(|input: &[u8]| {
    let key = online_key();
    let mut parts = input.split(|byte| *byte == 0xff);
    let mut stored = Stored([("root".to_owned(), first_root())].into());
    let clock = Clock::Now(Moment::from_seconds(1_900_000_000));
    for _ in 0..2 {
        let mut client =
            Client::new(stored.clone(), Anchor::Stored, clock, OfflinePolicy::Strict).expect("the first root is good");
        client.look_for_everything();
        for _ in 0..60 {
            match client.step() {
                Err(_) | Ok(Step::Done) => break,
                Ok(Step::Forget(_)) => panic!("no key was changed"),
                Ok(Step::Keep(kept)) => {
                    assert_ne!(kept.role, "root", "forged");
                    assert!(kept.bytes.len() as u64 <= limits::TARGETS_BYTES);
                    let known = stored.0.insert(kept.role.clone(), kept.bytes.clone());
                    if kept.role == "timestamp" {
                        let older = known.map_or(0, |known| version(&known));
                        assert!(version(&kept.bytes) > older, "an older timestamp is believed");
                    }
                }
                Ok(Step::Fetch(request)) => {
                    assert!(request.most <= limits::TARGETS_BYTES && !request.name.contains('/'));
                    let Some(part) = parts.next() else { break };
                    let text = [b"{\"signatures\":[],\"signed\":", part, b"}"].concat();
                    let answer = match add_signature("file", &text, &key) {
                        Ok(bytes) => Answer::Bytes(bytes),
                        Err(_) if part.is_empty() => Answer::Missing,
                        Err(_) => Answer::Bytes(part.to_vec()),
                    };
                    if client.answer(answer).is_err() {
                        assert_eq!(client.step(), Ok(Step::Fetch(request)), "a refused answer changes nothing");
                    }
                }
            }
        }
        let _ = (client.releases(), client.notices());
    }
});

fn version(bytes: &[u8]) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("it was believed");
    value["signed"]["version"].as_u64().expect("it was believed")
}
