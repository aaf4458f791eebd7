//! How a component (a loss, an encoder, an optimizer ...) describes itself, once: name, documentation, parameters,
//! defaults and their ranges. Python classes, argument errors, stubs and tables are derived from this.

use std::ops::RangeBounds;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::{bail, value_error};

/// One parameter of a component.
#[derive(Debug, Clone, Serialize)]
pub struct Parameter {
    /// Its name, as users type it.
    pub name: &'static str,
    /// Its Rust type.
    pub kind: &'static str,
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
                // The words before it say more than serde's list of variants.
                why if why.contains("untagged enum") => String::new(),
                why => format!(" ({why})"),
            };
            let (name, words) = (parameter.name, plain(parameter.kind));
            value_error!("{}: argument `{name}` should be {words}; got {value}{why}", C::CLASS)
        })?;
    }
    let component: C = serde_json::from_value(Value::Object(parameters.clone()))
        .map_err(|error| value_error!("{}: {error}", C::CLASS))?;
    component.check_ranges()?;
    Ok(component)
}

/// A Rust type in words.
fn plain(kind: &str) -> String {
    let kind = &*kind.replace(' ', "");
    let inner = |outer: &str| kind.strip_prefix(outer)?.strip_suffix('>').map(plain);
    match kind {
        "f64" => "a finite number".into(),
        "usize" | "u64" => "a whole number of at least 0".into(),
        "bool" => "True or False".into(),
        "String" => "a string".into(),
        "[f64;2]" => "two finite numbers".into(),
        "Vec<f64>" => "a list of finite numbers".into(),
        "Vec<Vec<f64>>" => "a list of lists of finite numbers".into(),
        "ClassWeights" => "a list of numbers, one a class, or \"balanced\"".into(),
        "LabelWeights" => "a number, a list of numbers or \"balanced\"".into(),
        "TaskWeights" => "a list of numbers, one a task, or {task: number}".into(),
        "PerGroup" => "a number or {group: number}".into(),
        "Sizes" => "a whole number of at least 1 or a list of them".into(),
        "Distribution" => r#""normal", "uniform", "random_normal", "dirichlet", "bernoulli" or "one""#.into(),
        "Mode" => "\"auto\", \"min\" or \"max\"".into(),
        "At" => "\"shared\" or \"representation\"".into(),
        "Normalize" => "\"none\", \"l2\", \"loss\" or \"loss+\"".into(),
        "Scale" => "\"paper\", \"mean\" or \"sum\"".into(),
        "Per" => "\"all\" or \"layer\"".into(),
        "Precision" => "\"float32\" or \"bfloat16\"".into(),
        "ScaleMode" => "\"min\", \"median\" or \"rmse\"".into(),
        "Branches" => "a list, a layer each, of lists of lists of tasks".into(),
        "Inner" => "a weighting or its name".into(),
        _ => match inner("Option<") {
            Some(words) => format!("{words} or None"),
            None => format!("of type {kind}"),
        },
    }
}

/// Names in backticks, for error messages.
pub fn list(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "none".into(),
        _ => names.iter().map(|n| format!("`{}`", n.as_ref())).collect::<Vec<_>>().join(", "),
    }
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

/// Widths of layers: a list, or one number for one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Sizes(pub Vec<usize>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(usize),
    Many(Vec<usize>),
}

impl From<OneOrMany> for Sizes {
    fn from(sizes: OneOrMany) -> Self {
        match sizes {
            OneOrMany::One(size) => Sizes(vec![size]),
            OneOrMany::Many(sizes) => Sizes(sizes),
        }
    }
}

impl Ranged for Sizes {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.0.within(range)
    }
}

/// Something whose size a declared range can judge.
pub trait Ranged {
    /// Whether every number in it lies in the range.
    fn within(&self, range: &impl RangeBounds<f64>) -> bool;
}

impl Ranged for f64 {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.is_finite() && range.contains(self)
    }
}

impl Ranged for usize {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        range.contains(&(*self as f64))
    }
}

impl Ranged for u64 {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        range.contains(&(*self as f64))
    }
}

impl<T: Ranged> Ranged for Option<T> {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.as_ref().is_none_or(|value| value.within(range))
    }
}

impl<T: Ranged> Ranged for Vec<T> {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.iter().all(|value| value.within(range))
    }
}

