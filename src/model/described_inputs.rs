//! Inputs as descriptions have them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::input::{ArrayInput, Bag, Category, Combine, Convolution, Embed, Holds, Inputs, NOTHING, PositionInputs};
use crate::parameters::path::WITHIN;
use crate::{bail, value_error};

/// Number and kinds of features.
pub(super) fn read_inputs(description: &Value) -> Result<Inputs> {
    let whole = |key: &str, value: &Value| match value.as_u64() {
        Some(n) => Ok(n as usize),
        None => Err(value_error!("`inputs`: `{key}` should be a whole number of at least 0; got {value}")),
    };
    let numeric = match &description["numeric"] {
        Value::Null => 0,
        value => whole("numeric", value)?,
    };
    let categorical = match &description["categorical"] {
        Value::Null => Vec::new(),
        Value::Array(features) => features.iter().map(read_category).collect::<Result<_>>()?,
        other => bail!("`inputs`: `categorical` should be a list of numbers of categories; got {other}"),
    };
    let places = categorical.iter().map(|category| category.bag.map_or(1, |bag| bag.length));
    if places.fold(0, usize::saturating_add) > PLACES {
        bail!("`inputs`: rows should have at most {PLACES} codes; make the bags shorter");
    }
    let arrays = read_arrays(&description["arrays"])?;
    let positions = read_positions(&description["positions"])?;
    let embed = read_embed(&description["embed"], numeric)?;
    let mut inputs = Inputs { numeric, embed, categorical, arrays, positions };
    read_sparse(&mut inputs.categorical, &description["sparse"])?;
    let unseen = read_unseen(&description["unseen"])?;
    inputs.categorical.iter_mut().for_each(|category| category.unseen = unseen);
    Ok(inputs)
}

/// Whether code 0 of each feature stands for what was not seen; null where it does not.
fn read_unseen(description: &Value) -> Result<bool> {
    match description {
        Value::Null => Ok(false),
        Value::Bool(unseen) => Ok(*unseen),
        other => bail!("`inputs`: `unseen` should be true or false; got {other}"),
    }
}

/// How numeric features are embedded, `{"name": "piecewise" or "periodic", ...}`; null where they are not.
fn read_embed(description: &Value, numeric: usize) -> Result<Option<Embed>> {
    if description.is_null() {
        return Ok(None);
    }
    let embed = Embed::deserialize(description)
        .map_err(|error| value_error!("`inputs`: `embed`: {error}; got {description}"))?;
    let (sizes, scale) = match embed {
        Embed::Piecewise { width, bins, .. } => ([("width", width), ("bins", bins)], 1.0),
        Embed::Periodic { width, frequencies, scale, .. } => ([("width", width), ("frequencies", frequencies)], scale),
    };
    if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        bail!("`inputs`: `embed`: `{name}` should be at least 1; got 0");
    }
    if !(scale > 0.0 && scale.is_finite()) {
        bail!("`inputs`: `embed`: `scale` should be above 0; got {scale}");
    }
    if numeric == 0 {
        bail!("`inputs`: `embed` is for numeric features, of which there are none");
    }
    Ok(Some(embed))
}

/// Arrays of rows: a list of `{"name", "shape", "holds"}`.
fn read_arrays(description: &Value) -> Result<Vec<ArrayInput>> {
    let described = match description {
        Value::Null => &[][..],
        Value::Array(described) => described,
        other => bail!("`inputs`: `arrays` should be a list; got {other}"),
    };
    let mut arrays: Vec<ArrayInput> = Vec::with_capacity(described.len());
    for each in described {
        let known = |name: &str| ["numeric", "categorical"].contains(&name) || arrays.iter().any(|a| a.name == name);
        let name = each["name"].as_str().filter(|name| !name.is_empty() && !name.contains('/') && !known(name));
        let shape = Vec::<usize>::deserialize(&each["shape"]).ok().filter(|shape| !shape.contains(&0));
        let (Some(name), Some(shape)) = (name, shape) else {
            bail!(
                "`inputs`: an array needs a name of its own without `/` and a shape of sizes of at least 1; got {each}"
            );
        };
        let holds = match &each["holds"] {
            Value::Null => Holds::default(),
            holds => Holds::deserialize(holds)
                .map_err(|_| value_error!("`inputs`: array {name:?} holds numbers, whole or truths; got {holds}"))?,
        };
        arrays.push(ArrayInput { name: name.to_owned(), shape, holds });
    }
    Ok(arrays)
}

