//! Folders of examples: complete, equal after an interruption, careful with what is there already, readable again.

use std::path::Path;

use data::{
    DataError, Generator, LlavaOptions, Recipe, Speaker, read_llava, write_llava, write_llava_with,
};

fn generator(seed: u64) -> Generator {
    Generator::new(seed, Recipe::easy(256)).expect("a right recipe")
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in [folder.to_owned(), folder.join("images")] {
        for file in std::fs::read_dir(entry).expect("a folder") {
            let path = file.expect("an entry").path();
            if path.is_file() {
                let name = path
                    .strip_prefix(folder)
                    .expect("below")
                    .display()
                    .to_string();
                found.push((name, std::fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_folder_holds_pictures_conversations_and_evaluation_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut heard = Vec::new();
    write_llava(folder.path(), &generator(1), 12, &mut |done| {
        heard.push(done)
    })
    .expect("written");
    assert_eq!(heard, (1..=12).collect::<Vec<_>>());
    let conversations = read_llava(&folder.path().join("llava.json")).expect("readable");
    assert!(
        conversations
            .iter()
            .any(|sample| sample.turns[1].1.starts_with("<think>"))
    );
    for sample in &conversations {
        assert!(sample.turns[0].1.starts_with("<image>\n"), "{sample:?}");
        assert!(
            sample
                .turns
                .iter()
                .step_by(2)
                .all(|turn| turn.0 == Speaker::Human)
        );
        let bytes =
            std::fs::read(sample.image.as_ref().expect("a picture")).expect("the picture's file");
        let number: u64 = sample.id[..8]
            .parse()
            .expect("an id begins with the number");
        let decoded = image_prep::decode(&bytes, &image_prep::Limits::default()).expect("a PNG");
        assert_eq!(decoded, generator(1).example(number).picture);
    }
    let lines = std::fs::read_to_string(folder.path().join("eval.jsonl")).expect("lines");
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(
            ["image", "question", "answer", "kind"]
                .iter()
                .all(|key| line[key].is_string()),
            "{line}"
        );
    }
    assert!(
        !files(folder.path())
            .iter()
            .any(|file| file.0.ends_with(".part"))
    );
}

#[test]
fn a_run_that_was_interrupted_ends_with_the_same_bytes() {
    let (whole, broken) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    write_llava(whole.path(), &generator(2), 10, &mut |_| {}).expect("written");
    write_llava(broken.path(), &generator(2), 10, &mut |_| {}).expect("written");
    for name in [
        "images/00000004.png",
        "images/00000009.png",
        "llava.json",
        "eval.jsonl",
    ] {
        std::fs::remove_file(broken.path().join(name)).expect("removed");
    }
    std::fs::write(broken.path().join("images/00000004.part"), b"half a pict").expect("written");
    write_llava(broken.path(), &generator(2), 10, &mut |_| {}).expect("goes on");
    assert!(files(whole.path()) == files(broken.path()));
}

#[test]
fn a_folder_with_something_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    write_llava(folder.path(), &generator(3), 2, &mut |_| {}).expect("written");
    let before = files(folder.path());
    let seed = write_llava(folder.path(), &generator(4), 2, &mut |_| {}).expect_err("another seed");
    assert!(matches!(seed, DataError::OtherRun { .. }), "{seed}");
    assert!(
        seed.to_string().contains("seed 3, asked for 4") && seed.hint().is_some(),
        "{seed}"
    );
    let options = LlavaOptions {
        thoughts: 0,
        ..LlavaOptions::first(2)
    };
    let other = write_llava_with(folder.path(), &generator(3), &options, &mut |_| {})
        .expect_err("other options");
    assert!(matches!(other, DataError::OtherRun { .. }), "{other}");
    assert!(files(folder.path()) == before);

    let foreign = tempfile::tempdir().expect("a folder");
    std::fs::write(foreign.path().join("letter.txt"), "dear").expect("written");
    let error = write_llava(foreign.path(), &generator(3), 2, &mut |_| {}).expect_err("not empty");
    assert!(matches!(error, DataError::NotEmpty { .. }), "{error}");

    let file = foreign.path().join("letter.txt");
    let error = write_llava(&file, &generator(3), 2, &mut |_| {}).expect_err("a file");
    assert!(matches!(error, DataError::File { .. }), "{error}");
}

#[test]
fn a_full_disk_is_one_clear_error() {
    // The device that is always full exists on Linux only.
    if !Path::new("/dev/full").exists() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    write_llava(folder.path(), &generator(5), 3, &mut |_| {}).expect("written");
    std::fs::remove_file(folder.path().join("eval.jsonl")).expect("removed");
    #[cfg(unix)]
    std::os::unix::fs::symlink("/dev/full", folder.path().join("eval.part")).expect("linked");
    let error = write_llava(folder.path(), &generator(5), 3, &mut |_| {}).expect_err("full");
    assert!(
        error.to_string().contains("eval.")
            && error
                .hint()
                .is_some_and(|hint| hint.contains("free some space")),
        "{error}"
    );
}

#[test]
fn hostile_json_is_told_from_good_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("list.json");
    let sample = |image: &str| {
        let turns = r#"[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]"#;
        format!(r#"{{"id":7,"image":{image},"conversations":{turns}}}"#)
    };
    let read = |text: String| {
        std::fs::write(&path, text).expect("written");
        read_llava(&path)
    };
    let good = read(format!("[{},{}]", sample("\"a/b.png\""), sample("null"))).expect("good");
    assert_eq!(
        good[0].image.as_deref(),
        Some(folder.path().join("a/b.png").as_path())
    );
    assert_eq!((good[0].id.as_str(), &good[1].image), ("7", &None));
    let bad = [
        String::new(),
        "{}".to_owned(),
        "[1]".to_owned(),
        "[".repeat(100_000),
        format!("[{}]", sample("\"../secret.png\"")),
        format!("[{}]", sample("\"/etc/passwd\"")),
        format!("[{}]", sample("\"C:\\\\x.png\"")),
        format!("[{}]", sample("\"\"")),
        r#"[{"conversations":[{"from":"robot","value":"a"}]}]"#.to_owned(),
        r#"[{"conversations":[{"from":"human","value":"a"}]}]"#.to_owned(),
        r#"[{"conversations":[]}]"#.to_owned(),
    ];
    for text in bad {
        let start: String = text.chars().take(60).collect();
        let error = read(text).expect_err(&start);
        assert!(
            matches!(error, DataError::Malformed { .. }),
            "{start}: {error}"
        );
    }
    let many = vec![sample("\"../x\""); 30].join(",");
    let message = read(format!("[{many}]"))
        .expect_err("thirty complaints")
        .to_string();
    assert!(
        message.contains("sample 19") && message.ends_with("and 10 more"),
        "{message}"
    );
    assert!(read_llava(&folder.path().join("absent.json")).is_err());
}
