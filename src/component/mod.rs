//! How a component (a loss, an encoder, an optimizer ...) describes itself, once: name, documentation, parameters,
//! defaults and their ranges. Python classes, argument errors, stubs and tables are derived from this.

mod argument;
mod elsewhere;
mod names;

pub use argument::{Argument, Sizes, one_of, said};
pub use names::{list, meant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::{bail, value_error};

/// One parameter of a component.
#[derive(Debug, Clone, Serialize)]
pub struct Parameter {
    /// Its name, as users type it.
    pub name: &'static str,
    /// What it should be, in words.
    pub words: String,
    /// Its type in Python.
    pub python: String,
    /// Its default; `null` for none.
    pub default: Value,
    /// Its documentation.
    pub doc: String,
}

/// What a component says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    /// The family: the name of the folder.
    pub family: String,
    /// What the user types: the name of the file.
    pub name: String,
    /// The Python class.
    pub class: &'static str,
    /// Paper, formula, defaults.
    pub doc: String,
    /// The parameters in order.
    pub parameters: Vec<Parameter>,
}

/// A configuration that [`component!`](crate::component!) declared.
pub trait Component: Serialize + DeserializeOwned + Default {
    /// The Python class.
    const CLASS: &'static str;
    /// The Rust path of the file that declares it: `polytask::loss::cross_entropy`.
    const MODULE: &'static str;
    /// Its documentation.
    fn doc() -> String;
    /// Its parameters.
    fn parameters() -> Vec<Parameter>;
    /// Refuses values outside the declared ranges, or that do not go together.
    fn check_ranges(&self) -> Result<()>;

    /// What the user types: the file's name, without the `r#` of a Rust keyword.
    fn name() -> &'static str {
        let file = Self::MODULE.rsplit("::").next().expect("a path has a last part");
        file.strip_prefix("r#").unwrap_or(file)
    }

    /// The family this component belongs to.
    fn family() -> &'static str {
        Self::MODULE.split("::").nth(1).expect("a component lives in a family's folder")
    }

    /// All of the above.
    fn info() -> Info {
        Info {
            family: Self::family().into(),
            name: Self::name().into(),
            class: Self::CLASS,
            doc: Self::doc(),
            parameters: Self::parameters(),
        }
    }

    /// The description `{"name": ..., parameter: value, ...}` that [`read`] understands.
    fn describe(&self) -> Value {
        let mut map = Map::from_iter([("name".to_owned(), Value::from(Self::name()))]);
        if let Ok(Value::Object(own)) = serde_json::to_value(self) {
            map.extend(own);
        }
        Value::Object(map)
    }
}

/// What a trait object of a family can say of itself; every [`Component`] can.
pub trait Described {
    /// The description `{"name": ..., parameter: value, ...}` that the family's `build` understands.
    fn describe(&self) -> Value;
}

impl<C: Component> Described for C {
    fn describe(&self) -> Value {
        Component::describe(self)
    }
}

/// Reads a component from its parameters, naming the one that is wrong.
pub fn read<C: Component>(parameters: &Map<String, Value>) -> Result<C> {
    let known = C::parameters();
    for key in parameters.keys() {
        if !known.iter().any(|p| p.name == key) {
            let names: Vec<_> = known.iter().map(|p| p.name).collect();
            bail!("{}: unknown argument `{key}`; {}it has {}", C::CLASS, meant(key, &names), list(&names));
        }
    }
    for parameter in &known {
        let Some(value) = parameters.get(parameter.name) else { continue };
        let alone = Map::from_iter([(parameter.name.to_owned(), value.clone())]);
        serde_json::from_value::<C>(Value::Object(alone)).map_err(|error| {
            let why = match error.to_string() {
                // The words before it say more than serde's names of types and list of variants.
                why if why.starts_with("invalid ") || why.contains("untagged enum") => String::new(),
                why => format!(" ({why})"),
            };
            let Parameter { name, words, .. } = parameter;
            value_error!("{}: argument `{name}` should be {words}; got {value}{why}", C::CLASS)
        })?;
    }
    let component: C = serde_json::from_value(Value::Object(parameters.clone()))
        .map_err(|error| value_error!("{}: {error}", C::CLASS))?;
    component.check_ranges()?;
    Ok(component)
}

/// Splits `{"name": ..., ...}` (or a bare string) into name and parameters.
pub fn split(family: &str, description: &Value) -> Result<(String, Map<String, Value>)> {
    match description {
        Value::String(name) => Ok((name.clone(), Map::new())),
        Value::Object(map) => {
            let mut parameters = map.clone();
            match parameters.remove("name") {
                Some(Value::String(name)) => Ok((name, parameters)),
                _ => bail!("{family}: a component is described by its `name` and parameters; got {description}"),
            }
        }
        other => bail!("{family}: expected a component or its name; got {other}"),
    }
}

