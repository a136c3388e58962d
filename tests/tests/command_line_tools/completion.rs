//! `esker completion`.

use super::command;

#[test]
fn scripts_of_completion_name_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = command(&["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["esker", "doctor", "completion", "delete-records", "seek", "to-group", "bootstrap"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    assert_eq!(command(&["completion", "cmd"]).output().unwrap().status.code(), Some(2));
}
