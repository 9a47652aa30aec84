//! What holds for the models of all families: the same bits however a prompt is cut and whoever else is answered, and no picture
//! that breaks one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::{
    AtEnd, Cancel, Capacity, ChatTemplate, Engine, EngineError, Message, Request, Role, Scheduler,
    Task, TokenLogprob, Waker, read_picture, read_small_files,
};
use image_prep::{Limits, Picture};
use model::Checkpoint;
use model::convert::{Conversion, Options, Origin, Recipe, Rounding};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden")
}

/// The model folders of golden/families, and what is shown to each.
fn families() -> Vec<(PathBuf, Request)> {
    let folders = std::fs::read_dir(golden().join("families")).unwrap();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let shown = |folder: PathBuf| {
        let cases = std::fs::read_dir(folder.join("cases")).unwrap();
        let mut pictures = cases.map(|case| case.unwrap().path().join("image_0.png"));
        let picture = pictures.find(|path| path.exists());
        let picture = picture.map(|path| read_picture(&path, &Limits::default()).unwrap());
        let request = Request::question(picture.into_iter().collect(), "What is shown?");
        (folder.join("model"), request)
    };
    folders.into_iter().map(shown).collect()
}

/// Makes a small bundle of a folder.
fn convert(folder: &Path, to: &Path) {
    let conversion = Conversion {
        weights: Origin::Checkpoint(&mut Checkpoint::open(folder).unwrap()),
        files: &read_small_files(folder).unwrap(),
        // The rounding is of no concern here, and this one is quick.
        options: Options {
            recipe: Recipe::Fast,
            group: 32,
            rounding: Rounding::Nearest,
        },
        sequences: Vec::new(),
        progress: &mut |_| {},
        cancel: &|| false,
    };
    conversion.write(to).unwrap();
}

