//! Whole runs on a very small network: stopped, killed and resumed ones give the numbers of an undisturbed one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use train::{Line, Outcome, RunConfig, run};

/// The nano model's files with a network of a few thousand parameters.
fn small_start(folder: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/nano");
    let start = folder.join("start");
    std::fs::create_dir_all(&start).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, start.join(path.file_name().unwrap())).unwrap();
    }
    let path = start.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for part in ["vision_config", "text_config"] {
        for (key, value) in [
            ("hidden_size", 32),
            ("intermediate_size", 48),
            ("num_hidden_layers", 2),
            ("num_attention_heads", 2),
        ] {
            config[part][key] = value.into();
        }
    }
    config["text_config"]["num_key_value_heads"] = 2.into();
    config["text_config"]["head_dim"] = 16.into();
    std::fs::write(path, config.to_string()).unwrap();
    start
}

fn config(folder: &Path, output: &str, threads: usize) -> RunConfig {
    let text = format!(
        r#"
name = "test"
seed = 5
start = {:?}
output = {:?}
threads = {threads}
checkpoint_every = 2
evaluate_every = 3
optimizer = {{ matrices = "muon" }}

[[stage]]
name = "see"
steps = 3
trainable = ["vision", "auxiliary"]
learning_rate = 1e-3
micro_batches = 2
pictures = 1
questions = 0
patch_weight = 1.0
data = {{ scenes = {{ words = 1.0 }}, min_side = 96, max_side = 128, canvas = 128 }}

[[stage]]
name = "answer"
steps = 5
trainable = ["vision", "projector", "language", "auxiliary"]
learning_rate = 2e-3
vision_layer_decay = 0.9
micro_batches = 3
pictures = 1
questions = 3
thinking_share = 0.5
text_only_share = 0.3
patch_weight = 0.5
data = {{ scenes = {{ receipt = 1.0, shapes = 1.0 }}, min_side = 96, max_side = 256, canvas = 256 }}
"#,
        small_start(folder),
        folder.join(output)
    );
    let path = folder.join(format!("{output}.toml"));
    std::fs::write(&path, text).unwrap();
    RunConfig::read(&path).unwrap()
}

/// The run's lines without what clocks measured.
fn lines(config: &RunConfig) -> Vec<Line> {
    let text = std::fs::read_to_string(config.output.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).unwrap());
    lines
        .map(|line| Line {
            seconds: 0.0,
            tokens_per_s: 0.0,
            ..line
        })
        .collect()
}

/// Runs until step `stop_at`, or to the end, and returns each step's loss.
fn run_until(config: &RunConfig, stop_at: u64) -> Vec<(u64, f64, f64)> {
    let stop = AtomicBool::new(false);
    let mut losses = Vec::new();
    let outcome = run(config, &stop, &mut |progress| {
        if progress.line.is_none() {
            losses.push((progress.position.step, progress.loss, progress.patch_loss));
        }
        if progress.position.step >= stop_at {
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(outcome.unwrap(), Outcome::Finished(_)) == (stop_at > 8));
    losses
}

#[test]
fn a_stopped_run_resumes_to_the_same_bits_and_threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (
        config(folder.path(), "whole", 1),
        config(folder.path(), "parts", 2),
    );
    run_until(&whole, u64::MAX);
    for stop_at in [1, 3, 4, 7, u64::MAX] {
        run_until(&parts, stop_at);
    }
    assert_eq!(lines(&whole), lines(&parts));
    let bytes =
        |config: &RunConfig| std::fs::read(config.output.join("model/model.safetensors")).unwrap();
    assert!(
        bytes(&whole) == bytes(&parts),
        "the finished weights differ"
    );
}

#[test]
fn a_killed_run_goes_back_to_its_last_checkpoint_and_gives_the_same_curve() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (
        config(folder.path(), "whole", 2),
        config(folder.path(), "killed", 2),
    );
    run_until(&whole, u64::MAX);
    // A kill between two checkpoints: the metrics know more than the newest checkpoint, a half-written one lies about.
    run_until(&killed, 5);
    std::fs::remove_dir_all(killed.output.join("checkpoint-00000005")).unwrap();
    std::fs::create_dir_all(killed.output.join(".checkpoint.partial")).unwrap();
    std::fs::write(
        killed.output.join(".checkpoint.partial/state.safetensors"),
        b"torn",
    )
    .unwrap();
    run_until(&killed, u64::MAX);
    assert_eq!(lines(&whole), lines(&killed));
}

#[test]
fn a_run_under_other_settings_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "run", 1);
    run_until(&config, 4);
    let stop = AtomicBool::new(true);
    let mut other = config.clone();
    other.seed = 6;
    let error = run(&other, &stop, &mut |_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("seed 5, the configuration says 6"),
        "{error}"
    );
    let mut other = config.clone();
    other.stages[0].learning_rate = 0.5;
    let error = run(&other, &stop, &mut |_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"see\" was trained with other settings"),
        "{error}"
    );
    let mut later = config;
    later.stages[1].steps = 4;
    let error = run(&later, &stop, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("\"answer\""), "{error}");
}

#[test]
fn a_finished_model_is_what_run_loads() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "run", 2);
    run_until(&config, u64::MAX);
    let engine = engine::Engine::load(&config.output.join("model"));
    assert!(engine.is_ok(), "{:?}", engine.err());
    let svg = std::fs::read_to_string(config.output.join("loss.svg")).unwrap();
    assert!(svg.contains("polyline") || svg.contains("</svg>"));
}

#[test]
fn a_wrong_setting_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read_to_string({
        config(folder.path(), "run", 1);
        folder.path().join("run.toml")
    })
    .unwrap();
    for (from, to, expected) in [
        (
            "thinking_share = 0.5",
            "thinking_share = 1.5",
            "thinking_share is 1.5, expected 0 to 1",
        ),
        (
            "learning_rate = 1e-3",
            "learning_rate = -1.0",
            "learning_rate is -1, expected a positive number",
        ),
        ("seed = 5", "seed = 5\nsede = 6", "sede"),
        (
            "questions = 3",
            "questions = 3\nkinds = { reed = 1.0 }",
            "kinds names \"reed\"",
        ),
        (
            "questions = 3",
            "questions = 3\nsight_weight = nan",
            "sight_weight is NaN, expected 0 or more",
        ),
        (
            "questions = 3",
            "questions = 0\nsight_share = 0.5",
            "sight_share is 0.5 with questions 0, expected 0",
        ),
        ("\"language\"", "\"langauge\"", "langauge"),
    ] {
        let path = folder.path().join("wrong.toml");
        std::fs::write(&path, good.replace(from, to)).unwrap();
        let error = RunConfig::read(&path).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("wrong.toml"),
            "{error}"
        );
    }
}

#[test]
fn the_runs_that_come_with_the_project_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let runs: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    assert!(runs.len() >= 2, "{runs:?}");
    for run in runs {
        RunConfig::read(&run).unwrap();
    }
}
