//! Receipts, menus and price lists: what can be asked about them.

use super::prices::{Item, PriceList, Role, Rules};
use crate::drawing::Drawing;
use crate::example::{Kind, Question};
use crate::layout::Content;
use crate::questions::{ask, reading, running_totals, typed, worded};
use crate::random::Random;

impl Content for PriceList {
    fn lay_out(&self, size: f32) -> Drawing {
        super::prices_layout::lay_out(self, size)
    }

    fn shrink(&mut self) -> bool {
        if self.look.gap > 1.5 {
            self.look.gap = 1.2;
            return true;
        }
        if self.look.head_scale > 1.0 || self.look.spacing > 1.3 {
            self.look.head_scale = 1.0;
            self.look.spacing = self.look.spacing.min(1.2);
            return true;
        }
        if self.footer.pop().is_some() {
            return true;
        }
        if self.header.len() > 1 {
            self.header.pop();
            return true;
        }
        if self.drop_last() {
            return true;
        }
        if self.date.take().is_some()
            || self.look.column_names.take().is_some()
            || self.header.pop().is_some()
        {
            return true;
        }
        self.look.margin > 0.3 && {
            self.look.margin = 0.3;
            true
        }
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let mut questions = Vec::new();
        self.ask_prices(random, &mut questions);
        self.ask_totals(random, &mut questions);
        self.ask_sums(random, &mut questions);
        self.ask_comparisons(random, &mut questions);
        self.ask_names(random, &mut questions);
        // A typed rule is a line to some and none to others: ask nothing that counts lines then.
        if !matches!(self.look.rules, Rules::Typed(_)) {
            questions.extend(reading(random, &self.lines()));
        }
        questions
    }

    fn twin(&self) -> String {
        self.lines().join("\n")
    }
}

impl PriceList {
    fn pair(&self, item: &Item) -> String {
        format!("{} {}", item.name, self.plain(item.price))
    }

    fn ask_prices(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let wordings = [
            "How much is the {}?",
            "How much is the {}?",
            "What is the price of {}?",
            "What is the price of the {}?",
            "What does the {} cost?",
            "How much does the {} cost?",
            "How much for the {}?",
            "Price of {}?",
            "How much is {}?",
        ];
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        random.shuffle(&mut order);
        for &index in order.iter().take(4) {
            let item = &self.items[index];
            let name = typed(random, &item.name);
            let question = if self.chinese && random.chance(0.6) {
                format!("{name}多少钱？")
            } else {
                worded(random, &wordings, &name)
            };
            questions.push(
                ask(Kind::Lookup, question, self.plain(item.price)).thinking(self.pair(item)),
            );
        }
        for &index in order.iter().rev().take(2) {
            let item = &self.items[index];
            if self
                .items
                .iter()
                .filter(|other| other.price == item.price)
                .count()
                == 1
            {
                let wordings = ["Which item costs {}?", "What costs {}?"];
                let question = worded(random, &wordings, &self.plain(item.price));
                questions
                    .push(ask(Kind::Lookup, question, item.name.clone()).thinking(self.pair(item)));
            }
        }
        if let Some((item, quantity)) = order.first().and_then(|&index| {
            let item = &self.items[index];
            item.quantity.map(|quantity| (item, quantity))
        }) {
            let wordings = ["How many {} were bought?", "What is the quantity of {}?"];
            let name = typed(random, &item.name);
            let question = worded(random, &wordings, &name);
            questions
                .push(ask(Kind::Lookup, question, quantity.to_string()).thinking(self.label(item)));
        }
    }

    fn ask_totals(&self, random: &mut Random, questions: &mut Vec<Question>) {
        for total in &self.totals {
            let answer = self.plain(total.hundredths);
            let thought = format!("{} {answer}", total.label);
            let (kind, wordings): (Kind, &[&str]) = match total.role {
                Role::Total => (
                    Kind::Total,
                    &[
                        "What is the total amount?",
                        "How much is the total?",
                        "What does it cost in total?",
                        "What is the total on the {}?",
                        "Total?",
                    ],
                ),
                Role::Subtotal => (
                    Kind::Lookup,
                    &["What is the subtotal?", "How much is the subtotal?"],
                ),
                Role::Tax => (Kind::Lookup, &["How much is the tax?", "What is the tax?"]),
                Role::Discount => (
                    Kind::Lookup,
                    &["How much is the discount?", "What is the discount?"],
                ),
                Role::Cash => (
                    Kind::Lookup,
                    &["How much was paid?", "How much money was given?"],
                ),
                Role::Change => (
                    Kind::Lookup,
                    &["How much is the change?", "What is the change?"],
                ),
            };
            if kind == Kind::Total {
                questions.push(
                    ask(kind, "What is the total?", answer.clone()).thinking(thought.clone()),
                );
                if self.chinese {
                    questions
                        .push(ask(kind, "一共多少钱？", answer.clone()).thinking(thought.clone()));
                }
            }
            questions
                .push(ask(kind, worded(random, wordings, self.noun), answer).thinking(thought));
        }
    }

