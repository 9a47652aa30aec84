//! Receipts, menus and price lists: what stands on them.

use crate::drawing::{Align, Rgb};
use crate::fonts::Face;
use crate::questions::amount;
use crate::random::Random;
use crate::recipe::Recipe;
use crate::style::{self, Palette};
use crate::vocabulary;

/// A list of named prices with what surrounds it.
pub(crate) struct PriceList {
    /// Word for the whole in questions: receipt, menu, list.
    pub(super) noun: &'static str,
    /// Shop name first; then address, date, number.
    pub(super) header: Vec<String>,
    pub(super) date: Option<String>,
    pub(super) items: Vec<Item>,
    /// Subtotal, tax, total, cash, change, as far as they are printed.
    pub(super) totals: Vec<Amount>,
    pub(super) footer: Vec<String>,
    pub(super) decimals: bool,
    pub(super) currency: Currency,
    pub(super) chinese: bool,
    pub(super) look: Look,
}

pub(crate) struct Item {
    pub(super) name: String,
    /// Price of the line in hundredths.
    pub(super) price: i64,
    /// Number of pieces, where the receipt prints one.
    pub(super) quantity: Option<usize>,
}

/// A labelled amount under the items.
pub(crate) struct Amount {
    pub(super) label: String,
    pub(super) hundredths: i64,
    pub(super) role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Subtotal,
    Tax,
    Discount,
    Total,
    Cash,
    Change,
}

/// What stands before and after a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Currency {
    pub(super) before: &'static str,
    pub(super) after: &'static str,
}

/// How names and prices are kept apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Columns {
    /// Prices right-aligned in a column of their own.
    Apart,
    /// The same with dots between.
    Dots,
    /// The price follows the name after a separator.
    Close(&'static str),
}

/// Where a receipt prints the number of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantities {
    /// "2 Tea 5.00" or "2x Tea 5.00"
    Before(&'static str),
    /// "Tea x2 5.00"
    After,
}

/// Rules between the parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rules {
    None,
    Solid,
    Dashed,
    /// A line of one character.
    Typed(char),
}

/// How the list looks.
pub(crate) struct Look {
    pub(super) palette: Palette,
    pub(super) body: Face,
    pub(super) head: Face,
    pub(super) head_scale: f32,
    /// Ground around the paper.
    pub(super) desk: Option<Rgb>,
    pub(super) columns: Columns,
    pub(super) quantities: Quantities,
    pub(super) rules: Rules,
    pub(super) align: Align,
    pub(super) spacing: f32,
    pub(super) margin: f32,
    /// Least room between names and prices, in text sizes.
    pub(super) gap: f32,
    pub(super) strong_total: bool,
    /// Names of the two columns.
    pub(super) column_names: Option<(&'static str, &'static str)>,
}

const CURRENCIES: [Currency; 9] = [
    Currency {
        before: "",
        after: "",
    },
    Currency {
        before: "$",
        after: "",
    },
    Currency {
        before: "£",
        after: "",
    },
    Currency {
        before: "€",
        after: "",
    },
    Currency {
        before: "¥",
        after: "",
    },
    Currency {
        before: "",
        after: " €",
    },
    Currency {
        before: "",
        after: " EUR",
    },
    Currency {
        before: "$ ",
        after: "",
    },
    Currency {
        before: "USD ",
        after: "",
    },
];

/// A receipt with a shop, items and mostly a total.
pub(crate) fn receipt(random: &mut Random, recipe: &Recipe) -> PriceList {
    let mut list = items(random, recipe, "receipt");
    list.header = header(random, list.chinese);
    if random.chance(0.5) {
        list.date = Some(vocabulary::date(random));
    }
    if list.header.is_empty() || random.chance(0.2) {
        list.date = None;
    }
    if random.chance(0.15) {
        put_quantities(random, &mut list);
    }
    if random.chance(0.58) {
        put_totals(random, &mut list);
    }
    if random.chance(0.35) {
        let choices = [
            "Thank you!",
            "Thank you",
            "Come again",
            "Have a nice day",
            "Visit us again!",
            "THANK YOU",
            "Goodbye",
        ];
        let farewell = if list.chinese {
            "欢迎光临"
        } else {
            random.pick(&choices)
        };
        list.footer.push(farewell.to_owned());
    }
    list
}

