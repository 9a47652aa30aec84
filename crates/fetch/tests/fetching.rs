//! Models from a hub that runs inside the tests and behaves as badly as is asked of it.

mod fake;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fake::{FakeHub, File};
use fetch::{Event, FetchError, Hub, ModelName, Settings};

fn hub(fake: &FakeHub, cache: &Path) -> Hub {
    Hub::new(settings(fake, cache))
}

fn settings(fake: &FakeHub, cache: &Path) -> Settings {
    Settings {
        endpoint: fake.address(),
        token: None,
        cache: cache.into(),
        offline: false,
        pause: Duration::from_millis(1),
    }
}

fn name() -> ModelName {
    ModelName::parse("owner/small-model").unwrap()
}

/// Bytes that differ from place to place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

fn files() -> Vec<File> {
    vec![
        File::small("config.json", b"{}"),
        File::small("llm/a b.json", b"[1]"),
        File::large("model.safetensors", &bytes(700_000)),
        File::large("other.onnx", &bytes(10)),
    ]
}

fn never() -> bool {
    false
}

#[test]
fn a_model_comes_once_and_is_found_without_the_network() {
    let fake = FakeHub::new(files());
    let cache = tempfile::tempdir().unwrap();
    let hub_here = hub(&fake, cache.path());
    assert!(hub_here.cache().find(&name()).is_none());
    let plan = hub_here.plan(&name()).unwrap();
    assert_eq!(
        (plan.file_count, plan.bytes, plan.missing_bytes),
        (3, 700_005, 700_005)
    );
    let (mut seen, mut arrived) = (Vec::new(), 0);
    let folder = hub_here.fetch(&plan, &never, &mut |event| match event {
        Event::File(path) => seen.push(path.to_owned()),
        Event::Bytes(count) => arrived += count,
    });
    let folder = folder.unwrap();
    // The small ones first.
    assert_eq!(seen, ["config.json", "llm/a b.json", "model.safetensors"]);
    assert_eq!(arrived, plan.bytes);
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        bytes(700_000)
    );
    assert_eq!(fs::read(folder.join("llm/a b.json")).unwrap(), b"[1]");
    let asked = fake.asked().len();
    // Again: one question, no file.
    let plan = hub_here.plan(&name()).unwrap();
    assert_eq!(plan.missing_bytes, 0);
    hub_here.fetch(&plan, &never, &mut |_| {}).unwrap();
    assert_eq!(fake.asked().len(), asked + 1);
    // Offline it is where it was, and nothing is asked.
    let offline = Hub::new(Settings {
        offline: true,
        ..settings(&fake, cache.path())
    });
    assert_eq!(offline.cache().find(&name()), Some(folder));
    assert!(matches!(
        offline.plan(&name()),
        Err(FetchError::Offline { .. })
    ));
    assert_eq!(fake.asked().len(), asked + 1);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_ended() {
    let fake = FakeHub::new(files());
    fake.break_after(300_000);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&fake, cache.path());
    let plan = hub.plan(&name()).unwrap();
    let mut arrived = 0;
    let folder = hub.fetch(&plan, &never, &mut |event| {
        if let Event::Bytes(count) = event {
            arrived += count;
        }
    });
    assert_eq!(
        fs::read(folder.unwrap().join("model.safetensors")).unwrap(),
        bytes(700_000)
    );
    assert_eq!(arrived, plan.bytes);
    let ranges: Vec<_> = fake
        .asked()
        .into_iter()
        .filter_map(|asked| asked.range)
        .collect();
    assert_eq!(ranges, ["bytes=300000-", "bytes=600000-"]);
}

#[test]
fn one_that_was_stopped_goes_on_in_another_process() {
    let fake = FakeHub::new(files());
    let cache = tempfile::tempdir().unwrap();
    let first = hub(&fake, cache.path());
    let plan = first.plan(&name()).unwrap();
    let arrived = Cell::new(0);
    let stop = || arrived.get() > 100_000;
    let stopped = first.fetch(&plan, &stop, &mut |event| {
        if let Event::Bytes(count) = event {
            arrived.set(arrived.get() + count);
        }
    });
    assert!(matches!(stopped, Err(FetchError::Cancelled)));
    // A part of a model is not taken for the whole.
    assert!(first.cache().find(&name()).is_none());
    let kept = arrived.get() - 5;
    let second = hub(&fake, cache.path());
    let folder = second.fetch(&plan, &never, &mut |_| {}).unwrap();
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        bytes(700_000)
    );
    let last = fake.asked().pop().unwrap();
    assert_eq!(last.range, Some(format!("bytes={kept}-")));
}

#[test]
fn a_hub_that_cannot_go_on_begins_again() {
    let fake = FakeHub::new(files());
    fake.break_after(300_000);
    fake.ignore_ranges();
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&fake, cache.path());
    let plan = hub.plan(&name()).unwrap();
    // The hub breaks off two times in all.
    let folder = hub.fetch(&plan, &never, &mut |_| {}).unwrap();
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        bytes(700_000)
    );
}

#[test]
fn other_bytes_than_the_list_says_are_thrown_away() {
    for path in ["config.json", "model.safetensors"] {
        let fake = FakeHub::new(files());
        fake.falsify(path);
        let cache = tempfile::tempdir().unwrap();
        let hub = hub(&fake, cache.path());
        let plan = hub.plan(&name()).unwrap();
        let error = hub.fetch(&plan, &never, &mut |_| {}).unwrap_err();
        assert!(
            matches!(&error, FetchError::Checksum { file, .. } if file == path),
            "{error}"
        );
        assert!(hub.cache().find(&name()).is_none());
        // The right ones come the next time.
        fake.falsify("");
        hub.fetch(&plan, &never, &mut |_| {}).unwrap();
    }
}

