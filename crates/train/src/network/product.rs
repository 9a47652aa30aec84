//! Products of matrices in the precision of a run: f32 as numbers stand, or rounded to bf16 on the way in.

use kernels::isa::Isa;
use kernels::matmul::{Panels, View, Write, matmul};
use kernels::matmul_bf16::{Bf16Isa, PairPanels, PairView, matmul_bf16, round_across, round_along};

use super::buffers::sized;

/// How matrices are multiplied. Values, sums, gradients and everything between products are f32 with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// In f32.
    #[default]
    F32,
    /// Both sides of a product rounded to bf16: twice as fast where the processor multiplies bf16 itself.
    Bf16,
}

/// Rows inside a larger matrix: row i is `data[i * stride..][..width]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// The same rows from row `start` on.
    pub fn from(self, start: usize) -> Rows<'a> {
        Rows {
            data: &self.data[start * self.stride..],
            stride: self.stride,
        }
    }

    fn view(self) -> View<'a> {
        View::rows(self.data, self.stride)
    }
}

/// Who multiplies: the instruction set, and the bf16 instruction if that precision was chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arithmetic {
    pub isa: Isa,
    pub bf16: Option<Bf16Isa>,
}

/// The left side of a product, in place or rounded.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    F32(View<'a>),
    Bf16(Bf16Isa, PairView<'a>),
}

/// The right side of a product, packed in the precision of who packed it.
#[derive(Default)]
pub(crate) struct Right {
    f32: Panels,
    bf16: PairPanels,
}

impl Arithmetic {
    /// `count` rows of `width` numbers as the left side `[count, width]`.
    pub fn rows<'a>(
        self,
        [count, width]: [usize; 2],
        x: Rows<'a>,
        room: &'a mut Vec<u32>,
    ) -> Left<'a> {
        let Some(bf16) = self.bf16 else {
            return Left::F32(x.view());
        };
        let half = width.div_ceil(2);
        let data = sized(room, count * half);
        round_along(self.isa, count, width, x.data, x.stride, data);
        Left::Bf16(
            bf16,
            PairView {
                data,
                row_stride: half,
                pair_stride: 1,
            },
        )
    }

    /// `count` rows of `width` numbers, turned, as the left side `[width, count]`.
    pub fn columns<'a>(
        self,
        [count, width]: [usize; 2],
        x: Rows<'a>,
        room: &'a mut Vec<u32>,
    ) -> Left<'a> {
        let Some(bf16) = self.bf16 else {
            return Left::F32(x.view().transposed());
        };
        let data = sized(room, count.div_ceil(2) * width);
        round_across(self.isa, count, width, x.data, x.stride, data);
        Left::Bf16(
            bf16,
            PairView {
                data,
                row_stride: 1,
                pair_stride: width,
            },
        )
    }

    /// `count` rows of `width` numbers as the right side `[count, width]`.
    pub fn pack_rows(self, right: &mut Right, [count, width]: [usize; 2], x: Rows) {
        match self.bf16 {
            None => right.f32.pack(count, width, x.view()),
            Some(_) => right.bf16.pack_rows(self.isa, count, width, x.view()),
        }
    }

    /// `count` rows of `width` numbers, turned, as the right side `[width, count]`.
    pub fn pack_columns(self, right: &mut Right, [count, width]: [usize; 2], x: Rows) {
        match self.bf16 {
            None => right.f32.pack(width, count, x.view().transposed()),
            Some(_) => right.bf16.pack_columns(self.isa, width, count, x.view()),
        }
    }

    /// `m` rows of `left · right` into rows of `into.0` that lie `into.1` apart.
    pub fn multiply(
        self,
        m: usize,
        left: Left,
        right: &Right,
        into: (&mut [f32], usize),
        write: Write,
    ) {
        match left {
            Left::F32(view) => {
                assert!(
                    right.f32.n > 0,
                    "the right side was packed in another precision"
                );
                matmul(
                    self.isa,
                    m,
                    view,
                    &right.f32,
                    0..right.f32.panel_count(),
                    into.0,
                    into.1,
                    write,
                );
            }
            Left::Bf16(bf16, view) => {
                assert!(
                    right.bf16.n > 0,
                    "the right side was packed in another precision"
                );
                matmul_bf16(bf16, m, view, &right.bf16, into.0, into.1, write);
            }
        }
    }
}
