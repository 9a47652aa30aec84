//! From weights as numbers to the packed layout, and back one by one.

use super::{Bits, PANEL, ScaleFormat, Weights};

/// Packed weights in memory of their own; a converter writes the two arrays to a file.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    /// Bits of a weight.
    pub bits: Bits,
    /// Outputs.
    pub n: usize,
    /// Inputs, filled up to whole groups.
    pub k: usize,
    /// Inputs that share a scale.
    pub group: usize,
    /// See [`Weights`].
    pub values: Vec<u8>,
    /// See [`Weights`].
    pub scales: Vec<u16>,
    /// See [`Weights`].
    pub scale_format: ScaleFormat,
}

impl PackedWeights {
    /// The same, borrowed.
    pub fn view(&self) -> Weights<'_> {
        Weights {
            bits: self.bits,
            n: self.n,
            k: self.k,
            group: self.group,
            values: &self.values,
            scales: &self.scales,
            scale_format: self.scale_format,
        }
    }
}

/// Packs whole numbers `[n, k]` and their bf16 scales `[n, groups]`; inputs are filled up with zeros to whole groups.
///
/// # Panics
/// When sizes contradict each other, a number has too many bits, or `group` is no multiple of 8.
pub fn pack(
    bits: Bits,
    n: usize,
    k: usize,
    group: usize,
    values: &[i8],
    scales: &[u16],
) -> PackedWeights {
    assert!(
        group > 0 && group.is_multiple_of(8),
        "groups of {group} inputs"
    );
    let groups = k.div_ceil(group);
    assert!(
        values.len() == n * k && scales.len() == n * groups,
        "{} numbers and {} scales for {n} x {k} in groups of {group}",
        values.len(),
        scales.len()
    );
    if bits == Bits::Four {
        assert!(
            values.iter().all(|v| (-8..8).contains(v)),
            "a number of more than four bits"
        );
    }
    let mut packed = PackedWeights {
        bits,
        n,
        k: groups * group,
        group,
        values: Vec::new(),
        scales: vec![0; n.div_ceil(PANEL) * groups * PANEL],
        scale_format: ScaleFormat::Bf16,
    };
    let filler = match bits {
        Bits::Four => 0x88,
        Bits::Eight => 128,
    };
    packed.values = vec![filler; packed.view().panels() * packed.view().panel_bytes()];
    for output in 0..n {
        for input in 0..k {
            put(&mut packed, output, input, values[output * k + input]);
        }
        for group in 0..groups {
            let at = (output / PANEL * groups + group) * PANEL + output % PANEL;
            packed.scales[at] = scales[output * groups + group];
        }
    }
    packed
}

/// Where a weight lies: its byte, and whether in the upper half.
fn place(weights: &Weights, output: usize, input: usize) -> (usize, bool) {
    let panel = output / PANEL * weights.panel_bytes();
    let lane = output % PANEL * 4 + input % 4;
    match weights.bits {
        Bits::Four => (panel + input / 8 * 64 + lane, input % 8 >= 4),
        Bits::Eight => (panel + input / 4 * 64 + lane, false),
    }
}

fn put(packed: &mut PackedWeights, output: usize, input: usize, value: i8) {
    let (byte, upper) = place(&packed.view(), output, input);
    let byte = &mut packed.values[byte];
    *byte = match (packed.bits, upper) {
        (Bits::Eight, _) => (i16::from(value) + 128) as u8,
        (Bits::Four, false) => *byte & 0xf0 | (value + 8) as u8,
        (Bits::Four, true) => *byte & 0x0f | ((value + 8) as u8) << 4,
    };
}

impl Weights<'_> {
    /// One weight as the number that it stands for.
    pub fn number_at(&self, output: usize, input: usize) -> f32 {
        self.whole_at(output, input) as f32 * self.scale_at(output, input)
    }

    /// One weight as a whole number.
    pub fn whole_at(&self, output: usize, input: usize) -> i32 {
        let (byte, upper) = place(self, output, input);
        let byte = i32::from(self.values[byte]);
        match (self.bits, upper) {
            (Bits::Eight, _) => byte - 128,
            (Bits::Four, false) => (byte & 15) - 8,
            (Bits::Four, true) => (byte >> 4) - 8,
        }
    }

    /// The scale of one weight.
    pub fn scale_at(&self, output: usize, input: usize) -> f32 {
        let groups = self.k / self.group;
        let at = (output / PANEL * groups + input / self.group) * PANEL + output % PANEL;
        self.scale_format.number(self.scales[at])
    }
}