#[test]
fn more_or_fewer_bytes_than_the_list_says_are_a_wrong_answer() {
    for (change, ours) in [(1i64, true), (-1, false)] {
        let fake = FakeHub::new(files());
        fake.lie_about_sizes(change);
        let cache = tempfile::tempdir().unwrap();
        let hub = hub(&fake, cache.path());
        let plan = hub.plan(&name()).unwrap();
        let error = hub.fetch(&plan, &never, &mut |_| {}).unwrap_err();
        // Fewer look like a connection that breaks off, again and again.
        let broken = matches!(error, FetchError::NoConnection { .. });
        let wrong = matches!(error, FetchError::Answer { .. });
        assert_eq!((broken, wrong), (ours, !ours), "{error}");
    }
}

#[test]
fn a_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let other = FakeHub::new(files());
    let fake = FakeHub::new(files());
    fake.redirect_to(&other);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(Settings {
        token: Some("secret".into()),
        ..settings(&fake, cache.path())
    });
    let plan = hub.plan(&name()).unwrap();
    hub.fetch(&plan, &never, &mut |_| {}).unwrap();
    let asked = fake.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.key.as_deref() == Some("Bearer secret"))
    );
    let elsewhere = other.asked();
    assert_eq!(elsewhere.len(), 3);
    let of_model = |path: &str| path.starts_with("/owner/small-model/resolve/");
    assert!(elsewhere.iter().all(|asked| of_model(&asked.path)));
    assert!(elsewhere.iter().all(|asked| asked.key.is_none()));
}

#[test]
fn who_may_not_have_it_is_told_why() {
    let cache = tempfile::tempdir().unwrap();
    let plan = |status: u16, token: Option<&str>| {
        let fake = FakeHub::new(files());
        fake.answer_with(status);
        let hub = Hub::new(Settings {
            token: token.map(str::to_owned),
            ..settings(&fake, cache.path())
        });
        hub.plan(&name()).unwrap_err()
    };
    assert!(matches!(plan(401, None), FetchError::NotFound { .. }));
    assert!(matches!(
        plan(404, Some("key")),
        FetchError::NotFound { .. }
    ));
    assert!(matches!(plan(401, Some("key")), FetchError::Denied { .. }));
    assert!(matches!(plan(403, None), FetchError::Denied { .. }));
    assert!(matches!(plan(500, None), FetchError::NoConnection { .. }));
    // Nobody listens there.
    let gone = FakeHub::new(files());
    let hub = hub(&gone, cache.path());
    drop(gone);
    let error = hub.plan(&name()).unwrap_err();
    assert!(matches!(error, FetchError::NoConnection { .. }), "{error}");
    assert!(error.hint().unwrap().contains("bluelm ls"));
}

#[test]
fn a_file_that_another_process_fetches_is_left_alone() {
    let fake = FakeHub::new(files());
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&fake, cache.path());
    let plan = hub.plan(&name()).unwrap();
    let blobs = cache.path().join("models--owner--small-model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", files()[0].sum()));
    let held = fs::File::create(&part).unwrap();
    held.lock().unwrap();
    let error = hub.fetch(&plan, &never, &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    drop(held);
    hub.fetch(&plan, &never, &mut |_| {}).unwrap();
}

#[test]
fn models_are_listed_weighed_and_removed() {
    let fake = FakeHub::new(files());
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&fake, cache.path());
    assert!(hub.cache().list().unwrap().is_empty());
    let plan = hub.plan(&name()).unwrap();
    hub.fetch(&plan, &never, &mut |_| {}).unwrap();
    fs::create_dir(cache.path().join("datasets--owner--other")).unwrap();
    let [kept] = &hub.cache().list().unwrap()[..] else {
        panic!("one model")
    };
    assert_eq!(kept.name, name());
    assert_eq!(
        kept.files,
        ["config.json", "llm/a b.json", "model.safetensors"]
    );
    // The commit's name is a file as well.
    assert_eq!(kept.bytes, plan.bytes + 40);
    assert!(kept.changed.is_some() && kept.folder.is_some());
    hub.cache().remove(&name()).unwrap();
    assert!(hub.cache().list().unwrap().is_empty());
    assert!(hub.cache().show(&name()).is_none());
}

#[test]
fn one_file_of_several_is_found_by_a_part_of_its_name() {
    let fake = FakeHub::new(vec![
        File::large("x-Q4_0.gguf", &bytes(10)),
        File::large("x-Q8_0.gguf", &bytes(20)),
        File::large("mmproj-x.gguf", &bytes(30)),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&fake, cache.path());
    let one = ModelName::parse("owner/small-model:q8_0").unwrap();
    let plan = hub.plan(&one).unwrap();
    assert_eq!(plan.bytes, 50);
    let path = hub.fetch(&plan, &never, &mut |_| {}).unwrap();
    assert!(path.ends_with("x-Q8_0.gguf"));
    assert!(path.with_file_name("mmproj-x.gguf").is_file());
    assert_eq!(hub.cache().find(&one), Some(path));
    assert!(
        hub.cache()
            .find(&ModelName::parse("owner/small-model:q4_0").unwrap())
            .is_none()
    );
}
