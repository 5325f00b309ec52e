//! The words of the history are known to whoever observes it.

use std::path::Path;

/// Every word that the source notes is listed, and each word that is listed is a plain one.
#[test]
fn every_word_of_the_history_is_listed() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut noted = 0;
    for file in std::fs::read_dir(source).expect("the source").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("a source file");
        for rest in text.split("context.note(\"").skip(1) {
            let word = rest.split('"').next().expect("a word");
            assert!(state::HISTORY_WORDS.contains(&word), "`{word}` is not in HISTORY_WORDS");
            noted += 1;
        }
    }
    assert!(noted > 20, "{noted} words were found");
    assert!(state::HISTORY_WORDS.is_sorted());
}
