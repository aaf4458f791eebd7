//! Borrowed rows: every element type and layout read as the numbers they are, every mistake named, nothing else touched.

use std::any::Any;
use std::sync::Arc;

use polytask::data::array::{Array, Dtype, Element};
use polytask::data::float16::Float16;
use polytask::data::{Along, Asked, Data, Field, Offsets, Rows, check_lengths};
use polytask::input::{Category, Codes, Inputs, NOTHING, PositionInputs};
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
    check_layouts::<Float16>(Dtype::F16, &whole_halves(bytes.len() / 2), rows, columns);
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
        let mut data = labelled(target);
        let mut out = [7; 4];
        data.gather_classes(0, &asked(Labels::Classes(3)), Rows::Range(0..4), &mut out);
        assert_eq!(out, [2, -1, 0, 1]);
        data.masks = vec![Some(Array::own(vec![1_u8, 0, 0, 0], 1))];
        data.gather_classes(0, &asked(Labels::Classes(3)), Rows::Index(&[0, 2, 3, 0]), &mut out);
        assert_eq!(out, [-1, 0, 1, -1]);
    }
}

#[test]
fn values_come_as_nan_where_missing() {
    let two = Labels::Binary { columns: 2 };
    let mut data = labelled(Array::own(vec![0_i16, 1, -1, 1, 1, 0], 2));
    let mut out = [7.0; 6];
    data.gather_values(0, two, Rows::Index(&[1, 2, 0]), &mut out);
    assert!(out[0].is_nan());
    assert_eq!(out[1..], [1.0, 1.0, 0.0, 0.0, 1.0]);
    data.masks = vec![Some(Array::own(vec![0_u8, 1, 0, 0, 1, 0], 2))];
    data.gather_values(0, two, Rows::Range(0..3), &mut out);
    assert_eq!(out.map(|x| x.is_nan()), [false, true, true, false, true, false]);
    // Where labels are any numbers, -1 is one of them.
    let mut out = [7.0; 3];
    labelled(Array::own(vec![-1.0_f64, f64::NAN, 3.5], 1)).gather_values(0, NUMBERS, Rows::Range(0..3), &mut out);
    assert!(out[0] == -1.0 && out[1].is_nan() && out[2] == 3.5);
}

#[test]
fn labels_are_counted_without_the_missing_ones() {
    let mut data = labelled(Array::own(vec![0_i64, 2, 2, -1, 2], 1));
    assert_eq!(data.count(0, &asked(Labels::Classes(3))).unwrap(), Counts::Classes(vec![1.0, 0.0, 3.0]));
    data.masks = vec![Some(Array::own(vec![0_u8, 1, 0, 0, 0], 1))];
    assert_eq!(data.count(0, &asked(Labels::Classes(3))).unwrap(), Counts::Classes(vec![1.0, 0.0, 2.0]));
    let two = Labels::Binary { columns: 2 };
    let data = labelled(Array::own(vec![0.0_f32, 1.0, f32::NAN, 1.0, 1.0, -1.0], 2));
    assert_eq!(data.count(0, &asked(two)).unwrap(), Counts::Values(vec![[1.0, 1.0], [0.0, 2.0]]));
    assert!(Data::default().count(0, &asked(two)).is_err());
}

#[test]
#[should_panic(expected = "rows outside of")]
fn rows_outside_of_an_array_are_never_read() {
    labelled(Array::own(vec![1_i64, 2, 0], 1)).gather_classes(
        0,
        &asked(Labels::Classes(3)),
        Rows::Index(&[0, 3]),
        &mut [0; 2],
    );
}

#[test]
#[should_panic(expected = "an array of")]
fn an_array_is_never_read_as_another_type() {
    Array::own(vec![1_i8, 2], 1).gather(Rows::Range(0..2), &mut [0.0; 2], |x: f64| x);
}

