//! How the inputs of a row fall into blocks of activations.

use std::ops::Range;

/// Spans of inputs, in each of which blocks begin anew; the last block of a span may be shorter than the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Inputs of a row, whole spans.
    pub(super) inputs: usize,
    /// Inputs of a span.
    span: usize,
    /// Inputs of a block.
    pub(super) block: usize,
    /// Blocks of a span.
    in_span: usize,
    count: usize,
}

impl Blocks {
    /// # Panics
    /// When span or block are no multiples of 8, or inputs none of the span.
    pub(super) fn new(inputs: usize, span: usize, block: usize) -> Blocks {
        assert!(
            span > 0 && span.is_multiple_of(8) && inputs.is_multiple_of(span),
            "{inputs} inputs in spans of {span}"
        );
        assert!(block > 0 && block.is_multiple_of(8), "blocks of {block}");
        let in_span = span.div_ceil(block);
        Blocks {
            inputs,
            span,
            block,
            in_span,
            count: inputs / span * in_span,
        }
    }

    /// Blocks of a row.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The inputs of a block.
    #[inline(always)]
    pub(super) fn inputs_of(&self, block: usize) -> Range<usize> {
        let span = block / self.in_span * self.span;
        let start = span + block % self.in_span * self.block;
        start..(start + self.block).min(span + self.span)
    }

    /// Whether every block lies inside one of the groups of `group` inputs.
    pub(super) fn lie_in_groups_of(&self, group: usize) -> bool {
        let whole_spans = group.is_multiple_of(self.span);
        whole_spans || self.span.is_multiple_of(self.block) && group.is_multiple_of(self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_of_each_span_is_the_shorter_one() {
        let blocks = Blocks::new(80, 40, 16);
        let found: Vec<_> = (0..blocks.len())
            .map(|block| blocks.inputs_of(block))
            .collect();
        assert_eq!(found, [0..16, 16..32, 32..40, 40..56, 56..72, 72..80]);
        assert!(blocks.lie_in_groups_of(40) && blocks.lie_in_groups_of(80));
        assert!(!blocks.lie_in_groups_of(16) && !blocks.lie_in_groups_of(60));
    }

    #[test]
    fn even_blocks_lie_in_any_group_of_whole_blocks() {
        let blocks = Blocks::new(256, 128, 32);
        assert!(blocks.lie_in_groups_of(64) && blocks.lie_in_groups_of(32));
        assert!(!blocks.lie_in_groups_of(16));
    }
}