impl<T: Ranged, const N: usize> Ranged for [T; N] {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.iter().all(|value| value.within(range))
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
                    kind: stringify!($kind),
                    default: serde_json::to_value(&defaults.$field).unwrap_or_default(),
                    doc: [$($field_doc),*].map(str::trim).join(" ").to_owned(),
                }, )*]
            }

            fn check_ranges(&self) -> $crate::error::Result<()> {
                $( $(
                    if !$crate::component::Ranged::within(&self.$field, &($range)) {
                        $crate::bail!(
                            "{}: argument `{}` should lie in {:?}; got {}",
                            $class, stringify!($field), $range,
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

/// `` did you mean `upgrad`?  `` for a name that none of these is but one is close to; nothing if none is, or if there is
/// no other to tell it from.
pub fn meant(name: &str, names: &[impl AsRef<str>]) -> String {
    if names.len() < 2 {
        return String::new();
    }
    let wrong: Vec<char> = name.to_lowercase().chars().take(LONGEST).collect();
    let near = |known: &str| {
        let known: Vec<char> = known.to_lowercase().chars().take(LONGEST).collect();
        let begun = wrong.len() >= 3 && known.starts_with(&wrong);
        let edits = if begun { 1 } else { edits(&wrong, &known) };
        (begun || 3 * edits <= wrong.len().max(known.len()) + 1).then_some(edits)
    };
    let close = names.iter().filter_map(|known| Some((near(known.as_ref())?, known.as_ref())));
    close.min_by_key(|(edits, _)| *edits).map_or_else(String::new, |(_, known)| format!("did you mean `{known}`? "))
}

/// Letters that `meant` looks at: no name is longer.
const LONGEST: usize = 100;

/// Letters to add, drop, change or swap with their neighbour until one word is the other.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before: [Vec<usize>; 2] = [Vec::new(), (0..=b.len()).collect()];
    for (i, &x) in a.iter().enumerate() {
        let [older, last] = &before;
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let swapped = i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y;
            let swap = if swapped { older[j - 1] + 1 } else { usize::MAX };
            row.push((last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1).min(swap));
        }
        let [_, last] = before;
        before = [last, row];
    }
    before[1][b.len()]
}

/// Declares a family: the list of its components, and `build`, `check` and `infos` over it.
///
/// `build` reads a description and hands back the component as a trait object.
#[macro_export]
macro_rules! family {
    ($trait:path, $family:literal: $($component:path),+ $(,)?) => {
        /// Builds a component of this family from its description.
        ///
        /// # Errors
        /// An unknown name or argument, or a value outside its range.
        pub fn build(description: &serde_json::Value) -> $crate::error::Result<Box<dyn $trait>> {
            use $crate::component::Component;
            let (name, parameters) = $crate::component::split($family, description)?;
            $( if name == <$component>::name() {
                return Ok(Box::new($crate::component::read::<$component>(&parameters)?));
            } )+
            let names = [$(<$component>::name()),+];
            $crate::bail!(
                "unknown {} {name:?}; {}there are {}", $family,
                $crate::component::meant(&name, &names), $crate::component::list(&names)
            )
        }

        /// What every component of this family says of itself.
        pub fn infos() -> Vec<$crate::component::Info> {
            use $crate::component::Component;
            vec![$(<$component>::info()),+]
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = ["equal", "upgrad", "cagrad", "nash_mtl", "mgda", "mae", "average_precision"];
        for (wrong, right) in [
            ("upgrda", "upgrad"),
            ("UPGrad", "upgrad"),
            ("cagard", "cagrad"),
            ("nashmtl", "nash_mtl"),
            ("Nash-MTL", "nash_mtl"),
            ("mdga", "mgda"),
            ("eqal", "equal"),
            ("aver", "average_precision"),
            ("mea", "mae"),
        ] {
            assert_eq!(meant(wrong, &names), format!("did you mean `{right}`? "), "{wrong}");
        }
        for wrong in ["", "x", "gradnorm", "nonsense", &"upgrad".repeat(1000)] {
            assert_eq!(meant(wrong, &names), "", "{wrong}");
        }
        assert_eq!(meant("b", &["a", "c"]), "");
        assert_eq!(meant("gate", &["gates"]), "");
        assert_eq!(meant("a", &[] as &[&str]), "");
        assert_eq!(edits(&['a', 'b', 'c'], &['c', 'a']), 3);
        assert_eq!(edits(&['a', 'b', 'c', 'd'], &['b', 'a', 'd']), 2);
    }

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
        assert_eq!(message(json!({"side": -1})), "Square: argument `side` should lie in 0.0..; got -1.0");
        assert!(
            message(json!({"side": "a"})).starts_with("Square: argument `side` should be a finite number; got \"a\"")
        );
        assert!(
            message(json!({"corners": -1}))
                .contains("`corners` should be a whole number of at least 0 or None; got -1")
        );
    }
}
