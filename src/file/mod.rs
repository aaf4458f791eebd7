//! Files of tensors and texts (safetensors), written so that a reader only ever sees a complete one.

pub mod format;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::file::format::{Format, NUMBER};
use crate::value_error;

/// Key of the metadata that says what a file is.
const FORMAT: &str = "format";
/// Key of the metadata that says which number of the format it has.
const FORMAT_NUMBER: &str = "format_number";
/// Bytes of the longest header, as safetensors has it.
const HEADER: u64 = 100_000_000;
/// Links to links that are followed.
const LINKS: usize = 40;

/// Named tensors and texts of one file; tensors are borrowed where they can be, since a table may fill half the memory.
#[derive(Debug, Default)]
pub struct Contents<'a> {
    tensors: BTreeMap<String, Stored<'a>>,
    texts: BTreeMap<String, String>,
    number: u32,
}

#[derive(Debug)]
struct Stored<'a> {
    shape: Vec<usize>,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Numbers(Cow<'a, [f32]>),
    /// What only its owner can read.
    Bytes(Cow<'a, [u8]>),
}

impl Stored<'_> {
    fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::Bytes(bytes) => (&**bytes).into(),
            Values::Numbers(values) if cfg!(target_endian = "little") => {
                // SAFETY: the bytes of numbers that live as long; bytes need no alignment and may be anything.
                unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(&**values)) }.into()
            }
            Values::Numbers(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into(),
        }
    }

    fn numbers(&self) -> Option<&[f32]> {
        match &self.values {
            Values::Numbers(values) => Some(values),
            Values::Bytes(_) => None,
        }
    }

    /// Its name for the format, and bytes.
    fn kind(&self) -> (&'static str, usize) {
        match &self.values {
            Values::Numbers(values) => ("F32", size_of_val(&**values)),
            Values::Bytes(bytes) => ("U8", bytes.len()),
        }
    }
}

impl<'a> Contents<'a> {
    /// An empty file of this kind.
    pub fn new(format: &Format) -> Self {
        let mut contents = Self { number: NUMBER, ..Self::default() };
        contents.text(FORMAT, format.name.to_owned());
        contents.text(FORMAT_NUMBER, NUMBER.to_string());
        contents
    }

    /// Which number of the format it has.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, text: String) {
        self.texts.insert(name.to_owned(), text);
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: impl Into<Cow<'a, [f32]>>) {
        self.tensors.insert(name.to_owned(), Stored { shape: shape.to_vec(), values: Values::Numbers(values.into()) });
    }

    /// Adds bytes.
    pub fn bytes(&mut self, name: &str, bytes: impl Into<Cow<'a, [u8]>>) {
        let bytes = bytes.into();
        self.tensors.insert(name.to_owned(), Stored { shape: vec![bytes.len()], values: Values::Bytes(bytes) });
    }

    /// A text.
    ///
    /// # Errors
    /// It is not there.
    pub fn get_text(&self, name: &str) -> Result<&str> {
        self.find_text(name).ok_or_else(|| value_error!("the file lacks its {name}"))
    }

    /// A text, if it is there.
    pub fn find_text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// A tensor of the expected shape.
    ///
    /// # Errors
    /// It is not there, or of another shape.
    pub fn get_tensor(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        let stored = self.tensors.get(name).ok_or_else(|| value_error!("the file lacks `{name}`"))?;
        if stored.shape != shape {
            return Err(value_error!("`{name}` should have shape {shape:?}; the file has {:?}", stored.shape));
        }
        stored.numbers().ok_or_else(|| value_error!("`{name}` should hold numbers; the file has bytes"))
    }

    /// A tensor of any length, if it is there.
    pub fn find_tensor(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name)?.numbers()
    }

    /// The bytes whose names begin so, by the rest of their names.
    pub fn bytes_below(&self, prefix: &str) -> impl Iterator<Item = (&str, &[u8])> {
        self.tensors.iter().filter_map(move |(name, stored)| match &stored.values {
            Values::Bytes(bytes) => Some((name.strip_prefix(prefix)?, &**bytes)),
            Values::Numbers(_) => None,
        })
    }

    /// How many numbers the tensors have together whose names begin so.
    pub fn size(&self, prefix: &str) -> usize {
        let below = self.tensors.iter().filter(|(name, _)| name.starts_with(prefix));
        below.filter_map(|(_, stored)| stored.numbers()).map(<[f32]>::len).sum()
    }

    /// What a file with this in it has.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut header = Map::from_iter([("__metadata__".to_owned(), json!(self.texts))]);
        // Bytes last: numbers then stand where their size divides.
        let in_order = || {
            let all = || self.tensors.iter();
            let of_numbers = all().filter(|(_, stored)| stored.numbers().is_some());
            of_numbers.chain(all().filter(|(_, stored)| stored.numbers().is_none()))
        };
        let mut end = 0;
        for (name, stored) in in_order() {
            let begin = end;
            let (dtype, length) = stored.kind();
            end += length;
            header.insert(name.clone(), json!({"dtype": dtype, "shape": stored.shape, "data_offsets": [begin, end]}));
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() as u64 > HEADER {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptions and notes are too long for a file"));
        }
        to.write_all(&(header.len() as u64).to_le_bytes())?;
        to.write_all(&header)?;
        in_order().try_for_each(|(_, stored)| to.write_all(&stored.bytes()))
    }
}

