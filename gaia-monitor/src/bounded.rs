//! Lines and files of bounded length: input without a line end must not fill the memory.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineRead {
    /// With a newline, or with the end of the input.
    Whole,
    /// The input had ended before.
    End,
    /// It is longer than the limit: its beginning was read.
    TooLong,
}

/// Appends the next line, its newline included, up to `limit` bytes.
///
/// # Errors
/// As the input; what was read before stays in `line`.
pub fn read_line(input: &mut impl BufRead, limit: usize, line: &mut Vec<u8>) -> io::Result<LineRead> {
    let length = input.take(limit as u64 + 1).read_until(b'\n', line)?;
    Ok(match length {
        0 => LineRead::End,
        length if length > limit => LineRead::TooLong,
        _ => LineRead::Whole,
    })
}

/// Skips the rest of a line that was too long; returns its length.
///
/// # Errors
/// As the input.
pub fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let part = input.fill_buf()?;
        if part.is_empty() {
            return Ok(skipped);
        }
        let end = memchr::memchr(b'\n', part);
        let length = end.map_or(part.len(), |end| end + 1);
        input.consume(length);
        skipped += length as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

/// The text of a file of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, is longer, or is not UTF-8.
pub fn read_text(path: &Path, limit: usize) -> io::Result<String> {
    let mut text = String::new();
    if File::open(path)?.take(limit as u64 + 1).read_to_string(&mut text)? > limit {
        let problem = format!("it is longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, repeat};
    use std::path::Path;

    use super::{LineRead, read_line, read_text, skip_line};

    #[test]
    fn reads_lines_up_to_the_limit() {
        let mut input = &b"abc\nabcd\nabcdefg\nab"[..];
        let mut next = || {
            let mut line = Vec::new();
            let ended = read_line(&mut input, 5, &mut line).unwrap();
            if ended == LineRead::TooLong {
                skip_line(&mut input).unwrap();
            }
            (ended, String::from_utf8(line).unwrap())
        };
        assert_eq!(next(), (LineRead::Whole, "abc\n".into()));
        assert_eq!(next(), (LineRead::Whole, "abcd\n".into()));
        assert_eq!(next(), (LineRead::TooLong, "abcdef".into()));
        assert_eq!(next(), (LineRead::Whole, "ab".into()));
        assert_eq!(next(), (LineRead::End, String::new()));
    }

    #[test]
    fn stops_at_the_limit_of_input_without_a_line_end() {
        let mut endless = BufReader::new(repeat(0));
        let mut line = Vec::new();
        assert_eq!(read_line(&mut endless, 1_000, &mut line).unwrap(), LineRead::TooLong);
        assert_eq!(line.len(), 1_001);
        let mut long = BufReader::new(repeat(0).take(1 << 20).chain(&b"\nnext"[..]));
        assert_eq!(skip_line(&mut long).unwrap(), (1 << 20) + 1);
        assert_eq!(long.fill_buf().unwrap(), b"next");
    }

    #[test]
    fn refuses_a_file_without_an_end() {
        assert!(read_text(Path::new("/dev/zero"), 1 << 16).unwrap_err().to_string().contains("longer than 65536"));
    }
}