/// All logits of a prompt that is read in steps of so many rows, and of some tokens after it.
fn logits(engine: Engine, request: &Request, step: usize) -> Vec<u32> {
    let engine = engine.with_step_tokens(step);
    let record = engine.trace(request, &[5, 6, 7], &Cancel::new()).unwrap();
    let all = ["prefill_logits", "decode_logits"].map(|name| record.numbers(name).unwrap());
    all.concat().iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn a_prompt_read_in_any_steps_gives_the_same_bits() {
    let place = tempfile::tempdir().unwrap();
    for (folder, request) in families() {
        let bundle = place.path().join("bundle");
        convert(&folder, &bundle);
        // In f32, and with quantized weights, keys and values.
        for model in [&folder, &bundle] {
            let load = || Engine::load(model).unwrap();
            let whole = logits(load(), &request, 10_000);
            for step in [1, 7, 30] {
                let found = logits(load(), &request, step);
                assert!(found == whole, "{}, {step} rows", model.display());
            }
        }
        std::fs::remove_file(bundle).unwrap();
    }
}

#[test]
fn answers_given_together_are_those_given_alone() {
    let longer = |request: Request| Request {
        max_tokens: Some(5),
        logprobs: Some(3),
        at_end: AtEnd::Continue,
        ..request
    };
    for (folder, shown) in families() {
        let engine = Engine::load(&folder).unwrap();
        let told = Request::question(Vec::new(), "How many objects are there, and which of them?");
        let requests = [longer(shown.clone()), longer(told), longer(shown)];
        let alone = requests.each_ref().map(|request| {
            let reply = engine
                .generate(request, &Cancel::new(), &mut |_| {})
                .unwrap();
            (reply.output_ids, reply.logprobs)
        });
        let together = together(&engine, &requests);
        assert_eq!(together, alone.map(Some), "{}", folder.display());
    }
}

type Answer = (Vec<u32>, Option<Vec<TokenLogprob>>);

/// What a scheduler makes of requests at once, their prompts read in chunks of 9 rows.
fn together(engine: &Engine, requests: &[Request; 3]) -> [Option<Answer>; 3] {
    let capacity = Capacity {
        requests: 3,
        cache_tokens: 8192,
        chunk_tokens: 9,
    };
    let mut answers = [const { None }; 3];
    std::thread::scope(|scope| {
        let waker = Waker::new();
        let mut scheduler = Scheduler::new(engine, scope, capacity, waker.clone());
        for (tag, request) in requests.iter().enumerate() {
            let task = Task {
                request: Arc::new(request.clone()),
                cancel: Cancel::new(),
                events: Box::new(|_| {}),
                tag,
            };
            assert!(scheduler.begin(task).is_none());
        }
        while answers.iter().any(Option::is_none) {
            let step = scheduler.step();
            if !step.worked && step.finished.is_empty() {
                waker.wait(Duration::from_millis(20));
            }
            for finished in step.finished {
                let reply = finished.result.unwrap();
                answers[finished.tag] = Some((reply.output_ids, reply.logprobs));
            }
        }
    });
    answers
}

/// Files that cameras and programs write, and some that break off.
fn odd_files() -> Vec<(String, Vec<u8>)> {
    let fixtures = golden().join("../crates/image-prep/tests/fixtures/decode");
    let read = |name: &str| std::fs::read(fixtures.join(name)).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = [
        "one_pixel.png",
        "rgba.png",
        "rgb_16.png",
        "grey_alpha_16.png",
        "cmyk.jpg",
        "animated.gif",
        "orientation_6.jpg",
    ]
    .map(|name| (name.to_owned(), read(name)))
    .into();
    for name in ["rgb.png", "rgb.jpg"] {
        let mut bytes = read(name);
        bytes.truncate(bytes.len() / 2);
        files.push((format!("half of {name}"), bytes));
    }
    files
}

#[test]
fn odd_pictures_are_answered_or_refused_with_a_reason() {
    // A line, a column, and one whose every tile is mostly padding; the limit of the decoder is tested beside it.
    let sizes = [(1, 1), (1, 4000), (4000, 1), (1200, 900), (3, 700)];
    let mut pictures: Vec<(String, Picture)> = sizes
        .map(|(width, height)| {
            let picture = Picture::filled(width, height, [200, 30, 90]);
            (format!("{width}x{height}"), picture)
        })
        .into();
    for (name, bytes) in odd_files() {
        match image_prep::decode(&bytes, &Limits::default()) {
            Ok(picture) => pictures.push((name, picture)),
            Err(error) => assert!(
                name.starts_with("half") && error.to_string().contains("cut off"),
                "{name}: {error}"
            ),
        }
    }
    for (folder, request) in families() {
        if request.images.is_empty() {
            continue;
        }
        let engine = Engine::load(&folder).unwrap();
        for (name, picture) in &pictures {
            let request = Request {
                max_tokens: Some(1),
                at_end: AtEnd::Continue,
                ..Request::question(vec![picture.clone()], "What is shown?")
            };
            match engine.generate(&request, &Cancel::new(), &mut |_| {}) {
                Ok(reply) => assert!(reply.usage.image_tokens > 0, "{name}"),
                Err(error) => assert!(
                    matches!(error, EngineError::PromptTooLong { .. }),
                    "{}, {name}: {error}",
                    folder.display()
                ),
            }
        }
    }
}

#[test]
fn a_conversation_that_is_only_named_begins_turns_as_its_decoder_learned() {
    for (name, begin, end) in [
        ("phi3-chat", "<|user|>\n", "<|end|><|assistant|>\n"),
        (
            "internlm2-chat",
            "<|im_start|>user\n",
            "<|im_end|><|im_start|>assistant\n",
        ),
    ] {
        let config = format!(
            r#"{{"model_type": "internvl_chat", "template": "{name}", "vision_config": {{}},
            "llm_config": {{"model_type": "phi3"}}}}"#
        );
        let spec = model::ModelSpec::from_json(&config).unwrap();
        let template = ChatTemplate::new(&spec.prompt.template.unwrap(), "", "").unwrap();
        let messages = [Message::text(Role::User, "What?")];
        let text = template.render(&messages, None, &Default::default());
        let said = format!("{begin}What?{end}");
        assert!(text.as_ref().unwrap().ends_with(&said), "{name}: {text:?}");
    }
}
