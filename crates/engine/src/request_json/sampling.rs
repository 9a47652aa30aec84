//! Parameters of a body that say how tokens are chosen.

use serde_json::{Map, Value as Json};

use super::{short, wrong};
use crate::error::EngineError;
use crate::request::Request;

/// Reads a parameter if it is one of sampling; whether it was.
pub(super) fn parameter(
    request: &mut Request,
    name: &str,
    value: &Json,
) -> Result<bool, EngineError> {
    let number = || match value.as_f64() {
        Some(number) => Ok(number as f32),
        None => Err(wrong(name, "a number", value)),
    };
    let sampling = &mut request.sampling;
    match name {
        "temperature" => sampling.temperature = number()?,
        "top_p" => sampling.top_p = number()?,
        "min_p" => sampling.min_p = number()?,
        "presence_penalty" => sampling.presence_penalty = number()?,
        "frequency_penalty" => sampling.frequency_penalty = number()?,
        // The second is llama-server's name.
        "repetition_penalty" | "repeat_penalty" => sampling.repetition_penalty = number()?,
        // Some clients write -1 for "all".
        "top_k" => match value.as_i64() {
            Some(number @ -1..) => sampling.top_k = usize::try_from(number).unwrap_or(0),
            _ => return Err(wrong(name, "a whole number", value)),
        },
        // Clients draw seeds from all 64 bits, signed or not.
        "seed" => match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => sampling.seed = seed,
            (None, Some(seed)) => sampling.seed = seed.cast_unsigned(),
            _ => return Err(wrong(name, "a whole number", value)),
        },
        "logit_bias" => sampling.logit_bias = logit_bias(value)?,
        // How many beside each token says `top_logprobs`, in whichever order the two come.
        "logprobs" => match value.as_bool() {
            Some(true) => request.logprobs = Some(request.logprobs.unwrap_or(0)),
            Some(false) => {}
            None => return Err(wrong(name, "true or false", value)),
        },
        _ => return Ok(false),
    }
    Ok(true)
}

/// `top_logprobs` says how many, `logprobs` whether.
pub(super) fn top_logprobs(
    request: &mut Request,
    body: &Map<String, Json>,
) -> Result<(), EngineError> {
    let count = body.get("top_logprobs").unwrap_or(&Json::Null);
    let asked = body.get("logprobs") == Some(&Json::Bool(true));
    match (count, count.as_u64(), asked) {
        (Json::Null, ..) => {}
        (_, Some(count), true) => {
            request.logprobs = Some(usize::try_from(count).unwrap_or(usize::MAX))
        }
        (_, Some(0), false) => {}
        (_, Some(_), false) => {
            return Err(EngineError::request(
                "top_logprobs",
                "`logprobs` must be true as well",
            ));
        }
        (_, None, _) => return Err(wrong("top_logprobs", "a whole number", count)),
    }
    Ok(())
}

/// `{"ID": BIAS, …}`.
fn logit_bias(value: &Json) -> Result<Vec<(u32, f32)>, EngineError> {
    let Json::Object(map) = value else {
        return Err(wrong("logit_bias", "an object of token ids", value));
    };
    map.iter()
        .map(|(id, bias)| match (id.parse(), bias.as_f64()) {
            (Ok(id), Some(bias)) => Ok((id, bias as f32)),
            _ => {
                let found = format!("{id:?}: {}", short(bias));
                let message = format!("expected token ids and numbers, found {found}");
                Err(EngineError::request("logit_bias", message))
            }
        })
        .collect()
}
