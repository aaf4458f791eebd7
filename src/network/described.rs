//! The network in words and numbers, for those who compute it elsewhere.

use serde_json::{Value, json};

use super::axis::{Axis, By, Extent, Link};
use super::node::Node;
use super::{Input, InputKind, Network, Output};
use crate::parameters::Entry;

impl Network {
    /// Everything that a forward needs to know, by the indices that values, inputs, parameters and axes have here:
    ///
    /// * `axes`: name and extent, where a grid's has its sizes, that of pairs the axis they are of, and that of an
    ///   ensemble how many members it has;
    /// * `inputs`: name, axis, the `value` that it fills or the numbers of categories of its columns of `codes`, and whether
    ///   they are labels that are `shown` to a loss;
    /// * `values`: axis, groups and width;
    /// * `nodes`: `kind`, the values it reads and the one it fills, inputs of codes, parameters, links, names of terms,
    ///   and its `attributes`, null where it has no description;
    /// * `params`: the shape of each, and its `pieces`, entries one after the other;
    /// * `entries`: name, shape, where it starts in the flat parameters or the flat state, the parameter that it is a piece
    ///   of, or none for state, and whether it is frozen;
    /// * `outputs`: of each task the value, the group and the columns.
    pub fn describe(&self) -> Value {
        let value = |value: &super::Value| json!({"axis": value.axis, "groups": value.groups, "width": value.width});
        let pieces = |param: usize| {
            let own = self.entries.iter().enumerate().filter(move |(_, entry)| entry.param == Some(param));
            own.map(|(index, _)| index).collect::<Vec<_>>()
        };
        let params = self.params.iter().enumerate();
        let shown = |index| self.shown.iter().any(|&(_, input)| input == index);
        let params: Vec<_> = params.map(|(id, param)| json!({"shape": param.shape, "pieces": pieces(id)})).collect();
        json!({
            "axes": self.axes.iter().map(axis).collect::<Vec<_>>(),
            "inputs": self.inputs.iter().enumerate().map(|(index, given)| input(given, shown(index))).collect::<Vec<_>>(),
            "values": self.values.iter().map(value).collect::<Vec<_>>(),
            "nodes": self.ops.iter().map(|op| node(op.as_ref())).collect::<Vec<_>>(),
            "params": params,
            "entries": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "outputs": self.outputs.iter().map(output).collect::<Vec<_>>(),
        })
    }
}

fn axis(axis: &Axis) -> Value {
    let extent = match axis.extent {
        Extent::Rows => json!("rows"),
        Extent::Ragged => json!("ragged"),
        Extent::Grid { height, width } => json!([height, width]),
        Extent::Pairs(of) => json!(of),
        Extent::Members(members) => json!({"members": members}),
    };
    json!({"name": axis.name, "extent": extent})
}

fn input(input: &Input, shown: bool) -> Value {
    let Input { name, axis, kind } = input;
    match kind {
        InputKind::Real(value) => json!({"name": name, "axis": axis, "shown": shown, "value": value}),
        InputKind::Codes(columns) => json!({"name": name, "axis": axis, "shown": shown, "codes": columns}),
    }
}

fn node(node: &dyn Node) -> Value {
    let link = |link: Link| {
        let by = match link.by {
            By::Row => "row",
            By::First => "first",
            By::Second => "second",
            By::Block => "block",
        };
        json!({"fine": link.fine, "coarse": link.coarse, "by": by})
    };
    json!({
        "kind": node.name(),
        "inputs": node.inputs(),
        "output": node.output(),
        "codes": node.codes(),
        "params": node.params(),
        "links": node.along().into_iter().map(link).collect::<Vec<_>>(),
        "terms": node.terms(),
        "attributes": node.attributes(),
    })
}

fn entry(entry: &Entry) -> Value {
    let Entry { name, shape, range, param, frozen } = entry;
    json!({"name": name.to_string(), "shape": shape, "start": range.start, "param": param, "frozen": frozen})
}

fn output(output: &Output) -> Value {
    json!({"value": output.value, "group": output.group, "columns": [output.columns.start, output.columns.end]})
}
