use std::io::Read;

use bytes::Bytes;
use logship_stage::{Error, Result};
use parquet::basic::{Compression as ParquetCompression, Encoding, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::Compression;

/// The largest page header, in bytes.
pub(crate) const HEADER_BYTES: usize = 48;

/// Converts an error of the crate `parquet`. The encoded data is valid by construction, so an error means that it
/// exceeds a limit of the format.
pub(crate) fn too_large(error: impl std::fmt::Display) -> Error {
    Error::TooLarge(format!("{error}; ship smaller objects"))
}

/// Compresses pages.
#[derive(Debug)]
pub(crate) enum Codec {
    None,
    Snappy(Box<snap::raw::Encoder>),
}

impl Codec {
    pub(crate) fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
        }
    }

    fn compress(&mut self, raw: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Self::None => Ok(raw),
            Self::Snappy(encoder) => encoder.compress_vec(&raw).map_err(too_large),
        }
    }

    fn name(&self) -> ParquetCompression {
        match self {
            Self::None => ParquetCompression::UNCOMPRESSED,
            Self::Snappy(_) => ParquetCompression::SNAPPY,
        }
    }
}

/// The pages of a column chunk, as they are written to the file.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    dictionary: Option<Bytes>,
    /// The data pages.
    pages: Vec<Bytes>,
    /// The uncompressed size of all pages with their headers, in bytes.
    uncompressed: u64,
    plain_pages: i32,
    dictionary_pages: i32,
}

impl Chunk {
    /// The uncompressed size of all pages with their headers, in bytes.
    pub(crate) fn uncompressed(&self) -> u64 {
        self.uncompressed
    }

    /// Returns the size of all pages with their headers in the file, in bytes.
    pub(crate) fn compressed(&self) -> usize {
        self.dictionary.iter().chain(&self.pages).map(Bytes::len).sum()
    }

    /// Adds a data page with definition levels and values.
    pub(crate) fn push_data(
        &mut self,
        codec: &mut Codec,
        raw: Vec<u8>,
        rows: u32,
        encoding: Encoding,
    ) -> Result<()> {
        match encoding {
            Encoding::PLAIN => self.plain_pages += 1,
            _ => self.dictionary_pages += 1,
        }
        let page = self.page(codec, raw, |buf| Page::DataPage {
            buf,
            num_values: rows,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        self.pages.push(page);
        Ok(())
    }

    /// Adds the dictionary page, which precedes the data pages in the file.
    pub(crate) fn push_dictionary(&mut self, codec: &mut Codec, raw: Vec<u8>, values: u32) -> Result<()> {
        let page = self.page(codec, raw, |buf| Page::DictionaryPage {
            buf,
            num_values: values,
            encoding: DICTIONARY,
            is_sorted: false,
        })?;
        self.dictionary = Some(page);
        Ok(())
    }

    fn page(&mut self, codec: &mut Codec, raw: Vec<u8>, page: impl FnOnce(Bytes) -> Page) -> Result<Bytes> {
        let uncompressed = raw.len();
        let compressed = codec.compress(raw)?;
        let mut out = TrackedWrite::new(Vec::with_capacity(compressed.len() + HEADER_BYTES));
        let page = CompressedPage::new(page(compressed.into()), uncompressed);
        let written = SerializedPageWriter::new(&mut out).write_page(page).map_err(too_large)?;
        self.uncompressed += written.uncompressed_size as u64;
        Ok(out.into_inner().map_err(too_large)?.into())
    }

    /// Closes the chunk. Returns it in the form for the row group writer of the crate `parquet`.
    pub(crate) fn close(
        self,
        codec: &Codec,
        column: ColumnDescPtr,
        rows: u64,
        statistics: Statistics,
    ) -> Result<(Pages, ColumnCloseResult)> {
        let dictionary_len = self.dictionary.as_ref().map(Bytes::len);
        let (bytes_written, uncompressed) = (self.compressed() as u64, self.uncompressed as i64);
        let counts = [
            (PageType::DICTIONARY_PAGE, DICTIONARY, i32::from(self.dictionary.is_some())),
            (PageType::DATA_PAGE, DICTIONARY, self.dictionary_pages),
            (PageType::DATA_PAGE, Encoding::PLAIN, self.plain_pages),
        ];
        let counts = counts.into_iter().filter(|&(_, _, count)| count > 0);
        let stats: Vec<_> = counts
            .map(|(page_type, encoding, count)| PageEncodingStats { page_type, encoding, count })
            .collect();
        // Definition levels are RLE.
        let encodings = stats.iter().map(|stats| stats.encoding).chain([Encoding::RLE]).collect();
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(codec.name())
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(bytes_written as i64)
            .set_total_uncompressed_size(uncompressed)
            .set_num_values(rows as i64)
            .set_dictionary_page_offset(dictionary_len.map(|_| 0))
            .set_data_page_offset(dictionary_len.unwrap_or(0) as i64)
            .set_statistics(statistics)
            .build()
            .map_err(too_large)?;
        let close = ColumnCloseResult {
            bytes_written,
            rows_written: rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((Pages(self.dictionary.into_iter().chain(self.pages).collect()), close))
    }
}

/// The dictionary encoding of version 1 files, for dictionary and data pages. All readers know it, including the
/// oldest.
pub(crate) const DICTIONARY: Encoding = Encoding::PLAIN_DICTIONARY;

/// Concatenated pages, readable once from the beginning.
#[derive(Debug)]
pub(crate) struct Pages(Vec<Bytes>);

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.iter().map(|page| page.len() as u64).sum()
    }
}

impl ChunkReader for Pages {
    type T = PagesReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<PagesReader> {
        match start {
            // The clones share the bytes.
            0 => Ok(PagesReader(self.0.clone().into_iter().collect())),
            _ => Err(ParquetError::NYI("pages are read from the beginning".into())),
        }
    }

    fn get_bytes(&self, _: u64, _: usize) -> parquet::errors::Result<Bytes> {
        Err(ParquetError::NYI("pages are read as a stream".into()))
    }
}

/// Reads [`Pages`].
#[derive(Debug)]
pub(crate) struct PagesReader(std::collections::VecDeque<Bytes>);

impl Read for PagesReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while let Some(page) = self.0.front_mut() {
            if page.is_empty() {
                self.0.pop_front();
                continue;
            }
            let part = page.split_to(page.len().min(out.len()));
            out[..part.len()].copy_from_slice(&part);
            return Ok(part.len());
        }
        Ok(0)
    }
}