/// Features of positions: a list of `{"name", "numeric", "categorical", "embedding"}`.
fn read_positions(description: &Value) -> Result<Vec<PositionInputs>> {
    let described = match description {
        Value::Null => &[][..],
        Value::Array(described) => described,
        other => bail!("`inputs`: `positions` should be a list; got {other}"),
    };
    if described.len() > 1 {
        bail!("`inputs`: a model may have positions of one kind; got {}", described.len());
    }
    let read = |each: &Value| {
        let name = each["name"].as_str().filter(|name| !name.is_empty() && !name.contains(['/', WITHIN]));
        let Some(name) = name else {
            bail!("`inputs`: positions need a name without `/` and U+{:04X}; got {}", u32::from(WITHIN), each["name"]);
        };
        if !each["positions"].is_null() || !each["arrays"].is_null() {
            bail!("`inputs`: positions have neither positions nor arrays within them");
        }
        if !each["embed"].is_null() {
            bail!("`inputs`: numbers of positions are not embedded");
        }
        let mut dense = each.clone();
        dense["sparse"] = Value::Bool(false);
        let Inputs { numeric, categorical, .. } = read_inputs(&dense)?;
        let widths = embedding_widths(&categorical, &each["embedding"])?;
        if numeric + widths.iter().filter(|&&width| width > 0).count() == 0 {
            bail!("`inputs`: positions need at least one feature");
        }
        Ok(PositionInputs { name: name.to_owned(), numeric, categorical, widths })
    };
    described.iter().map(read).collect()
}

/// Numbers a row of described inputs as an encoder is given them: numeric features, then embeddings; of positions, if there
/// are some, and then of their row.
///
/// # Errors
/// Inputs that are none.
pub fn features(description: &Value) -> Result<usize> {
    let inputs = read_inputs(description)?;
    let of_tables = |categorical: &[Category], widths: &[usize]| {
        let read = categorical.iter().zip(widths).filter(|(_, width)| **width > 0);
        read.map(|(category, &width)| category.width(width)).fold(0, usize::saturating_add)
    };
    let own = of_tables(&inputs.categorical, &embedding_widths(&inputs.categorical, &description["embedding"])?);
    let of_positions =
        inputs.positions.iter().flat_map(|each| [of_tables(&each.categorical, &each.widths), each.numeric]);
    let of_arrays = inputs.arrays.iter().map(ArrayInput::width);
    let numbers = inputs.embed.map_or(inputs.numeric, |embed| embed.width(inputs.numeric));
    Ok(of_arrays.chain([own]).chain(of_positions).fold(numbers, usize::saturating_add))
}

/// A number of categories, or `{"categories", "length", "combine"}` for a feature of several codes.
fn read_category(value: &Value) -> Result<Category> {
    let at_least_one = |key: &str, value: &Value| match value.as_u64() {
        // The last code stands for nothing.
        Some(n) if (1..u64::from(NOTHING)).contains(&n) => Ok(n as usize),
        _ => Err(value_error!("`inputs`: `{key}` should be a whole number of 1..{NOTHING}; got {value}")),
    };
    if !value.is_object() {
        return at_least_one("categorical", value).map(Category::plain);
    }
    let combine = Combine::deserialize(&value["combine"]).map_err(|_| {
        value_error!("`inputs`: `combine` should be \"mean\", \"sum\" or a convolution; got {}", value["combine"])
    })?;
    if let Combine::Convolution(Convolution { filters, width, .. }) = combine
        && (filters == 0 || width % 2 == 0)
    {
        bail!(
            "`inputs`: a convolution should have at least one filter and an odd width; got {filters} of width {width}"
        );
    }
    let length = at_least_one("length", &value["length"])?;
    let categories = at_least_one("categories", &value["categories"])?;
    Ok(Category { bag: Some(Bag { length, combine }), ..Category::plain(categories) })
}