/// Writes a file beside `path`, makes sure it is on the disk, and only then puts it in place; where `path` is a link, what
/// it leads to is replaced.
///
/// # Errors
/// What the operating system says; the file that was there before is then untouched.
pub fn write(path: &Path, contents: &Contents<'_>) -> Result<()> {
    let failed = |source| Error::File { path: path.display().to_string(), source };
    let path = &followed(path).map_err(failed)?;
    let there = fs::metadata(path).ok();
    if there.as_ref().is_some_and(|there| !there.is_file() && !there.is_dir()) {
        return Err(failed(irregular()));
    }
    let beside = beside(path);
    let put = || -> io::Result<()> {
        let file = File::options().write(true).create_new(true).open(&beside)?;
        if let Some(there) = there.filter(fs::Metadata::is_file) {
            file.set_permissions(there.permissions())?;
        }
        let mut buffered = BufWriter::with_capacity(1 << 20, file);
        contents.write(&mut buffered)?;
        buffered.into_inner()?.sync_all()?;
        fs::rename(&beside, path)?;
        settle(path)
    };
    put().map_err(failed).inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Reads a file of the given kind.
///
/// # Errors
/// What the operating system says; a file that is damaged, of another kind, or of a number of the format that this version
/// does not read.
pub fn read(path: &Path, format: &Format) -> Result<Contents<'static>> {
    let name = path.display().to_string();
    let failed = |source| Error::File { path: name.clone(), source };
    let there = fs::metadata(path).map_err(failed)?;
    if !there.is_file() && !there.is_dir() {
        // A pipe would wait for its other end, a device may never come to an end.
        return Err(failed(irregular()));
    }
    let mut file = File::open(path).map_err(failed)?;
    parse(&mut file, there.len(), &name, format)
}

