//! Named clusters, in a file of the user: `$XDG_CONFIG_HOME/esker/contexts.json`, else `~/.config/esker/contexts.json`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::CliError;

const FOLDER: &str = "esker";
const FILE: &str = "contexts.json";
/// The longest name.
const NAME_CHARACTERS: usize = 64;
/// The largest file that is read.
const FILE_BYTES: u64 = 1 << 20;

/// A cluster, and settings of the clients that connect to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    pub bootstrap: String,
    pub client_id: Option<String>,
    pub connect_timeout_ms: Option<u64>,
    pub request_timeout_ms: Option<u64>,
}

/// All contexts, and the current one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contexts {
    current: Option<String>,
    all: BTreeMap<String, Context>,
}

impl Contexts {
    /// The file; `None` where the environment has no home folder.
    pub fn path() -> Option<PathBuf> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
        Some(config.join(FOLDER).join(FILE))
    }

    /// Reads the file. Without a file there are no contexts.
    pub fn load() -> Result<Self, CliError> {
        match Self::path() {
            Some(path) => Self::load_from(&path),
            None => Ok(Self::default()),
        }
    }

    fn load_from(path: &Path) -> Result<Self, CliError> {
        let named = |error: std::io::Error| {
            CliError::Io(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(named(error)),
            Ok(found) if found.len() > FILE_BYTES => {
                let text = format!("{} is larger than {FILE_BYTES} bytes: it is no file of contexts", path.display());
                return Err(CliError::Refused(text));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(path).map_err(named)?;
        let invalid = |why: String| {
            let text = format!("{} cannot be read: {why}. Correct or delete it", path.display());
            CliError::Refused(text)
        };
        let value: Value = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        Self::from_json(&value).map_err(invalid)
    }

    /// Writes the file: the old one stays whole until the new one is complete.
    pub fn save(&self) -> Result<(), CliError> {
        let no_home = || CliError::Refused("neither XDG_CONFIG_HOME nor HOME names a folder for contexts".to_owned());
        let path = Self::path().ok_or_else(no_home)?;
        self.save_to(&path)
    }

    fn save_to(&self, path: &Path) -> Result<(), CliError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{}", serde_json::to_string_pretty(&self.to_json())?)?;
        file.persist(path).map_err(|failed| failed.error)?;
        Ok(())
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or("it is no JSON object")?;
        let mut contexts = Self { current: text(fields, "current")?, all: BTreeMap::new() };
        for (name, context) in fields.get("contexts").and_then(Value::as_object).into_iter().flatten() {
            let fields = context.as_object().ok_or_else(|| format!("context '{name}' is no JSON object"))?;
            let context = Context {
                bootstrap: text(fields, "bootstrap")?.ok_or_else(|| format!("context '{name}' has no bootstrap"))?,
                client_id: text(fields, "client_id")?,
                connect_timeout_ms: number(fields, "connect_timeout_ms")?,
                request_timeout_ms: number(fields, "request_timeout_ms")?,
            };
            contexts.all.insert(name.clone(), context);
        }
        Ok(contexts)
    }

    fn to_json(&self) -> Value {
        let contexts: Map<_, _> = self.all.iter().map(|(name, context)| (name.clone(), context.to_json())).collect();
        json!({"current": self.current, "contexts": contexts})
    }

    /// The contexts by name; true for the current one.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Context, bool)> {
        self.all.iter().map(|(name, context)| (name.as_str(), context, self.current.as_ref() == Some(name)))
    }

    pub fn get(&self, name: &str) -> Result<&Context, CliError> {
        self.all.get(name).ok_or_else(|| {
            let known: Vec<_> = self.all.keys().map(String::as_str).collect();
            let hint = match known.is_empty() {
                true => format!("there is none yet; `esker context set {name} --bootstrap HOST:PORT` creates it"),
                false => format!("there are {}", known.join(", ")),
            };
            CliError::Usage(format!("there is no context '{name}': {hint}"))
        })
    }

    /// The current context, if one is selected.
    pub fn current(&self) -> Result<Option<&Context>, CliError> {
        self.current.as_deref().map(|name| self.get(name)).transpose()
    }

    /// Creates or replaces one. The first one becomes the current one.
    pub fn set(&mut self, name: &str, context: Context) -> Result<(), CliError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > NAME_CHARACTERS || !name.chars().all(allowed) {
            let text = format!("'{name}' is no name: use up to {NAME_CHARACTERS} letters, digits, '.', '_' and '-'");
            return Err(CliError::Usage(text));
        }
        if self.all.is_empty() {
            self.current = Some(name.to_owned());
        }
        self.all.insert(name.to_owned(), context);
        Ok(())
    }

    /// Makes one the current context.
    pub fn select(&mut self, name: &str) -> Result<(), CliError> {
        self.get(name)?;
        self.current = Some(name.to_owned());
        Ok(())
    }

    /// Removes one. If it was the current one, there is none afterwards.
    pub fn remove(&mut self, name: &str) -> Result<(), CliError> {
        self.get(name)?;
        self.all.remove(name);
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        Ok(())
    }
}

impl Context {
    /// The fields that are set.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("bootstrap".to_owned(), self.bootstrap.clone().into());
        let optional = [
            ("client_id", self.client_id.clone().map(Value::from)),
            ("connect_timeout_ms", self.connect_timeout_ms.map(Value::from)),
            ("request_timeout_ms", self.request_timeout_ms.map(Value::from)),
        ];
        fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Value::Object(fields)
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("{name} is a text, not {other}")),
    }
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_u64().map(Some).ok_or_else(|| format!("{name} is a number of milliseconds, not {value}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join(FILE);
        assert_eq!(Contexts::load_from(&path).unwrap(), Contexts::default());
        let mut contexts = Contexts::default();
        let prod = Context {
            bootstrap: "a:1,b:2".to_owned(),
            client_id: Some("ops".to_owned()),
            connect_timeout_ms: Some(1),
            request_timeout_ms: None,
        };
        contexts.set("prod", prod.clone()).unwrap();
        contexts.set("dev", Context { bootstrap: "c:3".to_owned(), ..Context::default() }).unwrap();
        contexts.save_to(&path).unwrap();
        let read = Contexts::load_from(&path).unwrap();
        assert_eq!(read, contexts);
        assert_eq!(read.current().unwrap(), Some(&prod), "the first one is the current one");
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for text in ["", "[]", r#"{"contexts": {"a": {}}}"#, r#"{"contexts": {"a": {"bootstrap": 1}}}"#] {
            std::fs::write(&path, text).unwrap();
            let error = Contexts::load_from(&path).unwrap_err().to_string();
            assert!(error.contains(FILE), "{error}");
        }
    }

    #[test]
    fn removal_and_names() {
        let mut contexts = Contexts::default();
        for name in ["", "a b", "a/b", &"a".repeat(NAME_CHARACTERS + 1)] {
            assert!(contexts.set(name, Context::default()).is_err(), "{name}");
        }
        contexts.set("a", Context::default()).unwrap();
        contexts.remove("a").unwrap();
        assert_eq!(contexts.current().unwrap(), None);
        assert!(contexts.remove("a").is_err() && contexts.select("a").is_err());
    }
}