/// Categories from which a table is sparse by itself: a dense step over it would cost more than the rest of most models'.
const MANY: usize = 100_000;
/// Codes of the widest row.
const PLACES: usize = 1 << 20;

/// Which tables are sparse: those of many categories, all, none, or as listed.
fn read_sparse(categorical: &mut [Category], given: &Value) -> Result<()> {
    let listed = given.as_array().map(|all| all.iter().map(Value::as_bool).collect::<Option<Vec<_>>>());
    let count = categorical.len();
    for (j, category) in categorical.iter_mut().enumerate() {
        let convolved = category.convolution().is_some();
        category.sparse = match (given, &listed) {
            (Value::Null, _) => category.categories >= MANY && !convolved,
            (Value::String(auto), _) if auto == "auto" => category.categories >= MANY && !convolved,
            (Value::Bool(sparse), _) => *sparse,
            (_, Some(Some(all))) if all.len() == count => all[j],
            _ => bail!(
                "`inputs`: `sparse` should be \"auto\", true, false, or a list of true and false for {count} features; got {given}"
            ),
        };
        if category.sparse && convolved {
            bail!("`inputs`: the table of a convolution is not sparse; feature {j} should have sparse=False");
        }
    }
    Ok(())
}

/// The inputs as [`read_inputs`] reads them.
pub(super) fn describe_inputs(inputs: &Inputs, widths: &[usize]) -> Value {
    let category = |category: &Category| match category.bag {
        None => json!(category.categories),
        Some(Bag { length, combine }) => {
            json!({"categories": category.categories, "length": length, "combine": combine})
        }
    };
    let categorical: Vec<_> = inputs.categorical.iter().map(category).collect();
    let sparse: Vec<_> = inputs.categorical.iter().map(|category| category.sparse).collect();
    let mut described =
        json!({"numeric": inputs.numeric, "categorical": categorical, "embedding": widths, "sparse": sparse});
    if inputs.categorical.iter().any(|category| category.unseen) {
        described["unseen"] = json!(true);
    }
    if let Some(embed) = inputs.embed {
        described["embed"] = json!(embed);
    }
    if !inputs.arrays.is_empty() {
        let array = |array: &ArrayInput| json!({"name": array.name, "shape": array.shape, "holds": array.holds});
        described["arrays"] = inputs.arrays.iter().map(array).collect();
    }
    if !inputs.positions.is_empty() {
        described["positions"] = inputs.positions.iter().map(describe_positions).collect();
    }
    described
}

fn describe_positions(positions: &PositionInputs) -> Value {
    let PositionInputs { name, numeric, categorical, widths } = positions;
    let inputs = Inputs { numeric: *numeric, categorical: categorical.clone(), ..Inputs::default() };
    let mut described = describe_inputs(&inputs, widths);
    described["name"] = json!(name);
    described
}

/// Widths of the embeddings: as given, or `min(50, round(1.6 n^0.56))` for `n` categories (fast.ai's rule) where null. Of a
/// list 0 stands for a feature that is not read.
pub(super) fn embedding_widths(categorical: &[Category], given: &Value) -> Result<Vec<usize>> {
    let rule = |category: &Category| ((1.6 * (category.categories as f64).powf(0.56)).round() as usize).clamp(1, 50);
    let of_list = |(category, width): (&Category, &Value)| match width {
        Value::Null => Some(rule(category)),
        width => width.as_u64().map(|width| width as usize),
    };
    let widths = match given {
        Value::Null => Some(categorical.iter().map(rule).collect()),
        Value::Number(width) => {
            width.as_u64().filter(|&width| width > 0).map(|width| vec![width as usize; categorical.len()])
        }
        Value::Array(each) if each.len() == categorical.len() => categorical.iter().zip(each).map(of_list).collect(),
        _ => None,
    };
    widths.ok_or_else(|| {
        value_error!(
            "`inputs`: `embedding` should be a width of at least 1, or for each of {} features a width, null, or 0 for one \
             that is not read; got {given}",
            categorical.len()
        )
    })
}
