//! What a family's files call the tensors that the network knows by the names of the native format.

use std::ops::Range;

/// How names and layouts of a family's tensors become canonical ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// Parts of names and what stands for them, one after the other. `^` begins a part that must begin the name; what stands
    /// before a `|` must begin the name too, and stays.
    pub replaced: Vec<(&'static str, &'static str)>,
    /// Matrices that stand for several.
    pub fused: Vec<Fused>,
    /// Parts of the names of matrices that lie the other way: inputs by outputs.
    pub transposed: Vec<&'static str>,
    /// Parts of the names of tensors that nothing is computed with and no network needs.
    pub ignored: Vec<&'static str>,
}

/// A tensor whose rows are those of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    /// Part of its name, after the replacements.
    pub part: &'static str,
    /// What stands for it in the names of its parts, which come as [`Fused::order`] says.
    pub into: Vec<&'static str>,
    /// Rows of each of them in one group. Groups follow each other until the rows are used up.
    pub rows: Vec<usize>,
}

/// Buffers that some programs save with the weights.
const BUFFERS: [&str; 3] = ["rotary_emb.inv_freq", "position_ids", "num_batches_tracked"];

/// One canonical tensor of a tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub name: String,
    /// Its rows, in order; none for all.
    pub rows: Option<Vec<Range<usize>>>,
    pub transposed: bool,
}

impl Names {
    /// Names that differ only in how they begin or in parts.
    pub fn replaced(replaced: &[(&'static str, &'static str)]) -> Names {
        Names {
            replaced: replaced.to_vec(),
            ..Names::default()
        }
    }

    /// What a tensor of a file is made into; nothing where it is not needed.
    pub(crate) fn parts(&self, name: &str, rows: usize) -> Vec<Part> {
        let ignored = |part: &&str| name.contains(*part);
        if BUFFERS.iter().any(ignored) || self.ignored.iter().any(ignored) {
            return Vec::new();
        }
        let mut name = name.to_owned();
        for (from, to) in &self.replaced {
            let (begins, from) = from.split_once('|').unwrap_or(("", from));
            match from.strip_prefix('^') {
                _ if !name.starts_with(begins) => {}
                Some(from) => {
                    if let Some(rest) = name.strip_prefix(from) {
                        name = format!("{to}{rest}");
                    }
                }
                None => name = name.replace(from, to),
            }
        }
        let transposed = self.transposed.iter().any(|part| name.contains(part));
        match self.fused.iter().find(|fused| name.contains(fused.part)) {
            Some(fused) => fused.parts(&name, rows),
            None => vec![Part {
                name,
                rows: None,
                transposed,
            }],
        }
    }
}

impl Fused {
    /// Queries, keys and values of an encoder of this width, one after the other.
    pub(crate) fn qkv(part: &'static str, width: usize) -> Fused {
        Fused {
            part,
            into: vec![
                ".self_attn.q_proj.",
                ".self_attn.k_proj.",
                ".self_attn.v_proj.",
            ],
            rows: vec![width; 3],
        }
    }

    pub(crate) fn parts(&self, name: &str, rows: usize) -> Vec<Part> {
        let group: usize = self.rows.iter().sum::<usize>().max(1);
        // Rows that are left over are a wrong shape: the tensor keeps its name, which nobody expects, and its parts are missing.
        if !rows.is_multiple_of(group) {
            return vec![Part {
                name: name.into(),
                rows: None,
                transposed: false,
            }];
        }
        let mut before = 0;
        let parts = self.into.iter().zip(&self.rows).map(|(into, &share)| {
            let first = before;
            before += share;
            let ranges = (0..rows / group).map(|at| at * group + first..at * group + first + share);
            Part {
                name: name.replace(self.part, into),
                rows: Some(ranges.collect()),
                transposed: false,
            }
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_fused_tensor_come_group_by_group() {
        let names = Names {
            replaced: vec![("^a.", "b."), ("b.|wqkv", "qkv")],
            fused: vec![Fused {
                part: "qkv",
                into: vec!["q", "k"],
                rows: vec![2, 1],
            }],
            ..Names::default()
        };
        let parts = names.parts("a.wqkv.weight", 6);
        assert_eq!(parts[0].name, "b.q.weight");
        assert_eq!(parts[0].rows, Some(vec![0..2, 3..5]));
        assert_eq!(parts[1].rows, Some(vec![2..3, 5..6]));
        assert_eq!(names.parts("x.a.weight", 1)[0].name, "x.a.weight");
        assert!(names.parts("a.rotary_emb.inv_freq", 1).is_empty());
        let odd = names.parts("a.wqkv.weight", 7);
        assert_eq!((odd.len(), odd[0].name.as_str()), (1, "b.qkv.weight"));
    }
}