/// Declares a component: a struct with defaults, ranges and documentation that the registry can read.
///
/// ```
/// mod shape {
///     polytask::component! {
///         /// A square.
///         pub struct Square = "Square" {
///             /// Length of a side.
///             side: f64 = 1.0, in 0.0..;
///         }
///     }
/// }
/// ```
///
/// After the parameters, `check: function;` names a function that refuses arguments that do not go together, and
/// `state: Type;` adds a field `state` that is no parameter: what the component has learned.
#[macro_export]
macro_rules! component {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident = $class:literal {
            $( $(#[doc = $field_doc:literal])* $field:ident : $kind:ty = $default:expr $(, in $range:expr)? ; )*
        }
        $(check: $check:path ;)?
        $(state: $state:ty ;)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: $kind, )*
            $(
                /// What it has learned so far; no parameter.
                #[serde(skip)]
                pub state: $state,
            )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $( state: <$state>::default(), )? }
            }
        }

        impl $crate::component::Component for $name {
            const CLASS: &'static str = $class;
            const MODULE: &'static str = module_path!();

            fn doc() -> String {
                [$($doc),*].map(str::trim).join("\n").trim().to_owned()
            }

            fn parameters() -> Vec<$crate::component::Parameter> {
                #[allow(unused_variables)]
                let defaults = Self::default();
                vec![$( $crate::component::Parameter {
                    name: stringify!($field),
                    words: <$kind as $crate::component::Argument>::words(),
                    python: <$kind as $crate::component::Argument>::python(),
                    default: serde_json::to_value(&defaults.$field).unwrap_or_default(),
                    doc: [$($field_doc),*].map(str::trim).join(" ").to_owned(),
                }, )*]
            }

            fn check_ranges(&self) -> $crate::error::Result<()> {
                $( $(
                    if !$crate::component::Argument::within(&self.$field, &($range)) {
                        $crate::bail!(
                            "{}: argument `{}` should be {}; got {}",
                            $class, stringify!($field), $crate::component::said(&($range)),
                            serde_json::to_value(&self.$field).unwrap_or_default()
                        );
                    }
                )? )*
                $( $check(self)?; )?
                Ok(())
            }
        }
    };
}

/// Reads the component of a name from its parameters, if there is one.
pub type Read<T> = fn(&str, &Map<String, Value>) -> Option<Result<Box<T>>>;

/// The components of one folder.
#[derive(Debug)]
pub struct Members<T: ?Sized> {
    /// Their names, as users type them.
    pub names: fn() -> Vec<&'static str>,
    /// The one of a name, from its parameters.
    pub read: Read<T>,
    /// What they say of themselves.
    pub infos: fn() -> Vec<Info>,
}

/// Builds a component of a family from its description.
///
/// # Errors
/// An unknown name or argument, or a value outside its range.
pub fn build<T: ?Sized>(family: &str, folders: &[&Members<T>], description: &Value) -> Result<Box<T>> {
    let (name, parameters) = split(family, description)?;
    if let Some(read) = folders.iter().find_map(|folder| (folder.read)(&name, &parameters)) {
        return read;
    }
    let names: Vec<_> = folders.iter().flat_map(|folder| (folder.names)()).collect();
    let advice = match elsewhere::ours(&name, &names) {
        Some(ours) => format!("here it is called `{ours}`; "),
        None => meant(&name, &names),
    };
    bail!("unknown {family} {name:?}; {advice}there are {}", list(&names))
}

/// Declares the components of a folder, each a file with one line here: the modules, and their list `MEMBERS`.
#[macro_export]
macro_rules! members {
    ($trait:path: $($module:ident :: $component:ident),+ $(,)?) => {
        $(pub mod $module;)+

        /// The components of this folder.
        pub const MEMBERS: $crate::component::Members<dyn $trait> = {
            use $crate::component::Component;
            $crate::component::Members {
                names: || vec![$($module::$component::name()),+],
                read: |name, parameters| {
                    $( if name == $module::$component::name() {
                        let component = $crate::component::read::<$module::$component>(parameters);
                        return Some(component.map(|component| Box::new(component) as Box<dyn $trait>));
                    } )+
                    None
                },
                infos: || vec![$($module::$component::info()),+],
            }
        };
    };
}

/// Declares a family: its components, each a file with one line here, and `build` and `infos` over them.
///
/// `build` reads a description and hands back the component as a trait object.
#[macro_export]
macro_rules! family {
    ($trait:path, $family:literal: $($module:ident :: $component:ident),+ $(,)?) => {
        $crate::members!($trait: $($module::$component),+);

        /// Builds a component of this family from its description.
        ///
        /// # Errors
        /// An unknown name or argument, or a value outside its range.
        pub fn build(description: &serde_json::Value) -> $crate::error::Result<Box<dyn $trait>> {
            $crate::component::build($family, &[&MEMBERS], description)
        }

        /// What every component of this family says of itself.
        pub fn infos() -> Vec<$crate::component::Info> {
            (MEMBERS.infos)()
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    mod shape {
        crate::component! {
            /// A square.
            pub struct Square = "Square" {
                /// Length of a side.
                side: f64 = 1.0, in 0.0..;
                /// Its corners.
                corners: Option<usize> = Some(4);
            }
        }
    }

    fn square(value: Value) -> Result<shape::Square> {
        read(value.as_object().expect("tests pass objects"))
    }

    #[test]
    fn a_component_is_read_and_described() {
        let read = square(json!({"side": 2.5})).unwrap();
        assert_eq!(read, shape::Square { side: 2.5, corners: Some(4) });
        assert_eq!(Component::describe(&read), json!({"name": "shape", "side": 2.5, "corners": 4}));
        assert_eq!(shape::Square::doc(), "A square.");
    }

    #[test]
    fn errors_name_the_argument() {
        let message = |value| square(value).unwrap_err().to_string();
        let unknown = "Square: unknown argument `size`; did you mean `side`? it has `side`, `corners`";
        assert_eq!(message(json!({"size": 1})), unknown);
        assert_eq!(message(json!({"nonsense": 1})), "Square: unknown argument `nonsense`; it has `side`, `corners`");
        assert_eq!(message(json!({"side": -1})), "Square: argument `side` should be at least 0; got -1.0");
        let side = "Square: argument `side` should be a finite number; got \"a\"";
        assert_eq!(message(json!({"side": "a"})), side);
        let corners = "Square: argument `corners` should be a whole number of at least 0 or None; got -1";
        assert_eq!(message(json!({"corners": -1})), corners);
    }
}
