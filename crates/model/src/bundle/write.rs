//! Writing a bundle section by section. The header is as long before the data as after it, so it is written last, in its place.

use super::header::{
    ALIGNMENT, Checksum, FileLabel, Header, PRELUDE_BYTES, Section, Storage, TensorLabel, VERSION,
    align, prelude,
};
use super::xxh64::Xxh64;
use crate::TensorSpec;
use std::io::{Result, Seek, SeekFrom, Write};

/// Where everything will stand.
pub(crate) struct Layout {
    header: Header,
    data: u64,
    file_bytes: u64,
}

impl Layout {
    /// Files and their lengths, tensors and how they are stored, in the order in which they will come. An error says which
    /// tensor cannot be stored so.
    pub fn new(
        recipe: &str,
        files: &[(String, u64)],
        tensors: &[(TensorSpec, Storage)],
    ) -> std::result::Result<Layout, String> {
        let past = || "a file past all bounds".to_string();
        let mut end = 0u64;
        let mut next = |length: u64| -> std::result::Result<u64, String> {
            let offset = end;
            end = (offset.checked_add(length).and_then(align)).ok_or_else(past)?;
            Ok(offset)
        };
        let mut header = Header {
            recipe: recipe.into(),
            files: Vec::new(),
            tensors: Vec::new(),
        };
        for (name, length) in files {
            header.files.push(Section {
                offset: next(*length)?,
                length: *length,
                label: FileLabel { name: name.clone() },
                checksum: Checksum::default(),
            });
        }
        for (tensor, storage) in tensors {
            let lengths = storage.lengths(&tensor.shape);
            let lengths = lengths.map_err(|problem| format!("{}: {problem}", tensor.name))?;
            let length = lengths.values + lengths.scales;
            header.tensors.push(Section {
                offset: next(length)?,
                length,
                label: TensorLabel {
                    name: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    storage: *storage,
                },
                checksum: Checksum::default(),
            });
        }
        let mut layout = Layout {
            header,
            data: 0,
            file_bytes: 0,
        };
        layout.data = align((PRELUDE_BYTES + layout.text().len()) as u64).ok_or_else(past)?;
        layout.file_bytes = layout.data.checked_add(end).ok_or_else(past)?;
        Ok(layout)
    }

    fn text(&self) -> Vec<u8> {
        serde_json::to_vec(&self.header).expect("a header is plain data")
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    fn sections(&self) -> usize {
        self.header.files.len() + self.header.tensors.len()
    }

    /// Length and checksum of the section that comes at this place.
    fn section(&mut self, at: usize) -> (u64, &mut Checksum) {
        match at.checked_sub(self.header.files.len()) {
            None => {
                let section = &mut self.header.files[at];
                (section.length, &mut section.checksum)
            }
            Some(at) => {
                let section = &mut self.header.tensors[at];
                (section.length, &mut section.checksum)
            }
        }
    }
}

/// Writes the sections of a layout in their order.
pub(crate) struct Writer<W: Write + Seek> {
    out: W,
    layout: Layout,
    /// The section that is being written.
    at: usize,
    written: u64,
    hash: Xxh64,
}

impl<W: Write + Seek> Writer<W> {
    /// `out` is at its beginning.
    pub fn new(mut out: W, layout: Layout) -> Result<Self> {
        out.write_all(&vec![0; layout.data as usize])?;
        Ok(Writer {
            out,
            layout,
            at: 0,
            written: 0,
            hash: Xxh64::new(),
        })
    }

    /// More bytes of the section in hand.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.add(bytes);
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// More 16-bit numbers of the section in hand.
    pub fn write_u16(&mut self, numbers: &[u16]) -> Result<()> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        self.write(&bytes)
    }

    /// The section in hand is whole.
    ///
    /// # Panics
    /// When its length is not the layout's.
    pub fn end_section(&mut self) -> Result<()> {
        let hash = std::mem::replace(&mut self.hash, Xxh64::new());
        let (length, checksum) = self.layout.section(self.at);
        assert_eq!(self.written, length, "bytes of section {}", self.at);
        *checksum = Checksum(hash.finish());
        let filling = length.next_multiple_of(ALIGNMENT) - length;
        self.out.write_all(&vec![0; filling as usize])?;
        (self.at, self.written) = (self.at + 1, 0);
        Ok(())
    }

    /// All sections are whole; gives back the file.
    pub fn finish(mut self) -> Result<W> {
        assert_eq!(self.at, self.layout.sections(), "sections written");
        let text = self.layout.text();
        self.out.seek(SeekFrom::Start(0))?;
        self.out
            .write_all(&prelude(VERSION, &text, self.layout.file_bytes))?;
        self.out.write_all(&text)?;
        self.out.flush()?;
        Ok(self.out)
    }
}
