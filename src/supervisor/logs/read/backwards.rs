//! The lines of a process's files, newest first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{BLOCK_BYTES, MAX_LINE_BYTES};

/// Goes backwards, line by line. Holds one block of a file, or one line if that is longer.
#[derive(Debug)]
pub(super) struct Backwards<'a> {
    /// Newest first, each with the length that counts.
    files: &'a [(File, u64)],
    /// Which of them is read.
    file: usize,
    /// Where the line begins that was given last; everything before is still to come. `None` before the file's first.
    begin: Option<u64>,
    /// A part of the file.
    block: Vec<u8>,
    /// Where that part begins.
    block_begin: u64,
}

impl<'a> Backwards<'a> {
    pub(super) fn new(files: &'a [(File, u64)]) -> Self {
        Self { files, file: 0, begin: None, block: Vec::new(), block_begin: 0 }
    }

    /// Which file the line given last is in, and where it begins.
    pub(super) fn position(&self) -> (usize, u64) {
        (self.file, self.begin.unwrap_or(0))
    }

    /// The line before, without its end.
    pub(super) fn previous(&mut self) -> io::Result<Option<&[u8]>> {
        while let Some((_, length)) = self.files.get(self.file) {
            let end = match self.begin {
                Some(begin) => begin,
                // What stands behind the last line end is being written right now.
                None => self.line_begin(*length)?,
            };
            if end == 0 {
                self.file += 1;
                self.begin = None;
                self.block.clear();
                continue;
            }
            let begin = self.line_begin(end - 1)?;
            self.begin = Some(begin);
            let line = self.block.get(self.in_block(begin)..self.in_block(end - 1));
            return Ok(Some(line.unwrap_or_default()));
        }
        Ok(None)
    }

    /// Behind the last line end before `end`; the block holds everything between the two afterwards.
    fn line_begin(&mut self, end: u64) -> io::Result<u64> {
        if end == 0 {
            self.block.clear();
            self.block_begin = 0;
            return Ok(0);
        }
        // Twice as much each time: a long line is not read over and over.
        let mut size = BLOCK_BYTES;
        loop {
            let held = self.block_begin..=self.block_begin + self.block.len() as u64;
            if held.contains(&end) && !self.block.is_empty() {
                let before = &self.block[..self.in_block(end)];
                if let Some(line_end) = before.iter().rposition(|byte| *byte == b'\n') {
                    return Ok(self.block_begin + line_end as u64 + 1);
                }
                if self.block_begin == 0 || before.len() >= MAX_LINE_BYTES {
                    return Ok(self.block_begin);
                }
            }
            self.load(end, size)?;
            size *= 2;
        }
    }

    /// Reads the `size` bytes before `end`.
    fn load(&mut self, end: u64, size: usize) -> io::Result<()> {
        let (file, _) = &self.files[self.file];
        self.block_begin = end.saturating_sub(size as u64);
        self.block.resize((end - self.block_begin) as usize, 0);
        file.read_exact_at(&mut self.block, self.block_begin)
    }

    fn in_block(&self, offset: u64) -> usize {
        (offset - self.block_begin) as usize
    }
}
