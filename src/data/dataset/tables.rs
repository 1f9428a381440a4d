//! Tables of text: TSV and CSV.

use super::rows::{Rows, lines};
use crate::error::{Error, Result};

impl Rows<'_> {
    /// TSV as GLUE has it: no quoting, a quote is text, spaces at the end of the text stay.
    pub(super) fn read_tsv(&mut self, text: &str) -> Result<()> {
        let mut lines = lines(text);
        let header: Vec<_> = lines.next().unwrap_or_default().split('\t').collect();
        let columns = self.columns(&header).map_err(|error| error.at("line 1"))?;
        for (line, content) in (2..).zip(lines) {
            let fields: Vec<_> = content.split('\t').collect();
            self.push_fields(&columns, &fields)
                .map_err(|error| error.at(format!("line {line}")))?;
        }
        Ok(())
    }

    /// CSV with standard quoting: a quoted field may hold commas, quotes and line ends.
    pub(super) fn read_csv(&mut self, text: &str) -> Result<()> {
        // The csv crate takes a quote that is never closed to run to the end of the file, and says
        // nothing. A last record that does not arrive in one piece gives it away.
        const END: &str = "end of the file";
        let marked = format!("{text}\n{END}");
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(marked.as_bytes());
        let mut record = csv::StringRecord::new();
        let mut columns = None;
        let (mut line, mut counted) = (1, 0);
        while reader
            .read_record(&mut record)
            .map_err(|why| Error::input(format!("line {line}: not CSV: {why}")))?
        {
            // The record's own line, past line ends that the reader skipped on the way to it.
            let from = record.position().map_or(0, |position| position.byte() as usize);
            let start = from + marked[from..].bytes().take_while(|b| b"\r\n".contains(b)).count();
            line += marked[counted..start].matches('\n').count();
            counted = start;

            let fields: Vec<_> = record.iter().collect();
            if reader.position().byte() as usize == marked.len() {
                if fields == [END] {
                    break;
                }
                return Err(Error::input(format!(
                    "line {line}: a quote that opens in this record is never closed"
                ))
                .remedy("Close it, or double a quote that is text; quotes need none in .tsv."));
            }
            let pushed = match &columns {
                None => self.columns(&fields).map(|found| columns = Some(found)),
                Some(columns) => self.push_fields(columns, &fields),
            };
            pushed.map_err(|error| error.at(format!("line {line}")))?;
        }
        Ok(())
    }
}