/// Data of one task and no features.
fn labelled(target: Array) -> Data {
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

/// A task of rows.
fn asked(labels: Labels) -> Asked {
    Asked { name: "a".to_owned(), labels, per: None, pairing: None }
}

/// What is said of rows that were good until `spoil`, for a task of these labels.
fn said(labels: Labels, spoil: impl FnOnce(&mut Data)) -> String {
    let mut data = good();
    spoil(&mut data);
    let inputs = Inputs { numeric: 2, categorical: vec![Category::plain(3), Category::plain(5)], ..Inputs::default() };
    match data.check(&inputs, &[asked(labels)], true) {
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
    assert!(said(NUMBERS, hole(1e39)).starts_with("`x` should hold finite numbers; got 1e39"), "beyond f32");
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
    let text =
        |got: &str| format!("the categorical features should hold codes from 0 to 4 in column 1; got {got} at row 2");
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
    let text =
        |got: &str| format!("{called} should be classes from 0 to 1, or -1 or NaN where missing; got {got} at row 3");
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
fn numbers_of_many_digits_are_said_in_few() {
    let numbers = |x| said_of_targets(NUMBERS, Array::own(vec![0.0, x, 0.0, 0.0], 1));
    assert!(numbers(1e300).ends_with("got 1e300 at row 1"), "{}", numbers(1e300));
    assert!(numbers(f64::INFINITY).ends_with("got inf at row 1"), "{}", numbers(f64::INFINITY));
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
    let inputs = Inputs { numeric: 2, categorical: vec![Category::plain(3), Category::plain(5)], ..Inputs::default() };
    let tasks = [asked(NUMBERS)];
    assert!(data.check(&inputs, &tasks, false).is_ok());
    assert!(data.check(&inputs, &tasks, true).unwrap_err().to_string().contains("no row has a label"));
    let two = said(NUMBERS, |d| d.targets.push(None));
    assert_eq!(two, "targets should be one a task, 1 in all; got 2");
}

/// Bytes of numbers in half precision, all finite.
fn whole_halves(count: usize) -> Vec<u8> {
    let s = Stream::new(12, &[]);
    (0..count as u64).flat_map(|i| (s.bits(i) as u16 & 0xbfff).to_ne_bytes()).collect()
}

/// A number below `end` at random.
fn below(s: Stream, index: u64, end: usize) -> usize {
    (s.uniform(index) * end as f64) as usize
}

/// An array of this shape, whose axes lie in memory in any order, in steps, from any end; and the byte offset of each of
/// its numbers, in their order, from the start of the memory.
fn view(s: Stream, dtype: Dtype, memory: &Arc<Vec<u8>>, size: usize, shape: &[usize]) -> (Array, Vec<usize>) {
    let mut order: Vec<_> = (0..shape.len()).collect();
    order.sort_by_key(|&axis| s.bits(axis as u64));
    let mut strides = vec![0_isize; shape.len()];
    let mut start = below(s, 50, 3) as isize;
    let mut step = size as isize;
    for axis in order {
        step *= 1 + below(s, 10 + axis as u64, 2) as isize;
        strides[axis] = step;
        step *= shape[axis].max(1) as isize;
        if s.bits(20 + axis as u64).is_multiple_of(3) {
            start += strides[axis] * (shape[axis].max(1) as isize - 1);
            strides[axis] *= -1;
        }
    }
    let mut places = vec![start];
    for (&length, &stride) in shape.iter().zip(&strides) {
        let along = |place: isize| (0..length as isize).map(move |i| place + i * stride);
        places = places.into_iter().flat_map(along).collect();
    }
    let owner: Arc<dyn Any + Send + Sync> = memory.clone();
    // SAFETY: all places lie within the memory, which the test checks as it reads them.
    let array = unsafe { Array::borrow(memory[start as usize..].as_ptr(), dtype, shape, &strides, owner) }.unwrap();
    (array, places.into_iter().map(|place| place as usize).collect())
}

/// Runs a test for every element type, with bytes that are numbers of it.
macro_rules! each_type {
    ($memory:ident, $t:ident => $body:expr) => {{
        let s = Stream::new(11, &[]);
        let size = 1 << 16;
        macro_rules! run {
            ($type:ty, $bytes:expr) => {{
                type $t = $type;
                let $memory: Arc<Vec<u8>> = Arc::new($bytes);
                $body
            }};
        }
        run!(u8, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(i8, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(u16, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(i16, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(u32, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(i32, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(u64, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(i64, (0..size).map(|i| s.bits(i) as u8).collect());
        run!(Float16, whole_halves(size as usize / 2));
        // Such bytes make numbers of moderate size, whichever of them a number begins with.
        run!(f32, (0..size).map(|i| 0x3b + (s.bits(i) % 5) as u8).collect());
        run!(f64, (0..size).map(|i| 0x3b + (s.bits(i) % 5) as u8).collect());
    }};
}

fn number<T: Element>(memory: &[u8], place: usize) -> T {
    // SAFETY: the slice lies within the memory; any bytes are a number.
    unsafe { memory[place..place + size_of::<T>()].as_ptr().cast::<T>().read_unaligned() }
}

#[test]
fn rows_of_any_shape_are_read_in_any_layout() {
    for (draw, shape) in [&[5_usize][..], &[5, 1, 3], &[4, 3, 2], &[4, 1, 1], &[3, 2, 3, 4], &[3, 2, 0, 4], &[0, 2, 3]]
        .into_iter()
        .cycle()
        .take(70)
        .enumerate()
    {
        let s = Stream::new(3, &[draw as u64]);
        each_type!(memory, T => {
            let (array, places) = view(s, T::DTYPE, &memory, size_of::<T>(), shape);
            let width = shape[1..].iter().product::<usize>();
            assert_eq!((array.shape(), array.rows(), array.columns()), (shape, shape[0], width));
            let picked: Vec<u32> = (0..6 * shape[0].min(1)).map(|i| below(s, 80 + i as u64, shape[0]) as u32).collect();
            let expected: Vec<f32> = picked
                .iter()
                .flat_map(|&row| &places[row as usize * width..][..width])
                .map(|&place| number::<T>(&memory, place).narrow())
                .collect();
            let data = Data { numeric: Some(array.clone()), ..Data::default() };
            let mut out = vec![-7.0; expected.len()];
            data.gather_numeric(Rows::Index(&picked), &mut out);
            assert_eq!(bits(&out), bits(&expected), "{shape:?} {}", T::DTYPE.name());
            let places = places.iter().map(|&place| number::<T>(&memory, place).wide().to_bits());
            let all = (0..shape[0]).flat_map(|row| (0..width).map(move |column| (row, column)));
            assert!(all.map(|(row, column)| array.at(row, column).to_bits()).eq(places));
            let Data { numeric: copy, .. } = data.detach();
            let copy = copy.unwrap();
            assert_eq!((copy.shape(), copy.dtype()), (shape, T::DTYPE));
            let same = |row, column| copy.at(row, column).to_bits() == array.at(row, column).to_bits();
            assert!((0..shape[0]).all(|row| (0..width).all(|column| same(row, column))));
        });
    }
}

#[test]
fn masks_of_any_layout_hide_what_they_should() {
    let memory: Arc<Vec<u8>> = Arc::new((0..999).map(|i| (i % 3 == 0) as u8).collect());
    for draw in 0..20 {
        let (mask, places) = view(Stream::new(4, &[draw]), Dtype::Bool, &memory, 1, &[4, 2, 3]);
        let mut out = [1.0; 24];
        mask.overwrite(Rows::Index(&[2, 0, 1, 3]), &mut out, 0.0);
        let order = [2, 0, 1, 3].into_iter().flat_map(|row| &places[row * 6..][..6]);
        assert!(order.map(|&place| f64::from(memory[place] == 0)).eq(out));
    }
}

#[test]
#[should_panic(expected = "numbers for an array of shape")]
fn an_array_has_the_numbers_that_its_shape_says() {
    Array::of(vec![0_u8; 8], &[usize::MAX, 2, 4]);
}

/// Offsets of so many rows at random, empty ones among them, into fewer positions than `end`.
fn offsets(s: Stream, rows: usize, first: usize) -> Vec<i64> {
    let lengths =
        (0..rows as u64).map(|row| if s.bits(row).is_multiple_of(4) { 0 } else { below(s, 100 + row, 6) as i64 });
    std::iter::once(first as i64)
        .chain(lengths.scan(first as i64, |end, length| {
            *end += length;
            Some(*end)
        }))
        .collect()
}

/// Offsets as one of the types that they come in, in steps of two.
fn offset_array(offsets: &[i64], wide: bool) -> Array {
    let shape = [offsets.len()];
    if wide {
        let spread: Vec<i64> = offsets.iter().flat_map(|&x| [x, -1]).collect();
        let memory = Arc::new(spread);
        // SAFETY: every second number of the memory, which the array keeps.
        return unsafe { Array::borrow(memory.as_ptr().cast(), Dtype::I64, &shape, &[16], memory) }.unwrap();
    }
    let memory: Arc<Vec<i32>> = Arc::new(offsets.iter().flat_map(|&x| [x as i32, -1]).collect());
    // SAFETY: as above.
    unsafe { Array::borrow(memory.as_ptr().cast(), Dtype::I32, &shape, &[8], memory) }.unwrap()
}

#[test]
fn ragged_rows_are_laid_end_to_end() {
    for draw in 0..40 {
        let s = Stream::new(5, &[draw]);
        let (rows, first) = (1 + below(s, 0, 8), below(s, 1, 3));
        let offsets = offsets(s.part(1), rows, first);
        let shape = [&[offsets[rows] as usize + below(s, 2, 3)][..], [&[][..], &[1], &[3], &[2, 2]][draw as usize % 4]]
            .concat();
        let width: usize = shape[1..].iter().product();
        let picked: Vec<u32> = (0..7).map(|i| below(s, 200 + i, rows) as u32).collect();
        let (from, to) = (below(s, 3, rows), rows);
        each_type!(memory, T => {
            let (values, places) = view(s.part(2), T::DTYPE, &memory, size_of::<T>(), &shape);
            let field = Field::ragged(values, offset_array(&offsets, draw % 2 == 0), "`x`").unwrap();
            let neighbours: Vec<u32> = (from as u32..to as u32).collect();
            for (kind, order) in [(Rows::Index(&picked), &picked), (Rows::Range(from..to), &neighbours)] {
                check_ragged::<T>(&field, &offsets, &memory, &places, kind.clone(), order);
                let copied: Vec<usize> = places[first * width..offsets[rows] as usize * width].to_vec();
                let moved: Vec<i64> = offsets.iter().map(|x| x - first as i64).collect();
                check_ragged::<T>(&field.detach(), &moved, &memory, &copied, kind, order);
            }
        });
    }
}

/// Compares all that is gathered of some rows with a loop over them.
fn check_ragged<T: Element>(
    field: &Field,
    offsets: &[i64],
    memory: &[u8],
    places: &[usize],
    rows: Rows<'_>,
    order: &[u32],
) {
    let entries = field.entries();
    let width = entries.width();
    let mut numbers = Vec::<T>::new();
    let mut starts = vec![0];
    let mut count = 0;
    for &row in order {
        for position in offsets[row as usize]..offsets[row as usize + 1] {
            let place = &places[position as usize * width..][..width];
            numbers.extend(place.iter().map(|&place| number::<T>(memory, place)));
            count += 1;
        }
        starts.push(count as i32);
    }
    assert_eq!(entries.count(rows.clone()), count);
    let mut found = vec![7; order.len() + 1];
    let of_rows = field.offsets().unwrap();
    of_rows.starts(rows.clone(), &mut found);
    assert_eq!(found, starts);
    let squares = starts.windows(2).map(|ends| ((ends[1] - ends[0]) as usize).pow(2)).sum::<usize>();
    assert_eq!(of_rows.sum(rows.clone(), |count| count * count), squares);
    let mut out = vec![7.0; count * width + 3];
    entries.numbers(rows.clone(), &mut out, -7.5);
    let narrow = numbers.iter().map(|x| x.narrow()).chain([-7.5; 3]).collect::<Vec<_>>();
    assert_eq!(bits(&out), bits(&narrow), "{}", T::DTYPE.name());
    let mut codes = vec![7; count * width + 1];
    entries.codes(rows.clone(), &mut codes, NOTHING);
    assert!(codes.into_iter().eq(numbers.iter().map(|x| x.whole() as u32).chain([NOTHING])));
    entries.labels(Labels::Numbers { columns: width }, rows.clone(), &mut out);
    assert!(out[..count * width].iter().zip(&narrow).all(|(x, y)| x.to_bits() == y.to_bits()));
    assert!(out[count * width..].iter().all(|x| x.is_nan()));
    let mut classes = vec![7; count * width + 1];
    entries.classes(rows, &mut classes);
    let class = |x: &T| match x.wide() {
        wide if wide.is_nan() => -1,
        wide if T::DTYPE.is_float() => wide as i32,
        _ => x.whole() as i32,
    };
    assert!(classes.into_iter().eq(numbers.iter().map(class).chain([-1])), "{}", T::DTYPE.name());
}

/// One task of labels of positions, in rows of 2, 0, 1 and 2 positions.
fn tagged(target: Array) -> Data {
    let offsets = Offsets::new(Array::own(vec![1_i32, 3, 3, 4, 6], 1), target.rows(), "`y`").unwrap();
    let fields = vec![("words".to_owned(), ragged(vec![0_i8; 7], &[7]))];
    Data { rows: 4, offsets: vec![Some(offsets)], fields, ..labelled(target) }
}

#[test]
fn labels_of_positions_are_missing_where_they_are_missing_and_beyond() {
    let mut data = tagged(Array::own(vec![9_i64, 2, -1, 0, 1, 1, 9], 1));
    let rows = [3, 1, 0];
    let mut classes = [7; 6];
    data.gather_classes(0, &asked(Labels::Classes(3)), Rows::Index(&rows), &mut classes);
    assert_eq!(classes, [1, 1, 2, -1, -1, -1]);
    data.masks = vec![Some(Array::own(vec![0_u8, 1, 0, 0, 0, 1, 0], 1))];
    data.gather_classes(0, &asked(Labels::Classes(3)), Rows::Index(&rows), &mut classes);
    assert_eq!(classes, [1, -1, -1, -1, -1, -1]);
    let mut copy = [7; 6];
    data.detach().gather_classes(0, &asked(Labels::Classes(3)), Rows::Index(&rows), &mut copy);
    assert_eq!(copy, classes);
    let mut values = [7.0; 5];
    data.gather_values(0, BINARY, Rows::Range(2..4), &mut values);
    assert!(values[0] == 0.0 && values[1] == 1.0 && values[2..].iter().all(|x| x.is_nan()));
    assert_eq!(data.count(0, &asked(Labels::Classes(3))).unwrap(), Counts::Classes(vec![1.0, 1.0, 0.0]));
}

#[test]
fn weights_of_rows_reach_their_positions() {
    let mut data = tagged(Array::own(vec![0_i64; 6], 1));
    data.weights = vec![Some(Array::own(vec![0.5_f64, 9.0, 2.0, 3.0], 1))];
    let mut weights = [7.0; 6];
    data.gather_weights(0, &asked(Labels::Classes(3)), Rows::Index(&[3, 1, 0]), &mut weights);
    assert_eq!(weights, [3.0, 3.0, 0.5, 0.5, 0.0, 0.0]);
    data.gather_weights(0, &asked(Labels::Classes(3)), Rows::Range(0..4), &mut weights);
    assert_eq!(weights, [0.5, 0.5, 2.0, 3.0, 3.0, 0.0]);
}

/// What is said of offsets into five positions.
fn said_of_offsets(array: Array) -> String {
    Offsets::new(array, 5, "`tokens`").map_or_else(|error| error.to_string(), |_| "nothing".to_owned())
}

#[test]
fn wrong_offsets_are_named() {
    assert_eq!(said_of_offsets(Array::own(vec![0_i32, 2, 2, 5], 1)), "nothing");
    assert_eq!(said_of_offsets(Array::own(vec![3_i64], 1)), "nothing");
    let form = "the offsets of `tokens` should be int32 or int64 of shape [rows + 1]; got";
    assert_eq!(said_of_offsets(Array::own(vec![0.0, 2.0], 1)), format!("{form} float64 of shape [2]"));
    assert_eq!(said_of_offsets(Array::own(vec![0_i64; 4], 2)), format!("{form} int64 of shape [2, 2]"));
    assert_eq!(said_of_offsets(Array::own(Vec::<i64>::new(), 1)), format!("{form} int64 of shape [0]"));
    let down = "the offsets of `tokens` should not go down; got 2 after 3 at 2";
    assert_eq!(said_of_offsets(Array::own(vec![0_i32, 3, 2, 5], 1)), down);
    let outside = |got: &str| format!("the offsets of `tokens` should lie within its 5 positions; got {got}");
    assert_eq!(said_of_offsets(Array::own(vec![-1_i32, 3], 1)), outside("-1 at 0"));
    assert_eq!(said_of_offsets(Array::own(vec![0_i64, 3, 1 << 40], 1)), outside("1099511627776 at 2"));
}

#[test]
#[should_panic(expected = "rows outside of")]
fn offsets_that_change_behind_our_back_lead_nowhere() {
    let memory = Arc::new([std::sync::atomic::AtomicI64::new(0), std::sync::atomic::AtomicI64::new(3)]);
    // SAFETY: two numbers of the memory, which the array keeps.
    let borrowed = unsafe { Array::borrow(memory.as_ptr().cast(), Dtype::I64, &[2], &[8], memory.clone()) }.unwrap();
    let field = Field::ragged(Array::own(vec![1.0_f32; 3], 1), borrowed, "`x`").unwrap();
    memory[1].store(4, std::sync::atomic::Ordering::Relaxed);
    field.entries().numbers(Rows::Range(0..1), &mut [0.0; 4], 0.0);
}

/// A field of rows of 2, 0, 1 and 2 positions, and one position before and after them.
fn ragged<T: Element + Send + Sync + 'static>(values: Vec<T>, shape: &[usize]) -> Field {
    Field::ragged(Array::of(values, shape), Array::own(vec![1_i64, 3, 3, 4, 6], 1), "`x`").unwrap()
}

#[test]
fn wrong_numbers_of_fields_are_named() {
    let said = |field: &Field, along, shape: &[usize]| match field.check_numbers("`x`", 4, along, shape) {
        Ok(()) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    let flat = ragged(vec![f64::NAN, 0.0, 1.0, 2.0, f64::INFINITY, 0.0, f64::NAN], &[7]);
    let finite = "`x` should hold finite numbers; got";
    assert_eq!(said(&flat, Along::Positions, &[]), format!("{finite} inf at row 3, position 0"));
    let mut wide = vec![0.0_f32; 14];
    assert_eq!(said(&ragged(wide.clone(), &[7, 2]), Along::Positions, &[2]), "nothing");
    wide[5] = f32::NAN;
    assert_eq!(
        said(&ragged(wide, &[7, 2]), Along::Positions, &[2]),
        format!("{finite} NaN at row 0, position 1, column 1")
    );
    let mut images = vec![Float16(0); 48];
    let plain = |images: &Vec<Float16>| Field::plain(Array::of(images.clone(), &[4, 3, 2, 2]));
    assert_eq!(said(&plain(&images), Along::Rows, &[3, 2, 2]), "nothing");
    images[12 + 6] = Float16(0x7c00);
    assert_eq!(said(&plain(&images), Along::Rows, &[3, 2, 2]), format!("{finite} inf at row 1, index [1, 1, 0]"));
    let shape = "`x` should have shape [4, 3, 4]; got [4, 3, 2, 2]";
    assert_eq!(said(&plain(&images), Along::Rows, &[3, 4]), shape);
    assert_eq!(
        said(&plain(&images), Along::Positions, &[]),
        "`x` should have positions in each row, and offsets; got an entry a row, of shape [4, 3, 2, 2]"
    );
    let rows = "`x` should have an entry a row; got positions in each row";
    assert_eq!(said(&flat, Along::Rows, &[]), rows);
    assert_eq!(
        said(&ragged(vec![0_u8; 7], &[7]), Along::Positions, &[2]),
        "`x` should have shape [positions, 2]; got [7]"
    );
    assert_eq!(said(&ragged(vec![0_u8; 7], &[7, 1]), Along::Positions, &[]), "nothing");
    let short = Field::ragged(Array::own(vec![0_u8; 7], 1), Array::own(vec![0_i32, 7], 1), "`x`").unwrap();
    assert_eq!(said(&short, Along::Positions, &[]), "`x` should have 4 rows; got 1");
}

#[test]
fn wrong_codes_and_labels_of_positions_are_named() {
    let codes = Codes { count: 5, gaps: false };
    let said = |field: Field, shape: &[usize]| match field.check_codes("`tokens`", 4, Along::Positions, shape, codes) {
        Ok(()) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    // What lies before the first row and behind the last one does not count.
    assert_eq!(said(ragged(vec![99_i64, 0, 1, 2, 3, 4, -99], &[7]), &[]), "nothing");
    let text = "`tokens` should hold codes from 0 to 4";
    let wrong = ragged(vec![99_i64, 0, 1, 2, 3, 5, -99], &[7]);
    assert_eq!(said(wrong, &[]), format!("{text}; got 5 at row 3, position 1"));
    let none = Field::plain(Array::of(Vec::<i64>::new(), &[4, 0]));
    assert!(none.check_codes("`x`", 4, Along::Rows, &[0], codes).is_ok());
    let wide = ragged(vec![0_i32, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[7, 2]);
    assert_eq!(said(wide, &[2]), format!("{text} in column 1; got -1 at row 0, position 0"));

    let said = |labels, data: Data| match data.check(
        &no_inputs(),
        &[Asked { per: Some("words".into()), ..asked(labels) }],
        true,
    ) {
        Ok(doubts) => doubts.first().map_or("nothing".to_owned(), Clone::clone),
        Err(error) => error.to_string(),
    };
    let classes = |x: i64| tagged(Array::own(vec![99, 2, -1, x, 1, 1, 99], 1));
    assert_eq!(said(Labels::Classes(3), classes(0)), "nothing");
    let task = "the targets of task `a`";
    let wanted = format!("{task} should be classes from 0 to 2, or -1 or NaN where missing");
    assert_eq!(said(Labels::Classes(3), classes(-2)), format!("{wanted}; got -2 at row 2, position 0"));
    let pairs = || tagged(Array::own(vec![0_i8; 14], 2));
    assert_eq!(said(Labels::Numbers { columns: 2 }, pairs()), "nothing");
    assert_eq!(said(NUMBERS, pairs()), format!("{task} should have shape [7, 1]; got [7, 2]"));
    let rows = Data { rows: 5, ..classes(0) };
    assert_eq!(said(Labels::Classes(3), rows), "`words` should have 5 rows; got 4");
    let of_rows = Data { offsets: Vec::new(), ..classes(0) };
    assert_eq!(
        said(Labels::Classes(3), of_rows),
        format!("{task} should be labels of the positions of words; got one a row")
    );
    assert_eq!(said(Labels::Classes(3), Data { fields: Vec::new(), ..classes(0) }), "`x` of words is missing");
    let offsets = Offsets::new(Array::own(vec![1_i32, 2, 3, 4, 6], 1), 7, "`y`").unwrap();
    let shifted = Data { offsets: vec![Some(offsets)], ..classes(0) };
    assert_eq!(
        said(Labels::Classes(3), shifted),
        format!("{task} should have 2 positions in row 0, as `x` of words; got 1")
    );
    let ragged = classes(0).check(&no_inputs(), &[asked(Labels::Classes(3))], true).unwrap_err().to_string();
    assert_eq!(ragged, format!("{task} should be one a row; got labels of positions"));
    let short = Data { targets: vec![Some(Array::own(vec![0_i64; 5], 1))], ..classes(0) };
    assert_eq!(
        said(Labels::Classes(3), short),
        format!("the offsets of {task} should lie within its 5 positions; got 6 at 4")
    );
    let field = Data { fields: vec![("words".to_owned(), Field::plain(Array::own(vec![0_i8; 3], 1)))], ..classes(0) };
    assert_eq!(said(Labels::Classes(3), field), "`words` should have 4 rows; got 3");
}

fn no_inputs() -> Inputs {
    Inputs::default()
}

#[test]
fn fields_of_the_same_positions_are_as_long_in_each_row() {
    let of = |offsets: Vec<i32>| Offsets::new(Array::own(offsets, 1), 9, "`x`").unwrap();
    let said = |one: Vec<i32>, other: Vec<i32>| match check_lengths("the tags", &of(one), "`tokens`", &of(other)) {
        Ok(()) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(said(vec![0, 2, 2, 5], vec![3, 5, 5, 8]), "nothing");
    let text = "the tags should have 2 positions in row 0, as `tokens`; got 1";
    assert_eq!(said(vec![0, 1, 3], vec![0, 2, 3]), text);
    assert_eq!(said(vec![0, 1, 3], vec![0, 2]), "the tags should have 1 rows, as `tokens`; got 2");
}

#[test]
fn features_of_positions_are_checked_where_they_enter() {
    let words = || PositionInputs {
        name: "words".to_owned(),
        numeric: 1,
        categorical: vec![Category::plain(4), Category::plain(2)],
        widths: vec![2, 2],
    };
    let inputs = Inputs { positions: vec![words()], ..no_inputs() };
    let codes = || ragged(vec![9_i64, 9, 3, 1, 0, 0, 1, 1, 2, 0, 3, 1, 9, 9], &[7, 2]);
    let said = |fields: Vec<(&str, Field)>| {
        let fields = fields.into_iter().map(|(name, field)| (format!("words/{name}"), field)).collect();
        let data = Data { rows: 4, fields, ..Data::default() };
        data.check(&inputs, &[asked(NUMBERS)], false).map_or_else(|error| error.to_string(), |_| "nothing".to_owned())
    };
    let numbers = || ragged(vec![0.0_f32; 7], &[7]);
    assert_eq!(said(vec![("numeric", numbers()), ("categorical", codes())]), "nothing");
    assert_eq!(said(vec![("categorical", codes())]), "`x` of words/numeric is missing");
    let wrong = ragged(vec![0_i64, 0, 3, 1, 0, 2, 1, 1, 2, 0, 3, 1, 0, 0], &[7, 2]);
    let message = "`x` of words/categorical should hold codes from 0 to 1 in column 1; got 2 at row 0, position 1";
    assert_eq!(said(vec![("numeric", numbers()), ("categorical", wrong)]), message);
    let other = Array::own(vec![0_i64, 2, 2, 4, 5], 1);
    let other = Field::ragged(Array::own(vec![0.0_f32; 7], 1), other, "`x`").unwrap();
    let message = "`x` of words/categorical should have 2 positions in row 2, as `x` of words/numeric; got 1";
    assert_eq!(said(vec![("numeric", other), ("categorical", codes())]), message);
}
