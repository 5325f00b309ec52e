//! The words of the history are known to whoever observes it.

/// The source that writes history.
const SOURCE: [&str; 8] = [
    include_str!("../src/apply.rs"),
    include_str!("../src/command.rs"),
    include_str!("../src/elsewhere.rs"),
    include_str!("../src/kernel.rs"),
    include_str!("../src/members.rs"),
    include_str!("../src/observe.rs"),
    include_str!("../src/snapshot.rs"),
    include_str!("../src/wishes.rs"),
];

/// Every word that the source notes is listed, and each word that is listed is a plain one.
#[test]
fn every_word_of_the_history_is_listed() {
    let mut noted = 0;
    for rest in SOURCE.iter().flat_map(|text| text.split("context.note(\"").skip(1)) {
        let word = rest.split('"').next().expect("a word");
        assert!(state::HISTORY_WORDS.contains(&word), "`{word}` is not in HISTORY_WORDS");
        noted += 1;
    }
    assert!(noted > 20, "{noted} words were found");
    assert!(state::HISTORY_WORDS.is_sorted());
}
