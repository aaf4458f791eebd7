//! Borrowed rows: every element type and layout read as the numbers they are, every mistake named, nothing else touched.

use std::any::Any;
use std::sync::Arc;

use polytask::data::array::{Array, Dtype, Element};
use polytask::data::{Data, Rows};
use polytask::input::{Category, Inputs};
use polytask::label::{Counts, Labels};
use polytask::machine::random::Stream;

const NUMBERS: Labels = Labels::Numbers { columns: 1 };
const BINARY: Labels = Labels::Binary { columns: 1 };
const COUNTS: Labels = Labels::Counts { columns: 1 };

/// How an array of `[rows, columns]` lies in memory: byte offset of its first element, and strides.
struct Layout {
    name: &'static str,
    start: isize,
    strides: [isize; 2],
}

fn layouts(rows: usize, columns: usize, size: usize) -> Vec<Layout> {
    let (rows, columns, size) = (rows as isize, columns as isize, size as isize);
    let line = columns * size;
    let layout = |name, start, down, right| Layout { name, start, strides: [down, right] };
    vec![
        layout("plain", 0, line, size),
        layout("unaligned", 1, line, size),
        layout("transposed", 0, size, rows * size),
        layout("every second row", 0, 2 * line, size),
        layout("every second column", 0, 2 * line, 2 * size),
        layout("upside down", (rows - 1) * line, -line, size),
        layout("mirrored", (columns - 1) * size, line, -size),
        layout("one row repeated", 0, 0, size),
        layout("one column repeated", 0, size, 0),
        layout("one number repeated", 3, 0, 0),
    ]
}

