//! Receipts, menus and price lists: where everything stands.

use super::prices::{Columns, PriceList, Role, Rules};
use crate::drawing::{Align, Drawing, Rgb};
use crate::fonts::Face;

/// Sizes of one layout, in pixels.
struct Measures {
    body: Face,
    head: Face,
    left: f32,
    width: f32,
    pitch: f32,
}

/// Places a price list at a text size.
pub(super) fn lay_out(list: &PriceList, size: f32) -> Drawing {
    let look = &list.look;
    let desk = if look.desk.is_some() { 1.2 * size } else { 0.0 };
    let margin = look.margin * size;
    let measures = measure(list, size, desk + margin);
    let mut drawing = Drawing::new(look.desk.unwrap_or(look.palette.ground));
    if look.desk.is_some() {
        // Its height follows below, when everything has its place.
        drawing.panel(
            desk,
            desk,
            measures.width + 2.0 * margin,
            0.0,
            look.palette.ground,
        );
    }
    let mut top = desk + margin;
    put_header(list, &measures, &mut drawing, &mut top);
    put_rows(list, &measures, &mut drawing, &mut top);
    put_centred(
        list,
        &list.footer,
        measures.body,
        &measures,
        &mut drawing,
        &mut top,
    );
    let bottom = top - measures.pitch + measures.body.line() + margin;
    if let (Some(_), Some(crate::drawing::Element::Panel { height, .. })) =
        (look.desk, drawing.elements.first_mut())
    {
        *height = bottom - desk;
    }
    drawing.width = measures.width + 2.0 * (margin + desk);
    drawing.height = bottom + desk;
    drawing
}

fn measure(list: &PriceList, size: f32, left: f32) -> Measures {
    let look = &list.look;
    let body = look.body.at(size);
    let head = look.head.at(size * look.head_scale);
    let rows = list.rows();
    let widest = |texts: &mut dyn Iterator<Item = f32>| texts.fold(0.0f32, f32::max);
    // A heavy total is wider than the body: measure it as it will be drawn.
    let faces: Vec<Face> = (0..rows.len())
        .map(|index| row_style(list, body, index).0)
        .collect();
    let rows = || rows.iter().zip(&faces);
    let names = widest(&mut rows().map(|(row, face)| face.width(&row.0)));
    let prices = widest(&mut rows().map(|(row, face)| face.width(&row.1)));
    let mut width = match look.columns {
        Columns::Close(separator) => widest(
            &mut rows().map(|(row, face)| face.width(&format!("{}{separator}{}", row.0, row.1))),
        ),
        _ => names + prices + look.gap * size,
    };
    if let Some((name, price)) = look.column_names {
        width = width.max(body.width(name) + body.width(price) + 1.5 * size);
    }
    for (index, line) in list.header.iter().enumerate() {
        width = width.max(if index == 0 {
            head.width(line)
        } else {
            body.width(line)
        });
    }
    for line in list.footer.iter().chain(&list.date) {
        width = width.max(body.width(line));
    }
    Measures {
        body,
        head,
        left,
        width,
        pitch: body.line() * look.spacing,
    }
}

fn put_header(list: &PriceList, at: &Measures, drawing: &mut Drawing, top: &mut f32) {
    if let Some((title, rest)) = list.header.split_first() {
        let x = anchor(list.look.align, at);
        drawing.text(
            x,
            *top,
            list.look.align,
            at.head,
            list.look.palette.strong,
            title,
        );
        *top += at.head.line().max(at.pitch) + 0.15 * at.body.line();
        put_centred(list, rest, at.body, at, drawing, top);
    }
    if let Some(date) = &list.date {
        put_centred(list, std::slice::from_ref(date), at.body, at, drawing, top);
    }
    if !list.header.is_empty() {
        put_rule(list, at, drawing, top);
    }
    if let Some((name, price)) = list.look.column_names {
        drawing.text(
            at.left,
            *top,
            Align::Left,
            at.body,
            list.look.palette.strong,
            name,
        );
        drawing.text(
            at.left + at.width,
            *top,
            Align::Right,
            at.body,
            list.look.palette.strong,
            price,
        );
        *top += at.pitch;
    }
}

