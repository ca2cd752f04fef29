//! The lab's folder: what is where, and whose turn it is.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::processes::ProcessId;
use crate::trouble::Because;
use crate::trouble::Trouble;

/// One lab's folder.
#[derive(Clone)]
pub struct Folder {
    root: PathBuf,
}

/// Who keeps the lab running, and what it was asked to run.
#[derive(Serialize, Deserialize)]
pub struct Keeper {
    pub id: ProcessId,
    pub recipe: String,
}

/// A process the keeper started, by name.
#[derive(Serialize, Deserialize)]
pub struct Started {
    pub name: String,
    pub id: ProcessId,
}

impl Folder {
    /// Makes the folder when it is not there.
    pub fn open(root: &Path) -> Result<Self, Trouble> {
        fs::create_dir_all(root.join("logs")).because(root.display())?;
        let root = root.canonicalize().because(root.display())?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Held while somebody starts or stops the lab.
    pub fn turn(&self) -> Result<File, Trouble> {
        let file = self.lock_file("turn.lock")?;
        file.lock().because("wait for another start or stop")?;
        Ok(file)
    }

    /// Held by the keeper as long as it lives; `None` while there is one.
    pub fn keeper_lock(&self) -> Result<Option<File>, Trouble> {
        let file = self.lock_file("keeper.lock")?;
        Ok(file.try_lock().is_ok().then_some(file))
    }

    /// Held, shared, by everybody who uses the lab.
    pub fn in_use_lock(&self) -> Result<File, Trouble> {
        self.lock_file("in-use.lock")
    }

    fn lock_file(&self, name: &str) -> Result<File, Trouble> {
        let path = self.path(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .because(path.display())
    }

    /// Writes all or nothing, readable by root alone: there are passwords in it.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Trouble> {
        let mut text = serde_json::to_string_pretty(value).because(name)?;
        text.push('\n');
        let path = self.path(name);
        let draft = self.path(&format!(".{name}.draft"));
        fs::write(&draft, text).because(draft.display())?;
        fs::rename(&draft, &path).because(path.display())
    }

    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read(self.path(name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub fn forget(&self, names: &[&str]) {
        for name in names {
            let _may_be_gone = fs::remove_file(self.path(name));
        }
    }
}