/// Checks all that can be gathered of one element type, in every layout, against reading one element after the other.
fn check_layouts<T: Element>(dtype: Dtype, bytes: &[u8], rows: usize, columns: usize) {
    let memory: Arc<Vec<u8>> = Arc::new(bytes.to_vec());
    let order = [3_u32, 0, 3, rows as u32 - 1, 1];
    for layout in layouts(rows, columns, size_of::<T>()) {
        let [down, right] = layout.strides;
        let expected = |row: usize, column: usize| {
            let at = (layout.start + row as isize * down + column as isize * right) as usize;
            // SAFETY: every layout lies within the bytes; any bytes are a number.
            unsafe { memory[at..at + size_of::<T>()].as_ptr().cast::<T>().read_unaligned() }
        };
        let owner: Arc<dyn Any + Send + Sync> = memory.clone();
        let address = memory[layout.start as usize..].as_ptr();
        // SAFETY: as above, and the owner is the memory.
        let array = unsafe { Array::borrow(address, dtype, &[rows, columns], &layout.strides, owner) }.unwrap();
        let data = Data { rows, numeric: Some(array.clone()), weights: vec![Some(array)], ..Data::default() };
        for (kind, picked) in
            [(Rows::Index(&order), order.map(|r| r as usize).to_vec()), (Rows::Range(1..4), vec![1, 2, 3])]
        {
            let mut out = vec![-77.0; picked.len() * columns + 1];
            let end = picked.len() * columns;
            data.gather_numeric(kind.clone(), &mut out[..end]);
            let wanted: Vec<f32> = picked
                .iter()
                .flat_map(|&r| (0..columns).map(move |c| (r, c)))
                .map(|(r, c)| expected(r, c).narrow())
                .collect();
            assert_eq!(bits(&out[..end]), bits(&wanted), "{dtype:?} {} {kind:?}", layout.name);
            assert_eq!(out[end], -77.0, "wrote beyond the rows asked for");
        }
        let array = data.numeric.unwrap();
        for (row, column) in [(0, 0), (rows - 1, columns - 1), (2, 1)] {
            assert_eq!(
                array.at(row, column).to_bits(),
                expected(row, column).wide().to_bits(),
                "{dtype:?} {}",
                layout.name
            );
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_element_type_is_read_in_every_layout() {
    let (rows, columns) = (7, 3);
    let s = Stream::new(11, &[]);
    let bytes: Vec<u8> = (0..2 * rows * columns * 8 + 8).map(|i| s.bits(i as u64) as u8).collect();
    check_layouts::<u8>(Dtype::U8, &bytes, rows, columns);
    check_layouts::<u8>(Dtype::Bool, &bytes.iter().map(|b| b & 1).collect::<Vec<_>>(), rows, columns);
    check_layouts::<i8>(Dtype::I8, &bytes, rows, columns);
    check_layouts::<u16>(Dtype::U16, &bytes, rows, columns);
    check_layouts::<i16>(Dtype::I16, &bytes, rows, columns);
    check_layouts::<u32>(Dtype::U32, &bytes, rows, columns);
    check_layouts::<i32>(Dtype::I32, &bytes, rows, columns);
    check_layouts::<u64>(Dtype::U64, &bytes, rows, columns);
    check_layouts::<i64>(Dtype::I64, &bytes, rows, columns);
    // Random bits may be signalling NaN, whose bits change in a conversion: numbers instead.
    let singles: Vec<u8> = (0..200).flat_map(|i| (s.normal(i) as f32).to_ne_bytes()).collect();
    let doubles: Vec<u8> = (0..100).flat_map(|i| s.normal(i).to_ne_bytes()).collect();
    check_aligned::<f32>(Dtype::F32, &singles, rows, columns);
    check_aligned::<f64>(Dtype::F64, &doubles, rows, columns);
}

/// As [`check_layouts`], with the bytes moved so that unaligned reads meet whole numbers too.
fn check_aligned<T: Element>(dtype: Dtype, bytes: &[u8], rows: usize, columns: usize) {
    check_layouts::<T>(dtype, bytes, rows, columns);
    let moved: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
    check_layouts::<T>(dtype, &moved, rows, columns);
}

#[test]
fn classes_come_with_minus_one_where_missing_whatever_their_type() {
    let targets = [
        Array::own(vec![2_i64, -1, 0, 1], 1),
        Array::own(vec![2_i8, -1, 0, 1], 1),
        Array::own(vec![2.0_f32, f32::NAN, 0.0, 1.0], 1),
        Array::own(vec![2.0_f64, -1.0, -0.0, 1.0], 1),
    ];
    for target in targets {
        let mut data = rows_of(target);
        let mut out = [7; 4];
        data.gather_classes(0, Rows::Range(0..4), &mut out);
        assert_eq!(out, [2, -1, 0, 1]);
        data.masks = vec![Some(Array::own(vec![1_u8, 0, 0, 0], 1))];
        data.gather_classes(0, Rows::Index(&[0, 2, 3, 0]), &mut out);
        assert_eq!(out, [-1, 0, 1, -1]);
    }
}

#[test]
fn values_come_as_nan_where_missing() {
    let two = Labels::Binary { columns: 2 };
    let mut data = rows_of(Array::own(vec![0_i16, 1, -1, 1, 1, 0], 2));
    let mut out = [7.0; 6];
    data.gather_values(0, two, Rows::Index(&[1, 2, 0]), &mut out);
    assert!(out[0].is_nan());
    assert_eq!(out[1..], [1.0, 1.0, 0.0, 0.0, 1.0]);
    data.masks = vec![Some(Array::own(vec![0_u8, 1, 0, 0, 1, 0], 2))];
    data.gather_values(0, two, Rows::Range(0..3), &mut out);
    assert_eq!(out.map(|x| x.is_nan()), [false, true, true, false, true, false]);
    // Where labels are any numbers, -1 is one of them.
    let mut out = [7.0; 3];
    rows_of(Array::own(vec![-1.0_f64, f64::NAN, 3.5], 1)).gather_values(0, NUMBERS, Rows::Range(0..3), &mut out);
    assert!(out[0] == -1.0 && out[1].is_nan() && out[2] == 3.5);
}

#[test]
fn labels_are_counted_without_the_missing_ones() {
    let mut data = rows_of(Array::own(vec![0_i64, 2, 2, -1, 2], 1));
    assert_eq!(data.count(0, Labels::Classes(3)).unwrap(), Counts::Classes(vec![1.0, 0.0, 3.0]));
    data.masks = vec![Some(Array::own(vec![0_u8, 1, 0, 0, 0], 1))];
    assert_eq!(data.count(0, Labels::Classes(3)).unwrap(), Counts::Classes(vec![1.0, 0.0, 2.0]));
    let two = Labels::Binary { columns: 2 };
    let data = rows_of(Array::own(vec![0.0_f32, 1.0, f32::NAN, 1.0, 1.0, -1.0], 2));
    assert_eq!(data.count(0, two).unwrap(), Counts::Values(vec![[1.0, 1.0], [0.0, 2.0]]));
    assert!(Data::default().count(0, two).is_err());
}

#[test]
#[should_panic(expected = "rows outside of")]
fn rows_outside_of_an_array_are_never_read() {
    rows_of(Array::own(vec![1_i64, 2, 0], 1)).gather_classes(0, Rows::Index(&[0, 3]), &mut [0; 2]);
}

#[test]
#[should_panic(expected = "an array of")]
fn an_array_is_never_read_as_another_type() {
    Array::own(vec![1_i8, 2], 1).gather(Rows::Range(0..2), &mut [0.0; 2], |x: f64| x);
}

/// Data of one task and no features.
fn rows_of(target: Array) -> Data {
    Data { rows: target.rows(), targets: vec![Some(target)], ..Data::default() }
}

/// Two numeric and two categorical features of four rows, one task of numbers.
fn good() -> Data {
    Data {
        rows: 4,
        numeric: Some(Array::own(vec![0.5_f32; 8], 2)),
        categorical: Some(Array::own(vec![0_i64, 4, 2, 0, 1, 1, 0, 0], 2)),
        targets: vec![Some(Array::own(vec![0.0_f32, 1.0, f32::NAN, 0.0], 1))],
        ..Data::default()
    }
}

/// What is said of rows that were good until `spoil`, for a task of these labels.
fn said(labels: Labels, spoil: impl FnOnce(&mut Data)) -> String {
    let mut data = good();
    spoil(&mut data);
    let inputs = Inputs { numeric: 2, categorical: vec![Category::plain(3), Category::plain(5)] };
    match data.check(&inputs, &[("a".to_owned(), labels)], true) {
        Ok(doubts) => doubts.first().map_or("nothing".to_owned(), Clone::clone),
        Err(error) => error.to_string(),
    }
}

fn said_of_targets(labels: Labels, target: Array) -> String {
    said(labels, |data| data.targets = vec![Some(target)])
}

#[test]
fn wrong_features_are_named() {
    assert_eq!(said(NUMBERS, |_| ()), "nothing");
    assert_eq!(said(NUMBERS, |d| d.rows = 0), "`x` has no rows");
    assert_eq!(said(NUMBERS, |d| d.rows = 5), "`x` should have shape [5, 2]; got [4, 2]");
    assert_eq!(said(NUMBERS, |d| d.numeric = None), "`x` should have 2 numeric features; got none");
    let wide = |d: &mut Data| d.numeric = Some(Array::own(vec![0_i8; 12], 3));
    assert_eq!(said(NUMBERS, wide), "`x` should have shape [4, 2]; got [4, 3]");
    let hole = |x: f64| move |d: &mut Data| d.numeric = Some(Array::own(vec![0.0, 0.0, 0.0, x, 0.0, 0.0, 0.0, 0.0], 2));
    assert_eq!(said(NUMBERS, hole(f64::NAN)), "`x` should hold finite numbers; got NaN at row 1, column 1");
    assert_eq!(said(NUMBERS, hole(f64::INFINITY)), "`x` should hold finite numbers; got inf at row 1, column 1");
    assert!(said(NUMBERS, hole(1e39)).starts_with("`x` should hold finite numbers; got 1000000"), "beyond f32");
    assert_eq!(said(NUMBERS, hole(1e38)), "nothing");
    let called = |d: &mut Data| {
        d.names = vec!["`features`".to_owned()];
        hole(f64::NAN)(d);
    };
    assert_eq!(said(NUMBERS, called), "`features` should hold finite numbers; got NaN at row 1, column 1");
}

#[test]
fn wrong_codes_are_named() {
    let none = said(NUMBERS, |d| d.categorical = None);
    assert_eq!(none, "the categorical features should have 2 columns; got none");
    let text = |got: &str| format!("the categorical features should hold codes 0..5 in column 1; got {got} at row 2");
    let integers = |x: i64| move |d: &mut Data| d.categorical = Some(Array::own(vec![0, 4, 2, 0, 1, x, 0, 0], 2));
    assert_eq!(said(NUMBERS, integers(5)), text("5"));
    assert_eq!(said(NUMBERS, integers(-1)), text("-1"));
    assert_eq!(said(NUMBERS, integers(1 << 40)), text("1099511627776"));
    assert_eq!(said(NUMBERS, integers(4)), "nothing");
    let floats =
        |x: f64| move |d: &mut Data| d.categorical = Some(Array::own(vec![0.0, 4.0, 2.0, 0.0, 1.0, x, 0.0, 0.0], 2));
    assert_eq!(said(NUMBERS, floats(2.5)), text("2.5"));
    assert_eq!(said(NUMBERS, floats(f64::NAN)), text("NaN"));
    assert_eq!(said(NUMBERS, floats(f64::INFINITY)), text("inf"));
    assert_eq!(said(NUMBERS, floats(4294967296.0)), text("4294967296"));
    assert_eq!(said(NUMBERS, floats(-0.0)), "nothing");
    let singles = |d: &mut Data| d.categorical = Some(Array::own(vec![0.0_f32, 4.0, 2.0, 0.0, 1.0, 4.5, 0.0, 0.0], 2));
    assert_eq!(said(NUMBERS, singles), text("4.5"));
    let unsigned = |d: &mut Data| d.categorical = Some(Array::own(vec![0_u64, 4, 2, 0, 1, 9, 0, 0], 2));
    assert_eq!(said(NUMBERS, unsigned), text("9"));
}

#[test]
fn wrong_targets_are_named() {
    let called = "the targets of task `a`";
    let short = said_of_targets(NUMBERS, Array::own(vec![0.0_f32; 3], 1));
    assert_eq!(short, format!("{called} should have shape [4]; got [3]"));
    let wide = said_of_targets(NUMBERS, Array::own(vec![0.0_f32; 8], 2));
    assert_eq!(wide, format!("{called} should have shape [4, 1]; got [4, 2]"));
    let classes = |x: f64| said_of_targets(Labels::Classes(2), Array::own(vec![0.0, 1.0, f64::NAN, x], 1));
    let text = |got: &str| format!("{called} should be classes 0..2, or -1 or NaN where missing; got {got} at row 3");
    let named = "; classes count from 0 (other labels are listed as they are: classes=[1, 2])";
    assert_eq!(classes(2.0), text("2") + named);
    assert!(said_of_targets(Labels::Classes(3), Array::own(vec![1, 2, 3, 1], 1)).ends_with("classes=[1, 2, 3])"));
    assert!(said_of_targets(Labels::Classes(9), Array::own(vec![1, 2, 9, 1], 1)).ends_with("classes=[1, 2, ..., 9])"));
    assert_eq!(classes(-2.0), text("-2"));
    assert_eq!(classes(0.5), text("0.5"));
    assert_eq!(classes(f64::INFINITY), text("inf"));
    assert_eq!(classes(-1.0), "nothing");
    let numbers = |labels, x: f64| said_of_targets(labels, Array::own(vec![0.0, 1.0, f64::NAN, x], 1));
    assert_eq!(
        numbers(NUMBERS, f64::NEG_INFINITY),
        format!("{called} should be finite, or NaN where missing; got -inf at row 3")
    );
    assert_eq!(
        numbers(COUNTS, -1.0),
        format!("{called} should be finite and at least 0, or NaN where missing; got -1 at row 3")
    );
    let outside = format!("{called} should be between 0 and 1, or -1 or NaN where missing; got 1.5 at row 3");
    assert_eq!(numbers(BINARY, 1.5), outside);
    assert_eq!(numbers(BINARY, -1.0), "nothing");
    assert_eq!(numbers(NUMBERS, -1.0), "nothing");
}

#[test]
fn binary_labels_of_minus_one_and_one_are_doubtful_unless_there_is_a_zero() {
    let of = |values: [i64; 4]| said_of_targets(BINARY, Array::own(values.to_vec(), 1));
    let doubt = "the targets of task `a` hold -1 and 1 but no 0: binary labels are 0 and 1, and -1 means missing \
                 (where nothing but 1 is known, mark what is missing by NaN)";
    assert_eq!(of([-1, 1, 1, -1]), doubt);
    assert_eq!(of([-1, 1, 0, -1]), "nothing");
    assert_eq!(of([1, 1, 1, 1]), "nothing");
    assert_eq!(of([-1, 0, 0, -1]), "nothing");
    assert_eq!(of([-1, -1, -1, -1]), "no row has a label for any task; at least one is needed");
}

#[test]
fn masked_labels_may_be_anything_but_do_not_count() {
    let mask = |values: [u8; 4]| move |d: &mut Data| d.masks = vec![Some(Array::own(values.to_vec(), 1))];
    let with = |labels, target: Vec<f64>, values| {
        said(labels, |d| {
            d.targets = vec![Some(Array::own(target, 1))];
            mask(values)(d);
        })
    };
    assert_eq!(with(Labels::Classes(2), vec![99.0, -7.0, 0.5, 1.0], [1, 1, 1, 0]), "nothing");
    assert_eq!(with(NUMBERS, vec![f64::INFINITY, 0.0, 0.0, 1.0], [1, 0, 0, 0]), "nothing");
    assert_eq!(with(NUMBERS, vec![0.0; 4], [1; 4]), "no row has a label for any task; at least one is needed");
    let short = said(NUMBERS, |d| d.masks = vec![Some(Array::own(vec![0_u8; 3], 1))]);
    assert_eq!(short, "the mask of the targets of task `a` should have shape [4]; got [3]");
}

#[test]
fn wrong_row_weights_are_named() {
    let with = |weights: Vec<f64>| said(NUMBERS, |d| d.weights = vec![Some(Array::own(weights, 1))]);
    let text = |got: &str| format!("the row weights of task `a` should be finite and at least 0; got {got} at row 1");
    assert_eq!(with(vec![0.0, 1.0, 2.5, 0.0]), "nothing");
    assert_eq!(with(vec![0.0, -1.0, 2.5, 0.0]), text("-1"));
    assert_eq!(with(vec![0.0, f64::NAN, 2.5, 0.0]), text("NaN"));
    assert_eq!(with(vec![0.0, f64::INFINITY, 2.5, 0.0]), text("inf"));
    assert_eq!(with(vec![0.0; 5]), "the row weights of task `a` should have shape [4]; got [5]");
}

#[test]
fn labels_are_needed_only_for_training() {
    let data = Data { targets: vec![None], ..good() };
    let inputs = Inputs { numeric: 2, categorical: vec![Category::plain(3), Category::plain(5)] };
    let tasks = [("a".to_owned(), NUMBERS)];
    assert!(data.check(&inputs, &tasks, false).is_ok());
    assert!(data.check(&inputs, &tasks, true).unwrap_err().to_string().contains("no row has a label"));
    let two = said(NUMBERS, |d| d.targets.push(None));
    assert_eq!(two, "targets should be one a task, 1 in all; got 2");
}