/// Reads what [`Contents::write`] wrote, of so many bytes; `name` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &mut impl Read, length: u64, name: &str, format: &Format) -> Result<Contents<'static>> {
    let failed = |source| Error::File { path: name.to_owned(), source };
    let damaged = |what: &str| value_error!("{name}: not a complete {} file ({what})", format.name);
    let mut take = |count: u64, into: &mut Vec<u8>| -> Result<()> {
        let room = usize::try_from(count).ok().filter(|&count| into.try_reserve_exact(count).is_ok());
        if room.is_none() {
            return Err(failed(io::ErrorKind::OutOfMemory.into()));
        }
        source.by_ref().take(count).read_to_end(into).map_err(failed)?;
        Ok(())
    };
    let mut bytes = Vec::new();
    take(8, &mut bytes)?;
    let Ok(size) = <[u8; 8]>::try_from(&bytes[..]).map(u64::from_le_bytes) else {
        return Err(damaged("it ends before its header"));
    };
    if size > HEADER || size + 8 > length {
        return Err(damaged("it has no header"));
    }
    take(size, &mut bytes)?;
    // Before the rest is read, the header says whether it is one of ours, and how long.
    let header: Header = serde_json::from_slice(&bytes[8..]).map_err(|error| damaged(&error.to_string()))?;
    let number = header.number(format).map_err(|what| damaged(&what))?;
    known(number, name, format)?;
    let rest = length - size - 8;
    if header.length() != rest {
        return Err(damaged("it is longer or shorter than its header says"));
    }
    take(rest, &mut bytes)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&error.to_string()))?;
    let mut contents = Contents { texts: header.texts, number, ..Contents::default() };
    for (name, view) in file.tensors() {
        match view.dtype() {
            Dtype::F32 => {
                let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                contents.tensor(&name, view.shape(), numbers.collect::<Vec<_>>());
            }
            Dtype::U8 => contents.bytes(&name, view.data().to_vec()),
            other => return Err(damaged(&format!("`{name}` is {other:?}"))),
        }
    }
    Ok(contents)
}

/// Of a header, what decides whether to read on.
#[derive(serde::Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    texts: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: HashMap<String, Offsets>,
}

#[derive(serde::Deserialize)]
struct Offsets {
    data_offsets: [u64; 2],
}

impl Header {
    /// The number of its format; files of format 0 have none, and a 1 in their name.
    fn number(&self, format: &Format) -> Result<u32, String> {
        let kind = self.texts.get(FORMAT);
        let number = self.texts.get(FORMAT_NUMBER);
        match (kind.map(String::as_str), number) {
            (Some(kind), None) if kind.strip_suffix(" 1") == Some(format.name) => Ok(0),
            (Some(kind), Some(number)) if kind == format.name => {
                number.parse().map_err(|_| format!("its format is {number:?}"))
            }
            (Some(kind), _) => Err(format!("it says {kind:?}")),
            (None, _) => Err("it does not say what it is".to_owned()),
        }
    }

    /// Bytes of all tensors.
    fn length(&self) -> u64 {
        self.tensors.values().map(|place| place.data_offsets[1]).max().unwrap_or(0)
    }
}

/// Refuses numbers of the format that this version does not read.
fn known(number: u32, name: &str, format: &Format) -> Result<()> {
    let Format { name: kind, oldest } = format;
    if number > NUMBER {
        return Err(value_error!(
            "{name}: a {kind} file of format {number}, which a later version of polytask wrote; this one reads formats \
             {oldest} to {NUMBER}"
        ));
    }
    if number < *oldest {
        return Err(value_error!(
            "{name}: a {kind} file of format {number}, which an earlier version of polytask wrote; this one reads formats \
             {oldest} to {NUMBER}: finish its run with that version, and go on from the model that it saves"
        ));
    }
    Ok(())
}

/// Where a path leads, if it is a link; to a file that need not be there.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

fn irregular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file")
}

