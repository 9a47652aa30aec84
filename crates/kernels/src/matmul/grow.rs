//! Panels that grow at one end, for keys (a column each) and values (a row each) of attention.

use super::pack::Values;
use super::{PANEL, Panels, View};

impl Panels {
    /// f32 panels of `k` rows and no columns yet, for [`Panels::append_columns`].
    pub fn of_rows(k: usize) -> Panels {
        Panels {
            k,
            ..Panels::default()
        }
    }

    /// f32 panels of `n` columns and no rows yet, for [`Panels::append_rows`].
    ///
    /// # Panics
    /// For more columns than one panel has: the next panel would have to move with every row.
    pub fn of_columns(n: usize) -> Panels {
        assert!(n <= PANEL, "{n} columns, expected at most {PANEL}");
        Panels {
            n,
            ..Panels::default()
        }
    }

    /// Adds `count` columns behind the last: a view of `k` rows.
    pub fn append_columns(&mut self, count: usize, columns: View) {
        columns.assert_holds(self.k, count);
        let (k, n) = (self.k, self.n);
        self.n += count;
        let length = self.panel_count() * k * PANEL;
        let values = self.f32_values();
        values.resize(length, 0.0);
        for column in 0..count {
            let (panel, lane) = ((n + column) / PANEL, (n + column) % PANEL);
            let from = &columns.data[column * columns.column_stride..];
            let rows = &mut values[panel * k * PANEL..][..k * PANEL];
            for (row, values) in rows.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                values[lane] = from[row * columns.row_stride];
            }
        }
    }

    /// Adds `count` rows under the last: a view of `n` columns that lie side by side.
    ///
    /// # Panics
    /// With more than one panel, or for columns that lie apart.
    pub fn append_rows(&mut self, count: usize, rows: View) {
        assert!(
            self.n <= PANEL && rows.column_stride == 1,
            "rows of {} columns, {} apart, expected at most {PANEL} side by side",
            self.n,
            rows.column_stride
        );
        rows.assert_holds(count, self.n);
        let (first, n) = (self.k * self.panel_count() * PANEL, self.n);
        self.k += count;
        let length = self.k * self.panel_count() * PANEL;
        let values = self.f32_values();
        values.resize(length, 0.0);
        let added = values[first..].as_chunks_mut::<PANEL>().0;
        for (row, to) in added.iter_mut().enumerate() {
            let from = &rows.data[row * rows.row_stride..][..n];
            match from.first_chunk::<PANEL>() {
                Some(from) => *to = *from,
                None => to[..n].copy_from_slice(from),
            }
        }
    }

    /// Forgets the columns from `n` on. Their numbers stay behind the last column until others come.
    pub fn truncate_columns(&mut self, n: usize) {
        self.n = self.n.min(n);
        let length = self.panel_count() * self.k * PANEL;
        self.f32_values().truncate(length);
    }

    /// Forgets the rows from `k` on.
    ///
    /// # Panics
    /// With more than one panel.
    pub fn truncate_rows(&mut self, k: usize) {
        assert!(self.n <= PANEL, "rows of {} columns", self.n);
        self.k = self.k.min(k);
        let length = self.panel_count() * self.k * PANEL;
        self.f32_values().truncate(length);
    }

    /// Rows of the only panel, filled up behind the last column.
    pub(crate) fn panel_rows(&self) -> &[[f32; PANEL]] {
        match &self.values {
            Values::F32(values) if self.n <= PANEL => values.as_chunks::<PANEL>().0,
            _ => panic!("{} columns, expected one panel of f32", self.n),
        }
    }

    fn f32_values(&mut self) -> &mut Vec<f32> {
        match &mut self.values {
            Values::F32(values) => values,
            Values::Bf16(_) => panic!("panels of bf16 do not grow"),
        }
    }
}
