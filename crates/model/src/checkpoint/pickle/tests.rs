//! A file that PyTorch wrote, whole, cut off and changed.

use super::*;

/// `torch.save` of {"a": [[0, 1, 2], [3, 4, 5]] as bf16, "b": the middle of 0..8 as f32, "c": "text"}.
const FILE: &[u8] = include_bytes!("../../../../../golden/torch/tensors.bin");

#[test]
fn tensors_are_found_where_they_lie() {
    let tensors = tensors(FILE).unwrap();
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let (_, a) = &tensors[0];
    assert_eq!(
        (a.dtype, a.shape.as_slice()),
        (Dtype::BF16, [2, 3].as_slice())
    );
    let bytes = &FILE[a.data_offsets.0..a.data_offsets.1];
    let numbers = bytes.as_chunks::<2>().0.iter();
    let numbers: Vec<f32> = numbers
        .map(|b| half::bf16::from_le_bytes(*b).to_f32())
        .collect();
    assert_eq!(numbers, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let (_, b) = &tensors[1];
    let bytes = &FILE[b.data_offsets.0..b.data_offsets.1];
    let numbers: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    assert_eq!(numbers, [2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_file_that_is_cut_off_is_an_error() {
    for length in 0..FILE.len() {
        assert!(tensors(&FILE[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_changed_byte_never_panics_and_never_points_outside() {
    for at in 0..FILE.len() {
        for change in [1, 0x80, 0xff] {
            let mut file = FILE.to_vec();
            file[at] ^= change;
            for (name, info) in tensors(&file).unwrap_or_default() {
                assert!(info.data_offsets.1 <= file.len(), "byte {at}: {name}");
            }
        }
    }
}

#[test]
fn a_function_of_another_name_is_not_called() {
    let mut machine = Machine::default();
    let program = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
    assert!(matches!(machine.run(program), Some(Value::Other)));
}