/// A menu or a price list: a title and prices, no total.
pub(crate) fn menu(random: &mut Random, recipe: &Recipe) -> PriceList {
    let mut list = items(random, recipe, "menu");
    list.look.palette = Palette::choose(random);
    list.look.head_scale = random.size(1.0, 2.0);
    let title = match random.below(5) {
        _ if list.chinese => "今日特价".to_owned(),
        0 => "Menu".to_owned(),
        1 => "Price list".to_owned(),
        2 => (random.pick(&[
            "Drinks",
            "Food",
            "Lunch",
            "Breakfast",
            "Specials",
            "Today",
            "Prices",
            "Snacks",
        ]))
        .to_owned(),
        3 => shop_name(random),
        _ => capital_word(random),
    };
    if random.chance(0.85) {
        let title = if random.chance(0.3) {
            title.to_uppercase()
        } else {
            title
        };
        list.header.push(title);
    }
    list
}

fn capital_word(random: &mut Random) -> String {
    crate::questions::capitalised(&vocabulary::any_word(random))
}

fn items(random: &mut Random, recipe: &Recipe, noun: &'static str) -> PriceList {
    let chinese = random.chance(recipe.chinese);
    let most = recipe.max_items.max(2);
    let count = random.between(2, most).min(random.between(2, most + 2));
    let names = if chinese {
        vocabulary::distinct(random, count, |random| {
            (random.pick(vocabulary::chinese_goods())).to_owned()
        })
    } else {
        let names = vocabulary::goods(random, count);
        let case = random.below(5);
        names
            .into_iter()
            .map(|name| match case {
                0 => name.to_uppercase(),
                1 => name.to_lowercase(),
                _ => name,
            })
            .collect()
    };
    let decimals = random.chance(0.72);
    let range = random.weighted(&[0.55, 0.3, 0.15]);
    let items = names
        .into_iter()
        .map(|name| Item {
            name,
            price: price(random, decimals, range),
            quantity: None,
        })
        .collect();
    let currency = match random.chance(0.45) {
        true => CURRENCIES[0],
        false if chinese => random.pick(&[
            CURRENCIES[4],
            Currency {
                before: "",
                after: "元",
            },
        ]),
        false => random.pick(&CURRENCIES[1..]),
    };
    PriceList {
        noun,
        header: Vec::new(),
        date: None,
        items,
        totals: Vec::new(),
        footer: Vec::new(),
        decimals,
        currency,
        chinese,
        look: look(random, recipe),
    }
}

fn look(random: &mut Random, recipe: &Recipe) -> Look {
    let palette = if random.chance(0.75) {
        Palette::paper(random)
    } else {
        Palette::choose(random)
    };
    let body = style::face(random, recipe);
    let columns = match random.weighted(&[0.62, 0.13, 0.25]) {
        0 => Columns::Apart,
        1 => Columns::Dots,
        _ => Columns::Close(random.pick(&[" ", "  ", ": ", " - ", " = ", "   "])),
    };
    Look {
        palette,
        body,
        head: style::heading(body, random, recipe),
        head_scale: if random.chance(0.5) {
            1.0
        } else {
            random.real(1.0, 1.6)
        },
        desk: random.chance(0.2).then(|| style::color(random, 0, 255)),
        columns,
        quantities: random.pick(&[
            Quantities::Before(""),
            Quantities::Before("x"),
            Quantities::After,
        ]),
        rules: random.pick(&[
            Rules::None,
            Rules::None,
            Rules::None,
            Rules::Solid,
            Rules::Solid,
            Rules::Dashed,
            Rules::Dashed,
            Rules::Typed('-'),
            Rules::Typed('='),
            Rules::Typed('*'),
        ]),
        align: if random.chance(0.7) {
            Align::Center
        } else {
            Align::Left
        },
        spacing: random.size(1.0, 1.75),
        margin: random.size(0.4, 2.0),
        gap: random.size(1.0, 7.0),
        strong_total: random.chance(0.4),
        column_names: random.chance(0.12).then(|| {
            random.pick(&[
                ("Item", "Price"),
                ("Product", "Price"),
                ("Item", "Amount"),
                ("ITEM", "PRICE"),
            ])
        }),
    }
}