/// A name in the same folder that no other file has, whatever other threads and processes write.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{}.partial", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// Makes the rename itself durable, where folders can be synchronised.
fn settle(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Format = Format { name: "polytask test", oldest: 0 };

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("polytask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_written_is_read() {
        let path = folder("file").join("a.safetensors");
        let mut contents = Contents::new(&TEST);
        contents.tensor("x", &[2, 1], vec![1.5, f32::NAN]);
        contents.text("note", "ü".into());
        contents.bytes("a/é", &[1, 2, 3][..]);
        contents.bytes("a/", &[][..]);
        write(&path, &contents).unwrap();
        let got = read(&path, &TEST).unwrap();
        let x = got.get_tensor("x", &[2, 1]).unwrap();
        assert!(x[0] == 1.5 && x[1].is_nan());
        assert_eq!(got.get_text("note").unwrap(), "ü");
        assert_eq!(got.bytes_below("a/").collect::<Vec<_>>(), [("", &[][..]), ("é", &[1, 2, 3][..])]);
        assert!(got.get_tensor("a/é", &[3]).is_err() && got.find_tensor("a/é").is_none());
        assert!(got.get_tensor("x", &[1, 2]).unwrap_err().to_string().contains("should have shape [1, 2]"));
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_and_leave_nothing_behind() {
        let folder = folder("damaged");
        let path = folder.join("b.safetensors");
        let mut contents = Contents::new(&TEST);
        contents.tensor("x", &[1000], vec![0.5; 1000]);
        write(&path, &contents).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 4, 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, &TEST).unwrap_err().to_string().contains("not a complete polytask test file"));
        }
        fs::write(&path, &whole).unwrap();
        let other = Format { name: "polytask testament", oldest: 0 };
        assert!(read(&path, &other).unwrap_err().to_string().contains("it says \"polytask test\""));
        assert!(matches!(read(&folder.join("none"), &TEST), Err(Error::File { .. })));
        assert!(matches!(write(&folder.join("no/such/file"), &contents), Err(Error::File { .. })));
        assert!(matches!(write(&folder, &contents), Err(Error::File { .. })));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn numbers_of_the_format_decide_who_reads() {
        let bytes = |texts: &[(&str, &str)]| {
            let mut contents = Contents::default();
            texts.iter().for_each(|(name, text)| contents.text(name, (*text).to_owned()));
            let mut bytes = Vec::new();
            contents.write(&mut bytes).unwrap();
            bytes
        };
        let parsed = |bytes: &[u8], oldest: u32| {
            let format = Format { oldest, ..TEST };
            parse(&mut &bytes[..], bytes.len() as u64, "a", &format)
        };
        let first = bytes(&[(FORMAT, "polytask test 1")]);
        let now = bytes(&[(FORMAT, "polytask test"), (FORMAT_NUMBER, &NUMBER.to_string())]);
        let later = bytes(&[(FORMAT, "polytask test"), (FORMAT_NUMBER, &(NUMBER + 1).to_string())]);
        let words = bytes(&[(FORMAT, "polytask test"), (FORMAT_NUMBER, "one")]);
        assert_eq!(parsed(&first, 0).unwrap().number(), 0);
        assert_eq!(parsed(&now, NUMBER).unwrap().number(), NUMBER);
        assert!(
            parsed(&first, 1).unwrap_err().to_string().starts_with("a: a polytask test file of format 0, which an ear")
        );
        assert!(
            parsed(&later, 0).unwrap_err().to_string().contains(&format!("of format {}, which a later", NUMBER + 1))
        );
        assert!(parsed(&words, 0).unwrap_err().to_string().contains("its format is \"one\""));
    }

    #[test]
    fn a_file_that_is_longer_than_its_header_says_is_not_read_to_its_end() {
        let path = folder("long").join("l.safetensors");
        write(&path, &Contents::new(&TEST)).unwrap();
        // Far more than there is memory; the file system stores none of it.
        File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
        assert!(read(&path, &TEST).unwrap_err().to_string().contains("longer or shorter than its header says"));
        fs::remove_file(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_modes_stay_modes() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = folder("links");
        let [file, link, again, open] = ["file", "link", "again", "open"].map(|name| folder.join(name));
        for (to, at) in [(Path::new("file"), &link), (link.as_path(), &again)] {
            drop(fs::remove_file(at));
            symlink(to, at).unwrap();
        }
        drop(fs::remove_file(&file));
        for round in 0..2 {
            write(&again, &Contents::new(&TEST)).unwrap();
            assert!(
                fs::symlink_metadata(&link).unwrap().is_symlink() && fs::symlink_metadata(&again).unwrap().is_symlink()
            );
            assert!(fs::symlink_metadata(&file).unwrap().is_file());
            if round > 0 {
                assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
            }
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        }
        // What is new is as open as any other new file.
        write(&folder.join("new"), &Contents::new(&TEST)).unwrap();
        File::create(&open).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&folder.join("new")), mode(&open));
        assert!(matches!(read(Path::new("/dev/zero"), &TEST), Err(Error::File { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn threads_may_write_one_file() {
        let path = folder("threads").join("t.safetensors");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| write(&path, &Contents::new(&TEST)).unwrap()));
            }
        });
        read(&path, &TEST).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
