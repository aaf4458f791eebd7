//! Files of tensors and texts (safetensors), written so that a reader only ever sees a complete one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

use crate::error::{Error, Result};
use crate::value_error;

/// Key of the metadata that says what a file is.
const FORMAT: &str = "format";

/// Named tensors and texts of one file; tensors are borrowed where they can be, since a table may fill half the memory.
#[derive(Debug, Default)]
pub struct Contents<'a> {
    tensors: HashMap<String, Stored<'a>>,
    texts: HashMap<String, String>,
}

#[derive(Debug)]
struct Stored<'a> {
    shape: Vec<usize>,
    values: Cow<'a, [f32]>,
}

impl View for &Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match cfg!(target_endian = "little") {
            // SAFETY: the bytes of numbers that live as long; bytes need no alignment and may be anything.
            true => unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), self.data_len()) }.into(),
            false => self.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into(),
        }
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

impl<'a> Contents<'a> {
    /// An empty file that calls itself `format`.
    pub fn new(format: &str) -> Self {
        let mut contents = Self::default();
        contents.text(FORMAT, format.to_owned());
        contents
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, text: String) {
        self.texts.insert(name.to_owned(), text);
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: impl Into<Cow<'a, [f32]>>) {
        self.tensors.insert(name.to_owned(), Stored { shape: shape.to_vec(), values: values.into() });
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
        Ok(&stored.values)
    }

    /// A tensor of any length, if it is there.
    pub fn find_tensor(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name).map(|stored| &*stored.values)
    }
}

/// Writes a file beside `path`, makes sure it is on the disk, and only then puts it in place.
///
/// # Errors
/// What the operating system says; the file that was there before is then untouched.
pub fn write(path: &Path, contents: &Contents<'_>) -> Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "exists and is not a regular file");
        return Err(Error::File { path: path.display().to_string(), source });
    }
    let mut tensors: Vec<_> = contents.tensors.iter().collect();
    tensors.sort_by_key(|(name, _)| name.as_str());
    let beside = beside(path);
    let put = safetensors::serialize_to_file(tensors, Some(contents.texts.clone()), &beside);
    let put = put.map_err(|error| match error {
        SafeTensorError::IoError(source) => Error::File { path: path.display().to_string(), source },
        error => value_error!("cannot serialise the model: {error}"),
    });
    let placed = || sync(&beside).and_then(|()| fs::rename(&beside, path)).and_then(|()| settle(path));
    let written =
        put.and_then(|()| placed().map_err(|source| Error::File { path: path.display().to_string(), source }));
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Reads a file of the given format.
///
/// # Errors
/// What the operating system says; a file that is damaged or of another kind.
pub fn read(path: &Path, format: &str) -> Result<Contents<'static>> {
    let bytes = fs::read(path).map_err(|source| Error::File { path: path.display().to_string(), source })?;
    let damaged = |what: String| value_error!("{}: not a complete {format} file ({what})", path.display());
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let texts = header.metadata().clone().unwrap_or_default();
    if texts.get(FORMAT).map(String::as_str) != Some(format) {
        return Err(damaged(format!("it says {:?}", texts.get(FORMAT))));
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let mut contents = Contents { texts, ..Contents::default() };
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("`{name}` is {:?}", view.dtype())));
        }
        let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f32> = numbers.collect();
        contents.tensor(&name, view.shape(), values);
    }
    Ok(contents)
}

/// A name in the same folder that no complete file has.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

/// Makes sure that a file is on the disk.
fn sync(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.sync_all()
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

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("polytask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_written_is_read() {
        let path = folder("file").join("a.safetensors");
        let mut contents = Contents::new("test 1");
        contents.tensor("x", &[2, 1], vec![1.5, f32::NAN]);
        contents.text("note", "ü".into());
        write(&path, &contents).unwrap();
        let got = read(&path, "test 1").unwrap();
        let x = got.get_tensor("x", &[2, 1]).unwrap();
        assert!(x[0] == 1.5 && x[1].is_nan());
        assert_eq!(got.get_text("note").unwrap(), "ü");
        assert!(got.get_tensor("x", &[1, 2]).unwrap_err().to_string().contains("should have shape [1, 2]"));
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_and_leave_nothing_behind() {
        let folder = folder("damaged");
        let path = folder.join("b.safetensors");
        let mut contents = Contents::new("test 1");
        contents.tensor("x", &[1000], vec![0.5; 1000]);
        write(&path, &contents).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 4, 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, "test 1").unwrap_err().to_string().contains("not a complete test 1 file"));
        }
        fs::write(&path, &whole).unwrap();
        assert!(read(&path, "test 2").is_err());
        assert!(matches!(read(&folder.join("none"), "test 1"), Err(Error::File { .. })));
        assert!(matches!(write(&folder.join("no/such/file"), &contents), Err(Error::File { .. })));
        assert!(matches!(write(&folder, &contents), Err(Error::File { .. })));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
