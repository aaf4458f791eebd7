//! A model in files: a file of its own, or a part of a checkpoint.

use std::path::Path;

use serde_json::Value;

use super::{Description, Model, Own};
use crate::component::list;
use crate::error::Result;
use crate::file::format::MODEL;
use crate::file::{self, Contents};
use crate::loss::{self, Loss};
use crate::network::builder::Limit;
use crate::parameters::Entry;
use crate::regularizer::Relation;
use crate::task::Task;
use crate::value_error;

/// Before the names of parameters and state.
const PREFIX: &str = "model/";

impl Model {
    /// Writes description and parameters, atomically.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn save(&self, path: &Path) -> Result<()> {
        file::write(path, &self.contents()?)
    }

    /// What [`Model::save`] writes, in memory.
    ///
    /// # Errors
    /// A description that is too long for a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let written = self.contents()?.write(&mut bytes);
        written.map_err(|error| value_error!("cannot serialise the model: {error}"))?;
        Ok(bytes)
    }

    fn contents(&self) -> Result<Contents<'_>> {
        let mut contents = Contents::new(&MODEL);
        contents.text("description", self.describe().to_string());
        self.store(&mut contents)?;
        Ok(contents)
    }

    /// Reads what [`Model::save`] wrote; `own` gives what is the caller's own for a description.
    ///
    /// # Errors
    /// A file that cannot be read, is not a model, or is damaged.
    pub fn open(path: &Path, own: impl FnOnce(&Value) -> Result<Own>) -> Result<Self> {
        Self::of(&file::read(path, &MODEL)?, own).map_err(|error| error.within(&path.display().to_string()))
    }

    /// Reads what [`Model::to_bytes`] wrote; otherwise as [`Model::open`].
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: &[u8], own: impl FnOnce(&Value) -> Result<Own>) -> Result<Self> {
        Self::of(&file::parse(&mut &bytes[..], bytes.len() as u64, "a model in memory", &MODEL)?, own)
    }

    fn of(contents: &Contents<'_>, own: impl FnOnce(&Value) -> Result<Own>) -> Result<Self> {
        let description = contents.get_text("description")?;
        let parsed =
            serde_json::from_str(description).map_err(|error| value_error!("damaged description ({error})"))?;
        let limit = Limit { numbers: contents.size(PREFIX), of_file: true };
        let own = own(&parsed)?;
        let mut model = Self::within(limit, Description::of(&parsed, own)?)?;
        let parameters = model.fetch(contents)?;
        model.assign(&parameters)?;
        model.relation = model.fetch_relation(contents)?;
        Ok(model)
    }

    /// Adds parameters, state and relation to a file.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn store<'a>(&'a self, contents: &mut Contents<'a>) -> Result<()> {
        for (index, entry) in self.net.entries.iter().enumerate() {
            contents.tensor(&format!("{PREFIX}{}", entry.name), &entry.shape, self.entry(index)?);
        }
        if let Some(relation) = &self.relation {
            contents.text("relation", relation.text());
        }
        Ok(())
    }

    /// The relation in a file, if there is one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn fetch_relation(&self, contents: &Contents<'_>) -> Result<Option<Relation>> {
        let relation = contents.find_text("relation").map(Relation::read).transpose()?;
        let tasks = self.tasks.iter().map(|task| &task.name);
        match relation {
            Some(relation) if !tasks.eq(&relation.tasks) => {
                Err(value_error!("the file's relation is of other tasks: {}", list(&relation.tasks)))
            }
            relation => Ok(relation),
        }
    }

    /// Reads parameters and state from a file, all of them or none.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn fetch<'a>(&self, contents: &'a Contents<'_>) -> Result<Vec<&'a [f32]>> {
        let of = |e: &Entry| contents.get_tensor(&format!("{PREFIX}{}", e.name), &e.shape);
        self.net.entries.iter().map(of).collect()
    }

    /// Takes over what [`Model::fetch`] read.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn assign(&mut self, entries: &[&[f32]]) -> Result<()> {
        entries.iter().enumerate().try_for_each(|(index, values)| self.set_entry(index, values))
    }

    /// The losses of a stored description of this model, with class weights as they were resolved; none where the caller
    /// brought one.
    ///
    /// # Errors
    /// A loss that is unknown or out of range.
    pub fn read_losses(&self, stored: &Value) -> Result<Vec<Option<Box<dyn Loss>>>> {
        let built = |(task, stored): (&Task, &Value)| match task.loss.foreign() {
            Some(_) => Ok(None),
            None => loss::build(&stored["loss"]).map(Some),
        };
        let stored = stored["tasks"].as_array().map_or(&[][..], Vec::as_slice);
        self.tasks.iter().zip(stored).map(built).collect()
    }

    /// Takes over what [`Model::read_losses`] read.
    pub fn assign_losses(&mut self, losses: Vec<Option<Box<dyn Loss>>>) {
        for (task, loss) in self.tasks.iter_mut().zip(losses) {
            if let Some(loss) = loss {
                task.loss = loss;
            }
        }
    }
}