/// Prices in hundredths: small, medium or large ones.
fn price(random: &mut Random, decimals: bool, range: usize) -> i64 {
    let whole = match range {
        0 => random.between(0, 12),
        1 => random.between(1, 50),
        _ => random.between(5, 300),
    } as i64;
    if !decimals {
        return whole.max(1) * 100;
    }
    let part = match random.weighted(&[0.4, 0.25, 0.15, 0.2]) {
        0 => random.between(0, 99),
        1 => random.between(0, 19) * 5,
        2 => random.pick(&[0, 50]),
        _ => random.pick(&[99, 95, 49, 25, 75]),
    } as i64;
    (whole * 100 + part).max(5)
}

fn shop_name(random: &mut Random) -> String {
    let kind = random.pick(&vocabulary::SHOPS);
    let name = match random.below(4) {
        0 => format!("{}'s {kind}", random.pick(&vocabulary::FIRST_NAMES)),
        1 => format!("{} {kind}", random.pick(&vocabulary::CITIES)),
        2 => format!("{kind} {}", capital_word(random)),
        _ => format!("{} {kind}", capital_word(random)),
    };
    if random.chance(0.35) {
        name.to_uppercase()
    } else {
        name
    }
}

fn header(random: &mut Random, chinese: bool) -> Vec<String> {
    if random.chance(0.12) {
        return Vec::new();
    }
    let mut lines = vec![if chinese {
        (random.pick(&["超市", "书店", "北京超市", "上海书店"])).to_owned()
    } else {
        shop_name(random)
    }];
    if random.chance(0.2) {
        let street = capital_word(random);
        lines.push(format!(
            "{} {street} {}",
            random.between(1, 400),
            random.pick(&["Street", "St", "Road", "Avenue", "Lane"])
        ));
    }
    if random.chance(0.12) {
        lines.push(format!(
            "Tel {:03}-{:04}",
            random.below(1000),
            random.below(10_000)
        ));
    }
    if random.chance(0.12) {
        lines.push(format!(
            "{} {}",
            random.pick(&["Receipt", "Order", "No.", "Table", "Bill"]),
            random.below(9999)
        ));
    }
    lines
}

fn put_quantities(random: &mut Random, list: &mut PriceList) {
    for item in &mut list.items {
        let quantity = 1 + random.weighted(&[0.5, 0.3, 0.12, 0.08]);
        item.quantity = Some(quantity);
        item.price *= quantity as i64;
    }
}

