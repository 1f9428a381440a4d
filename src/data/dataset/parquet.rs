//! Parquet files.

use super::rows::{Label, Rows, utf8};
use crate::error::{Error, Result};
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::{fmt, panic};

impl Rows<'_> {
    /// Flat columns: the text in UTF-8, the label as an integer (Hugging Face's `ClassLabel`) or a
    /// name.
    pub(super) fn read_parquet(&mut self, bytes: Vec<u8>) -> Result<()> {
        // The parquet crate asserts some of what a file claims about itself; a broken file must
        // still end in a message.
        let read = panic::catch_unwind(panic::AssertUnwindSafe(|| self.push_parquet(bytes.into())));
        read.unwrap_or_else(|_| Err(broken_parquet(&"it contradicts itself")))
    }

    fn push_parquet(&mut self, bytes: Bytes) -> Result<()> {
        let reader = SerializedFileReader::new(bytes).map_err(|why| broken_parquet(&why))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let columns = self.columns(&names)?;
        let mut row = 0;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(|why| broken_parquet(&why))?;
            let column = |at: usize| {
                let packed = group.metadata().column(at).compression();
                if matches!(packed, Compression::BROTLI(_) | Compression::LZO) {
                    return Err(Error::input(format!(
                        "the column {} is packed with {packed}",
                        names[at]
                    ))
                    .remedy(
                        "Write it with zstd, snappy, gzip, lz4 or no compression, or as TSV.",
                    ));
                }
                let reader = group.get_column_reader(at).map_err(|why| broken_parquet(&why))?;
                values(reader, schema.column(at).max_def_level())
                    .map_err(|error| error.at(format!("column {}", names[at])))
            };
            let texts = column(columns.text)?;
            let labels = columns.label.map(column).transpose()?;
            if labels.as_ref().is_some_and(|labels| labels.len() != texts.len()) {
                return Err(broken_parquet(&"its columns differ in length"));
            }
            for (at, text) in texts.iter().enumerate() {
                row += 1;
                let label = labels.as_ref().map_or(&Cell::Null, |labels| &labels[at]);
                self.push_cells(text, label).map_err(|error| error.at(format!("row {row}")))?;
            }
        }
        Ok(())
    }

    fn push_cells(&mut self, text: &Cell, label: &Cell) -> Result<()> {
        let text = match text {
            Cell::Bytes(text) => utf8(text.data())?,
            Cell::Integer(number) => {
                return Err(Error::input(format!("the text is the number {number}"))
                    .remedy("Write the column again as a string."));
            }
            Cell::Null => {
                return Err(Error::input("the text is null").remedy("Leave rows without text out."));
            }
        };
        match label {
            Cell::Null => self.push(text, Label::Missing),
            Cell::Integer(index) => self.push(text, Label::Index(*index)),
            Cell::Bytes(name) => self.push(text, Label::Text(utf8(name.data())?)),
        }
    }
}

/// A value of a Parquet column.
enum Cell {
    Null,
    Integer(i64),
    Bytes(ByteArray),
}

/// All the values of a column in a row group; `present` is the definition level of a value.
fn values(reader: ColumnReader, present: i16) -> Result<Vec<Cell>> {
    match reader {
        ColumnReader::Int32ColumnReader(reader) => {
            cells(reader, present, |value| Cell::Integer(value.into()))
        }
        ColumnReader::Int64ColumnReader(reader) => cells(reader, present, Cell::Integer),
        ColumnReader::ByteArrayColumnReader(reader) => cells(reader, present, Cell::Bytes),
        _ => Err(Error::input("neither a string nor an integer")
            .remedy("Write the column again with one of the two types.")),
    }
}

fn cells<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    present: i16,
    cell: impl Fn(T::T) -> Cell,
) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    loop {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (records, _, _) = reader
            .read_records(4096, Some(&mut levels), None, &mut values)
            .map_err(|why| broken_parquet(&why))?;
        if records == 0 {
            return Ok(cells);
        }
        // A required column (definition level 0) stores no levels: every value is there.
        levels.resize(records, present);
        let mut values = values.into_iter();
        cells.extend(levels.into_iter().map(|level| {
            let value = if level == present { values.next() } else { None };
            value.map_or(Cell::Null, &cell)
        }));
    }
}

fn broken_parquet(why: &dyn fmt::Display) -> Error {
    Error::input(format!("not a Parquet file that can be read: {why}"))
        .remedy("It may not have been downloaded or written to the end; get it again.")
}
