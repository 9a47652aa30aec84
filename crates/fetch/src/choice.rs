//! Which files of a model it is run with: a folder of weights and what stands beside them, or one GGUF file.

use crate::error::FetchError;
use crate::listing::{Listed, Listing};
use crate::name::ModelName;

/// Folders with the same weights for other programs.
const STRANGERS: [&str; 8] = [
    "original", "onnx", "openvino", "coreml", "metal", "flax", "tf", "runs",
];
/// Endings of small files that models are described by.
const SMALL: [&str; 5] = [".json", ".jinja", ".model", ".tiktoken", ".txt"];

/// The files to fetch, the small ones first, so that what is wrong with them shows before gigabytes have come.
pub(crate) fn choose(name: &ModelName, listing: &Listing) -> Result<Vec<Listed>, FetchError> {
    let mut chosen: Vec<Listed> = match name.file() {
        Some(file) => one_file(name, file, listing)?,
        None => folder(name, listing)?,
    };
    chosen.sort_by(|a, b| (a.bytes, &a.path).cmp(&(b.bytes, &b.path)));
    Ok(chosen)
}

/// What of a name such as `Q4_K_M` or `model-q4_0.gguf` is meant, with the file of its encoder.
fn one_file(name: &ModelName, file: &str, listing: &Listing) -> Result<Vec<Listed>, FetchError> {
    let exact = listing.files.iter().find(|listed| listed.path == file);
    let similar = listing.files.iter();
    let similar: Vec<&Listed> = similar.filter(|it| may_mean(file, &it.path)).collect();
    let found: &Listed = match (exact, &similar[..]) {
        (Some(found), _) => found,
        (None, [found]) => found,
        (None, []) => {
            let there = paths(ggufs(listing));
            let problem = format!("expected a file {file:?}, found {there}");
            return Err(wrong(name, problem, "give one of these after ':'"));
        }
        (None, several) => {
            let there = paths(several.iter().copied());
            let problem = format!("{file:?} may mean {there}");
            return Err(wrong(name, problem, "give more of its name"));
        }
    };
    let encoder = ggufs(listing).filter(|listed| is_encoder(&listed.path));
    // The one with as many bits as our own encoder's weights come in, if there is a choice.
    let encoder = encoder.min_by_key(|listed| !listed.path.to_lowercase().contains("f16"));
    let mut chosen = vec![found.clone()];
    if let Some(encoder) = encoder.filter(|encoder| is_gguf(&found.path) && *encoder != found) {
        chosen.push(encoder.clone());
    }
    Ok(chosen)
}

fn folder(name: &ModelName, listing: &Listing) -> Result<Vec<Listed>, FetchError> {
    let ours = |file: &&Listed| {
        let mut folders: Vec<&str> = file.path.split('/').collect();
        folders.pop();
        folders.len() < 2
            && !folders.iter().any(|folder| STRANGERS.contains(folder))
            && !file.path.split('/').any(|part| part.starts_with('.'))
    };
    let files = || listing.files.iter().filter(ours);
    let ends = |file: &Listed, endings: &[&str]| endings.iter().any(|end| file.path.ends_with(end));
    let is_tensors = |file: &&Listed| {
        let last = file.path.rsplit('/').next().unwrap_or_default();
        ends(file, &[".safetensors"]) && !last.starts_with("consolidated")
    };
    let is_torch = |file: &&Listed| {
        let last = file.path.rsplit('/').next().unwrap_or_default();
        last.starts_with("pytorch_model") && last.ends_with(".bin")
    };
    let mut weights: Vec<&Listed> = files().filter(is_tensors).collect();
    if weights.is_empty() {
        weights = files().filter(is_torch).collect();
    }
    if weights.is_empty() {
        let ggufs = paths(ggufs(listing));
        return Err(match ggufs.is_empty() {
            true => wrong(
                name,
                "expected weights (.safetensors, pytorch_model*.bin or .gguf), found none".into(),
                "",
            ),
            false => wrong(
                name,
                format!("it has GGUF files only: {ggufs}"),
                &format!("choose one: {}:FILE", name.model()),
            ),
        });
    }
    let small = files().filter(|file| ends(file, &SMALL));
    Ok(small.chain(weights).cloned().collect())
}

