//! What can be wrong with a model folder or a request to its network.

use std::path::PathBuf;

/// Errors of this crate: each names the thing, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// config.json does not parse or does not describe a network of this program.
    #[error("config.json: {0}")]
    Config(String),
    /// A file cannot be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done, as in "reading".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A weight file's header contradicts the file.
    #[error("{path}: {problem}")]
    WeightFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A whole GGUF file of something that is not read, or cannot be written.
    #[error("{path}: {problem}")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// A bundle that contradicts itself or its network: everything that is wrong at once.
    #[error("{path}: {}", listed(problems))]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problems: Vec<String>,
    },
    /// A bundle of another version of the format.
    #[error("{path}: expected a bundle of version {expected}, found version {found}")]
    BundleVersion {
        /// The file.
        path: PathBuf,
        /// The version that this program reads.
        expected: u32,
        /// The file's.
        found: u32,
    },
    /// Tensors that do not fit the configuration: all of them at once.
    #[error("the weights do not fit config.json:{0}")]
    Tensors(TensorProblems),
    /// A tensor holds NaN or infinity.
    #[error("tensor {name} holds {found} at element {index}, expected finite numbers")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Its first such element, counted row by row.
        index: usize,
        /// What it holds.
        found: f32,
    },
    /// `BLUELM_ISA` asks for instructions that this processor lacks.
    #[error("{0}")]
    InstructionSet(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Everything by which a weight file and a configuration differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorProblems {
    /// Expected, not there.
    pub missing: Vec<String>,
    /// There, not expected.
    pub extra: Vec<String>,
    /// Name, expected shape, found shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Name and a number type that is not read.
    pub unreadable: Vec<(String, String)>,
}

impl TensorProblems {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.extra.is_empty()
            && self.misshapen.is_empty()
            && self.unreadable.is_empty()
    }
}

/// Names listed of one sort before the rest is only counted: a wrong folder has hundreds.
const LISTED: usize = 12;

/// One problem in the same line, several below one another.
pub(crate) fn listed(problems: &[String]) -> String {
    if let [one] = problems {
        return one.clone();
    }
    let mut text = format!("{} problems:", problems.len());
    for problem in problems.iter().take(LISTED) {
        text.push_str("\n    ");
        text.push_str(problem);
    }
    if problems.len() > LISTED {
        text.push_str(&format!("\n    … and {} more", problems.len() - LISTED));
    }
    text
}

impl std::fmt::Display for TensorProblems {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let names = |list: &[String]| list.to_vec();
        let shapes = self.misshapen.iter().map(|(name, expected, found)| {
            format!("{name}: expected {expected:?}, found {found:?}")
        });
        let types = self
            .unreadable
            .iter()
            .map(|(name, found)| format!("{name}: expected F32, BF16 or F16, found {found}"));
        let sorts = [
            ("missing", names(&self.missing)),
            ("not expected", names(&self.extra)),
            ("wrong shape", shapes.collect()),
            ("wrong type", types.collect()),
        ];
        for (sort, list) in sorts.iter().filter(|(_, list)| !list.is_empty()) {
            write!(f, "\n  {} {sort}:", list.len())?;
            for name in list.iter().take(LISTED) {
                write!(f, "\n    {name}")?;
            }
            if list.len() > LISTED {
                write!(f, "\n    … and {} more", list.len() - LISTED)?;
            }
        }
        Ok(())
    }
}

impl ModelError {
    /// Advice for the person who sees the error, where there is some.
    pub fn hint(&self) -> Option<String> {
        match self {
            ModelError::Config(_) => Some("the native format is model_type bluelm_v; docs/models.md lists the other families that are read".into()),
            ModelError::WeightFile { .. } => Some("the file may be cut off: copy or download it again".into()),
            ModelError::Gguf { .. } => Some("docs/models.md lists what of GGUF is read and written".into()),
            ModelError::Bundle { .. } => Some("bundles are made by `bluelm convert`; this one is damaged, cut off, or not one: make or copy it again".into()),
            ModelError::BundleVersion { .. } => Some("convert the model again with this version of the program".into()),
            ModelError::Tensors(_) => Some("config.json and the safetensors files must come from the same model".into()),
            ModelError::NotFinite { .. } => Some("the training run that wrote this file diverged, or the file is damaged".into()),
            _ => None,
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> ModelError {
        let path = path.into();
        move |source| ModelError::Io {
            action,
            path,
            source,
        }
    }
}
