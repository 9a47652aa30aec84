//! Reading config.json: every error names the key, what was expected and what was found.

use crate::spec::Activation;
use serde_json::{Map, Value};

/// An object of the configuration, with errors that name the key.
pub(in crate::families) struct Keys<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Keys<'a> {
    pub fn new(value: &'a Value, path: &str) -> Result<Keys<'a>, String> {
        let map = value.as_object().ok_or_else(|| {
            format!(
                "{} is not an object",
                if path.is_empty() { "the file" } else { path }
            )
        })?;
        Ok(Keys {
            map,
            path: path.to_string(),
        })
    }

    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_string()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// A key that is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub fn object(&self, key: &str) -> Result<Keys<'a>, String> {
        let value = self
            .get(key)
            .ok_or_else(|| format!("{} is missing", self.name(key)))?;
        Keys::new(value, &self.name(key))
    }

    pub fn text(&self, key: &str) -> Result<&'a str, String> {
        let value = self
            .get(key)
            .ok_or_else(|| format!("{} is missing", self.name(key)))?;
        value
            .as_str()
            .ok_or_else(|| format!("{} is {value}, expected a string", self.name(key)))
    }

    pub fn text_or(&self, key: &str, default: &'a str) -> Result<&'a str, String> {
        if self.get(key).is_some() {
            self.text(key)
        } else {
            Ok(default)
        }
    }

    pub fn size(&self, key: &str) -> Result<usize, String> {
        let value = self
            .get(key)
            .ok_or_else(|| format!("{} is missing", self.name(key)))?;
        let number = value
            .as_u64()
            .ok_or_else(|| format!("{} is {value}, expected a whole number", self.name(key)))?;
        usize::try_from(number)
            .map_err(|_| format!("{} is {number}, which is too large", self.name(key)))
    }

    /// Whether a key is there and null.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// A number, or a list of equal ones: the side of a square.
    pub fn side_or(&self, key: &str, default: usize) -> Result<usize, String> {
        if !self.get(key).is_some_and(Value::is_array) {
            return self.size_or(key, default);
        }
        let sides = self.sizes(key)?;
        match sides.as_slice() {
            [first, rest @ ..] if rest.iter().all(|side| side == first) => Ok(*first),
            _ => Err(format!(
                "{} is {sides:?}, expected a square",
                self.name(key)
            )),
        }
    }

    pub fn sizes(&self, key: &str) -> Result<Vec<usize>, String> {
        let numbers = self.get(key).and_then(Value::as_array).and_then(|list| {
            let whole = |value: &Value| usize::try_from(value.as_u64()?).ok();
            list.iter().map(whole).collect()
        });
        numbers.ok_or_else(|| format!("{}: expected a list of whole numbers", self.name(key)))
    }

    /// A list of pairs of whole numbers.
    pub fn pairs(&self, key: &str) -> Result<Option<Vec<[u32; 2]>>, String> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let pair = |value: &Value| {
            let numbers: Option<Vec<u32>> = (value.as_array()?.iter())
                .map(|number| number.as_u64()?.try_into().ok())
                .collect();
            <[u32; 2]>::try_from(numbers?).ok()
        };
        let pairs = value
            .as_array()
            .and_then(|list| list.iter().map(pair).collect());
        match pairs {
            Some(pairs) => Ok(Some(pairs)),
            None => Err(format!(
                "{}: expected a list of pairs of whole numbers",
                self.name(key)
            )),
        }
    }

    pub fn triple_or(&self, key: &str, default: [f64; 3]) -> Result<[f64; 3], String> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        let numbers: Option<Vec<f64>> = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers
            .and_then(|numbers| <[f64; 3]>::try_from(numbers).ok())
            .ok_or_else(|| format!("{} is {value}, expected three numbers", self.name(key)))
    }

    /// A list of positive numbers.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>, String> {
        let list = self.get(key).and_then(Value::as_array);
        let positive = |value: &Value| value.as_f64().filter(|n| *n > 0.0 && n.is_finite());
        list.and_then(|list| list.iter().map(positive).collect())
            .ok_or_else(|| format!("{}: expected a list of positive numbers", self.name(key)))
    }

    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, String> {
        if self.get(key).is_some() {
            self.size(key)
        } else {
            Ok(default)
        }
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, String> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        let number = value
            .as_f64()
            .ok_or_else(|| format!("{} is {value}, expected a number", self.name(key)))?;
        if number > 0.0 && number.is_finite() {
            Ok(number)
        } else {
            Err(format!(
                "{} is {number}, expected a positive number",
                self.name(key)
            ))
        }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, String> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| format!("{} is {value}, expected true or false", self.name(key)))
    }

    pub fn id(&self, key: &str) -> Result<Option<u32>, String> {
        if self.get(key).is_none() {
            return Ok(None);
        }
        let id = self.size(key)?;
        u32::try_from(id)
            .map(Some)
            .map_err(|_| format!("{} is {id}, expected a token id", self.name(key)))
    }

    pub fn ids(&self, key: &str) -> Result<Vec<u32>, String> {
        match self.get(key) {
            Some(Value::Array(list)) => list
                .iter()
                .map(|id| {
                    id.as_u64()
                        .and_then(|id| u32::try_from(id).ok())
                        .ok_or_else(|| format!("{} holds {id}, expected token ids", self.name(key)))
                })
                .collect(),
            _ => Ok(self.id(key)?.into_iter().collect()),
        }
    }

    pub fn activation(&self, key: &str, default: &'a str) -> Result<Activation, String> {
        match self.text_or(key, default)? {
            "gelu" => Ok(Activation::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            "silu" | "swish" => Ok(Activation::Silu),
            "quick_gelu" => Ok(Activation::QuickGelu),
            other => Err(format!(
                "{} is {other:?}, expected gelu, gelu_pytorch_tanh, quick_gelu or silu",
                self.name(key)
            )),
        }
    }
}