fn put_totals(random: &mut Random, list: &mut PriceList) {
    let sum = list.sum();
    let mut total = sum;
    let case = random.below(3);
    let label = |random: &mut Random, words: &[&str]| {
        let word = random.pick(words);
        match case {
            0 => word.to_uppercase(),
            _ => word.to_owned(),
        }
    };
    let mut push = |label: String, hundredths: i64, role: Role| {
        list.totals.push(Amount {
            label,
            hundredths,
            role,
        })
    };
    if list.chinese {
        push(
            (random.pick(&["合计", "总计", "总价"])).to_owned(),
            total,
            Role::Total,
        );
        return;
    }
    if random.chance(0.3) {
        push(
            label(random, &["Subtotal", "Sub-total", "Sub total"]),
            sum,
            Role::Subtotal,
        );
        // Whole prices get whole taxes.
        let step = if list.decimals { 1 } else { 100 };
        if random.chance(0.3) {
            let discount = sum * random.between(5, 30) as i64 / 100 / step * step;
            if discount > 0 {
                push(
                    label(random, &["Discount", "Savings"]),
                    -discount,
                    Role::Discount,
                );
                total -= discount;
            }
        } else {
            let tax = sum * random.between(4, 25) as i64 / 100 / step * step;
            if tax > 0 {
                push(label(random, &["Tax", "VAT", "Sales tax"]), tax, Role::Tax);
                total += tax;
            }
        }
    }
    push(
        label(
            random,
            &[
                "Total",
                "Total",
                "Total",
                "Total",
                "Amount due",
                "To pay",
                "Grand total",
                "Balance due",
                "Sum",
            ],
        ),
        total,
        Role::Total,
    );
    if random.chance(0.25) {
        let note = random.pick(&[500, 1000, 2000, 5000, 10_000]);
        let cash = (total + note - 1) / note * note;
        push(
            label(random, &["Cash", "Paid", "Received"]),
            cash,
            Role::Cash,
        );
        push(
            label(random, &["Change", "Your change"]),
            cash - total,
            Role::Change,
        );
    }
}

impl PriceList {
    /// Sum of all lines in hundredths.
    pub(super) fn sum(&self) -> i64 {
        self.items.iter().map(|item| item.price).sum()
    }

    /// The amount as in answers: digits only.
    pub(super) fn plain(&self, hundredths: i64) -> String {
        amount(hundredths.abs(), self.decimals)
    }

    /// The amount as printed.
    pub(super) fn printed(&self, hundredths: i64) -> String {
        let minus = if hundredths < 0 { "-" } else { "" };
        format!(
            "{minus}{}{}{}",
            self.currency.before,
            self.plain(hundredths),
            self.currency.after
        )
    }

    /// The name column of an item.
    pub(super) fn label(&self, item: &Item) -> String {
        match (item.quantity, self.look.quantities) {
            (Some(quantity), Quantities::Before(times)) => {
                format!("{quantity}{times} {}", item.name)
            }
            (Some(quantity), Quantities::After) => format!("{} x{quantity}", item.name),
            (None, _) => item.name.clone(),
        }
    }

    /// All lines in reading order.
    pub(super) fn lines(&self) -> Vec<String> {
        let separator = match self.look.columns {
            Columns::Close(separator) => separator.trim_end().to_owned() + " ",
            _ => " ".to_owned(),
        };
        let mut lines = self.header.clone();
        lines.extend(self.date.clone());
        lines.extend(
            self.look
                .column_names
                .map(|(name, price)| format!("{name} {price}")),
        );
        let rows = self.rows();
        lines.extend(
            rows.iter()
                .map(|row| format!("{}{separator}{}", row.0, row.1)),
        );
        lines.extend(self.footer.iter().cloned());
        lines
    }

    /// Label and printed amount of every line with an amount.
    pub(super) fn rows(&self) -> Vec<(String, String)> {
        let items = self
            .items
            .iter()
            .map(|item| (self.label(item), self.printed(item.price)));
        let totals = self
            .totals
            .iter()
            .map(|total| (total.label.clone(), self.printed(total.hundredths)));
        items.chain(totals).collect()
    }

    /// Removes one item, and with it the totals that no longer hold.
    pub(super) fn drop_last(&mut self) -> bool {
        if self.items.len() <= 2 {
            return false;
        }
        let Some(item) = self.items.pop() else {
            return false;
        };
        let kept = |total: &Amount| matches!(total.role, Role::Subtotal | Role::Total);
        if self.totals.iter().all(kept) {
            self.totals
                .iter_mut()
                .for_each(|total| total.hundredths -= item.price);
        } else {
            let sum = self.sum();
            self.totals.retain(kept);
            self.totals
                .iter_mut()
                .for_each(|total| total.hundredths = sum);
        }
        true
    }
}