fn ggufs(listing: &Listing) -> impl Iterator<Item = &Listed> {
    listing.files.iter().filter(|file| is_gguf(&file.path))
}

/// Whether a path may be the model's file that is meant by a part of its name.
pub(crate) fn may_mean(part: &str, path: &str) -> bool {
    is_gguf(path) && !is_encoder(path) && path.to_lowercase().contains(&part.to_lowercase())
}

fn is_gguf(path: &str) -> bool {
    path.ends_with(".gguf")
}

fn is_encoder(path: &str) -> bool {
    path.to_lowercase().contains("mmproj")
}

fn paths<'a>(files: impl Iterator<Item = &'a Listed>) -> String {
    let paths: Vec<&str> = files.map(|file| file.path.as_str()).collect();
    paths.join(", ")
}

fn wrong(name: &ModelName, problem: String, hint: &str) -> FetchError {
    FetchError::Choice {
        name: name.to_string(),
        problem,
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Sum;

    fn chosen(name: &str, files: &[&str]) -> Result<Vec<String>, String> {
        let listed = |path: &&str| Listed {
            path: path.to_string(),
            bytes: 1,
            sum: Sum::Git(String::new()),
        };
        let listing = Listing {
            commit: String::new(),
            files: files.iter().map(listed).collect(),
        };
        let chosen = choose(&ModelName::parse(name).unwrap(), &listing);
        let paths = |files: Vec<Listed>| files.into_iter().map(|file| file.path).collect();
        chosen.map(paths).map_err(|error| error.to_string())
    }

    #[test]
    fn a_folder_is_its_weights_once_and_what_describes_them() {
        let files = [
            ".gitattributes",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00001.safetensors",
            "onnx/model.onnx",
            "original/params.json",
            "pytorch_model.bin",
            "tokenizer.json",
            "tokenizer.model",
            "llm/model.safetensors",
            "llm/config.json",
            "chat_template.jinja",
            "modeling_x.py",
            "a/b/c.json",
        ];
        assert_eq!(
            chosen("o/n", &files).unwrap(),
            [
                "chat_template.jinja",
                "config.json",
                "llm/config.json",
                "llm/model.safetensors",
                "model-00001-of-00001.safetensors",
                "tokenizer.json",
                "tokenizer.model",
            ]
        );
        let old = ["config.json", "pytorch_model.bin", "optimizer.bin"];
        assert_eq!(
            chosen("o/n", &old).unwrap(),
            ["config.json", "pytorch_model.bin"]
        );
    }

    #[test]
    fn one_file_is_found_by_a_part_of_its_name_and_brings_its_encoder() {
        let files = [
            "x-Q4_0.gguf",
            "x-Q4_K_M.gguf",
            "mmproj-x-f32.gguf",
            "mmproj-x-f16.gguf",
            "README.md",
        ];
        assert_eq!(
            chosen("o/n:q4_k_m", &files).unwrap(),
            ["mmproj-x-f16.gguf", "x-Q4_K_M.gguf"]
        );
        assert_eq!(
            chosen("o/n:x-Q4_0.gguf", &files).unwrap(),
            ["mmproj-x-f16.gguf", "x-Q4_0.gguf"]
        );
        assert_eq!(
            chosen("o/n:Q4", &files).unwrap_err(),
            "o/n:Q4: \"Q4\" may mean x-Q4_0.gguf, x-Q4_K_M.gguf"
        );
        assert!(
            chosen("o/n:Q8", &files)
                .unwrap_err()
                .contains("found x-Q4_0.gguf")
        );
        assert!(
            chosen("o/n", &files)
                .unwrap_err()
                .contains("GGUF files only")
        );
        assert!(
            chosen("o/n", &["README.md"])
                .unwrap_err()
                .contains("found none")
        );
    }
}
