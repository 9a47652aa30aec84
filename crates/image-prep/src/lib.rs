//! Image bytes in, normalised tiles out; no weights.