fn put_centred(
    list: &PriceList,
    lines: &[String],
    face: Face,
    at: &Measures,
    drawing: &mut Drawing,
    top: &mut f32,
) {
    for line in lines {
        drawing.text(
            anchor(list.look.align, at),
            *top,
            list.look.align,
            face,
            list.look.palette.ink,
            line,
        );
        *top += at.pitch;
    }
}

fn anchor(align: Align, at: &Measures) -> f32 {
    match align {
        Align::Left => at.left,
        Align::Center => at.left + at.width / 2.0,
        Align::Right => at.left + at.width,
    }
}

fn put_rows(list: &PriceList, at: &Measures, drawing: &mut Drawing, top: &mut f32) {
    for (index, (label, price)) in list.rows().into_iter().enumerate() {
        if index == list.items.len() {
            put_rule(list, at, drawing, top);
        }
        let style = row_style(list, at.body, index);
        put_row(list, at, drawing, *top, style, &label, &price);
        *top += at.pitch;
    }
    if !list.footer.is_empty() {
        put_rule(list, at, drawing, top);
    }
}

/// Face and ink of a row with an amount; totals may stand out.
fn row_style(list: &PriceList, body: Face, index: usize) -> (Face, Rgb) {
    let palette = &list.look.palette;
    let total = index
        .checked_sub(list.items.len())
        .and_then(|index| list.totals.get(index));
    if list.look.strong_total && total.is_some_and(|total| total.role == Role::Total) {
        let face = Face {
            heavy: true,
            ..body
        };
        return (face, palette.strong);
    }
    (body, palette.ink)
}

fn put_row(
    list: &PriceList,
    at: &Measures,
    drawing: &mut Drawing,
    top: f32,
    (face, ink): (Face, Rgb),
    label: &str,
    price: &str,
) {
    if let Columns::Close(separator) = list.look.columns {
        drawing.text(
            at.left,
            top,
            Align::Left,
            face,
            ink,
            &format!("{label}{separator}{price}"),
        );
        return;
    }
    let right = at.left + at.width;
    let label_width = drawing.text(at.left, top, Align::Left, face, ink, label);
    let price_width = drawing.text(right, top, Align::Right, face, ink, price);
    if list.look.columns == Columns::Dots {
        let dot = at.body.width(".") * 1.5;
        let (mut x, end) = (
            at.left + label_width + 2.0 * dot,
            right - price_width - 2.0 * dot,
        );
        // On a common grid, so that the dots of all rows stand in columns.
        x = at.left + ((x - at.left) / dot).ceil() * dot;
        while x <= end {
            drawing.text(x, top, Align::Left, at.body, list.look.palette.faint, ".");
            x += dot;
        }
    }
}

fn put_rule(list: &PriceList, at: &Measures, drawing: &mut Drawing, top: &mut f32) {
    let thickness = (at.body.size / 14.0).max(1.0);
    let (palette, height) = (&list.look.palette, 0.5 * at.body.line());
    match list.look.rules {
        Rules::None => {}
        Rules::Solid => drawing.rule(
            at.left,
            *top + height * 0.4,
            at.width,
            thickness,
            0.0,
            palette.faint,
        ),
        Rules::Dashed => drawing.rule(
            at.left,
            *top + height * 0.4,
            at.width,
            thickness,
            at.body.size * 0.4,
            palette.faint,
        ),
        Rules::Typed(character) => {
            let one = at.body.width(&character.to_string());
            let text = character.to_string().repeat((at.width / one) as usize);
            drawing.text(at.left, *top, Align::Left, at.body, palette.ink, &text);
            *top += at.body.line();
            return;
        }
    }
    *top += height;
}