    fn ask_sums(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let prices: Vec<i64> = self.items.iter().map(|item| item.price).collect();
        // Where the sum is printed, adding would mostly be reading: such questions are rarer.
        if self.totals.is_empty() || random.chance(0.25) {
            let wordings = [
                "How much do all items cost together?",
                "What is the sum of all items?",
                "What is the sum of all prices?",
                "How much is everything together?",
                "Add up all the items.",
            ];
            let exact = "What do all items cost together?";
            for question in [exact, random.pick(&wordings)] {
                let thought = running_totals(&prices, self.decimals);
                questions.push(ask(Kind::Sum, question, self.plain(self.sum())).thinking(thought));
            }
        }
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        random.shuffle(&mut order);
        let (first, second) = (&self.items[order[0]], &self.items[order[1]]);
        let names = (typed(random, &first.name), typed(random, &second.name));
        let wordings = [
            "How much are the {a} and the {b} together?",
            "What do {a} and {b} cost together?",
            "How much is the {a} plus the {b}?",
        ];
        let question = random
            .pick(&wordings)
            .replace("{a}", &names.0)
            .replace("{b}", &names.1);
        let thought = running_totals(&[first.price, second.price], self.decimals);
        questions.push(
            ask(Kind::Sum, question, self.plain(first.price + second.price)).thinking(thought),
        );
    }

    fn ask_comparisons(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let listing: Vec<String> = self.items.iter().map(|item| self.pair(item)).collect();
        let listing = listing.join(", ");
        let dearest: &[&str] = &[
            "Which item is the most expensive?",
            "What is the most expensive item?",
            "Which item costs the most?",
        ];
        let cheapest: &[&str] = &[
            "Which item is the cheapest?",
            "What is the cheapest item?",
            "Which item costs the least?",
        ];
        let ends = [
            (
                self.items.iter().map(|item| item.price).max(),
                dearest,
                "highest",
                "哪个最贵？",
            ),
            (
                self.items.iter().map(|item| item.price).min(),
                cheapest,
                "lowest",
                "哪个最便宜？",
            ),
        ];
        for (price, wordings, word, chinese) in ends {
            let found: Vec<&Item> = self
                .items
                .iter()
                .filter(|item| Some(item.price) == price)
                .collect();
            if let [item] = found[..] {
                let thought = format!("{listing}; {word} {}", self.plain(item.price));
                let question = if self.chinese && random.chance(0.5) {
                    chinese
                } else {
                    random.pick(wordings)
                };
                questions.push(ask(Kind::Compare, question, item.name.clone()).thinking(thought));
            }
        }
        let pair = (
            random.below(self.items.len()),
            random.below(self.items.len()),
        );
        let (first, second) = (&self.items[pair.0], &self.items[pair.1]);
        if first.price != second.price {
            let names = (typed(random, &first.name), typed(random, &second.name));
            let dearer = random.chance(0.5);
            let wordings = if dearer {
                [
                    "Which is more expensive, the {a} or the {b}?",
                    "What costs more, the {a} or the {b}?",
                ]
            } else {
                [
                    "Which is cheaper, the {a} or the {b}?",
                    "What costs less, the {a} or the {b}?",
                ]
            };
            let question = random
                .pick(&wordings)
                .replace("{a}", &names.0)
                .replace("{b}", &names.1);
            let answer = if (first.price > second.price) == dearer {
                first
            } else {
                second
            };
            let thought = format!("{}, {}", self.pair(first), self.pair(second));
            questions.push(ask(Kind::Compare, question, answer.name.clone()).thinking(thought));
        }
    }

    fn ask_names(&self, random: &mut Random, questions: &mut Vec<Question>) {
        let wordings = [
            "How many items are there?",
            "How many items are on the {}?",
            "How many different items are listed?",
        ];
        let numbered: Vec<String> = self
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| format!("{} {}", index + 1, item.name))
            .collect();
        let count = ask(
            Kind::Count,
            worded(random, &wordings, self.noun),
            self.items.len().to_string(),
        );
        questions.push(count.thinking(numbered.join(", ")));
        if let (Some(name), "receipt") = (self.header.first(), self.noun) {
            let wordings = [
                "What is the name of the shop?",
                "Which shop is it?",
                "What is the shop called?",
                "Where was it bought?",
            ];
            let thought = format!("shop {name}");
            questions.push(ask(Kind::Read, random.pick(&wordings), name.clone()).thinking(thought));
        } else if let Some(title) = self.header.first() {
            let wordings = [
                "What is the title?",
                "What is the heading?",
                "What does the title say?",
            ];
            let thought = format!("title {title}");
            questions
                .push(ask(Kind::Read, random.pick(&wordings), title.clone()).thinking(thought));
        }
        if let Some(date) = &self.date {
            let wordings = [
                "What is the date?",
                "What is the date on the {}?",
                "When was it?",
            ];
            let question = worded(random, &wordings, self.noun);
            let thought = format!("date {date}");
            questions.push(ask(Kind::Read, question, date.clone()).thinking(thought));
        }
        let index = random.below(self.items.len());
        let wordings = ["What is item {}?", "What is the name of item {}?"];
        let question = worded(random, &wordings, &(index + 1).to_string());
        let thought = numbered[..=index].join(", ");
        let answer = self.items[index].name.clone();
        questions.push(ask(Kind::Transcribe, question, answer).thinking(thought));
        if let [first, second, ..] = &self.items[index..] {
            let wordings = [
                "What comes after {}?",
                "Which item comes after {}?",
                "What is listed below {}?",
            ];
            let name = typed(random, &first.name);
            let question = worded(random, &wordings, &name);
            let thought = format!("{}, {}", first.name, second.name);
            questions.push(ask(Kind::Transcribe, question, second.name.clone()).thinking(thought));
        }
        questions.push(ask(
            Kind::Transcribe,
            "What is the first item?",
            self.items[0].name.clone(),
        ));
    }
}
