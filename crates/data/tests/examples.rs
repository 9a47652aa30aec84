//! What every example must keep: answers that follow from what is drawn, marks inside of the picture, sizes in range.

use std::collections::BTreeMap;

use data::{Example, Generator, Kind, MarkClass, Question, Recipe, SceneKind, Sign};

fn only(scene: SceneKind) -> Recipe {
    Recipe {
        scenes: BTreeMap::from([(scene, 1.0)]),
        ..Recipe::default()
    }
}

fn examples(recipe: Recipe, seed: u64, count: u64) -> impl Iterator<Item = Example> {
    let generator = Generator::new(seed, recipe).expect("a right recipe");
    (0..count).map(move |index| generator.example(index))
}

/// Questions of a kind with the text twins of their pictures.
fn questions(scene: SceneKind, kind: Kind) -> impl Iterator<Item = (String, Question)> {
    examples(only(scene), 11, 300).flat_map(move |example| {
        let twin = example.twin;
        example
            .questions
            .into_iter()
            .filter(move |question| question.kind == kind)
            .map(move |question| (twin.clone(), question))
    })
}

/// FNV-1a: a checksum that everybody can write down.
fn checksum(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_every_machine() {
    let mut lines = Vec::new();
    for scene in SceneKind::ALL {
        for (index, example) in examples(only(scene), 2024, 4).enumerate() {
            let picture = &example.picture;
            let pixels = checksum(picture.rgb.iter().copied());
            let text = format!("{:?}{}{:?}", example.questions, example.twin, example.marks);
            let (width, height) = (picture.width, picture.height);
            let text = checksum(text.into_bytes());
            lines.push(format!(
                "{scene:?} {index} {width}x{height} {pixels:016x} {text:016x}"
            ));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_example_does_not_depend_on_what_was_drawn_before() {
    let generator = Generator::new(5, Recipe::default()).expect("a right recipe");
    let forwards: Vec<_> = (0..20)
        .map(|index| generator.example(index).picture.rgb)
        .collect();
    for index in (0..20).rev() {
        let alone = std::thread::scope(|scope| {
            let drawn = scope.spawn(|| generator.example(index).picture.rgb);
            drawn.join().expect("no panic")
        });
        assert!(forwards[index as usize] == alone, "example {index}");
    }
}

#[test]
fn pictures_and_marks_stay_in_their_bounds() {
    for scene in SceneKind::ALL {
        let easy = Recipe {
            scenes: only(scene).scenes,
            ..Recipe::easy(128)
        };
        let middle = Recipe {
            canvas: 256,
            max_side: 256,
            ..only(scene)
        };
        for recipe in [only(scene), middle, easy] {
            let (least, most) = (recipe.min_side, recipe.max_side);
            for (index, example) in examples(recipe, 3, 300).enumerate() {
                let (width, height) = (example.picture.width, example.picture.height);
                let name = format!("{scene:?} {index}: {width}x{height}");
                assert_eq!(
                    example.picture.rgb.len(),
                    (width * height * 3) as usize,
                    "{name}"
                );
                let (short, long) = (width.min(height), width.max(height));
                assert!(short * 4 >= long, "{name}");
                assert!(long >= least.min(most) && long <= most, "{name}");
                assert!(!example.marks.is_empty(), "{name}");
                for mark in &example.marks {
                    assert!(
                        mark.x0 >= 0.0 && mark.x1 <= width as f32 && mark.x0 < mark.x1,
                        "{name} {mark:?}"
                    );
                    assert!(
                        mark.y0 >= 0.0 && mark.y1 <= height as f32 && mark.y0 < mark.y1,
                        "{name} {mark:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_example_asks_something_and_never_the_same_with_two_answers() {
    for example in examples(Recipe::default(), 8, 1500) {
        let mut answers = BTreeMap::new();
        assert!(
            !example.questions.is_empty() || example.scene == SceneKind::Glyphs,
            "{:?}",
            example.scene
        );
        for question in &example.questions {
            assert!(!question.answer.trim().is_empty(), "{question:?}");
            assert_eq!(question.answer.trim(), question.answer, "{question:?}");
            assert_ne!(question.thought.as_deref(), Some(""), "{question:?}");
            let before = answers.insert(question.question.to_lowercase(), question.answer.clone());
            assert_eq!(before, None, "{question:?}");
        }
    }
}

#[test]
fn every_drawn_text_is_marked_glyph_by_glyph() {
    for scene in [
        SceneKind::Words,
        SceneKind::Sign,
        SceneKind::Receipt,
        SceneKind::Table,
    ] {
        for example in examples(only(scene), 6, 100) {
            let mut drawn: BTreeMap<char, usize> = BTreeMap::new();
            for mark in &example.marks {
                if let MarkClass::Glyph(character) = mark.class {
                    *drawn.entry(character).or_default() += 1;
                }
            }
            let mut expected: BTreeMap<char, usize> = BTreeMap::new();
            // Tables separate cells by bars in the twin only.
            for character in example
                .twin
                .chars()
                .filter(|&character| !character.is_whitespace() && character != '|')
            {
                *expected.entry(character).or_default() += 1;
            }
            for (character, count) in expected {
                assert!(
                    drawn.get(&character).is_some_and(|&drawn| drawn >= count),
                    "{scene:?} {character:?}: {}",
                    example.twin
                );
            }
        }
    }
}

/// Evaluates "a+b=c; c+d=e", checking each step; returns the last total.
fn follow(thought: &str) -> Option<(i64, bool)> {
    let hundredths = |text: &str| -> Option<(i64, bool)> {
        match text.split_once('.') {
            Some((whole, part)) if part.len() == 2 => Some((
                whole.parse::<i64>().ok()? * 100 + part.parse::<i64>().ok()?,
                true,
            )),
            Some(_) => None,
            None => Some((text.parse::<i64>().ok()? * 100, false)),
        }
    };
    let mut last = None;
    for step in thought.split("; ") {
        let (left, total) = step.split_once('=')?;
        let (first, second) = left.split_once('+')?;
        let (first, second, total) = (hundredths(first)?, hundredths(second)?, hundredths(total)?);
        if first.0 + second.0 != total.0 || last.is_some_and(|last| last != first) {
            return None;
        }
        last = Some(total);
    }
    last
}

#[test]
fn every_sum_follows_from_its_thought() {
    let mut seen = 0;
    for scene in [
        SceneKind::Receipt,
        SceneKind::Menu,
        SceneKind::Table,
        SceneKind::Bars,
    ] {
        for (_, question) in questions(scene, Kind::Sum) {
            let thought = question.thought.as_deref().expect("sums are thought about");
            let (total, decimals) = follow(thought).unwrap_or_else(|| panic!("{question:?}"));
            let answer = if decimals {
                format!("{}.{:02}", total / 100, total % 100)
            } else {
                (total / 100).to_string()
            };
            assert_eq!(answer, question.answer);
            seen += 1;
        }
    }
    assert!(seen > 1000, "{seen}");
}

#[test]
fn a_look_up_answers_with_an_amount_that_stands_beside_the_name() {
    let mut seen = 0;
    for (twin, question) in questions(SceneKind::Menu, Kind::Lookup) {
        let thought = question
            .thought
            .as_deref()
            .expect("look-ups have a thought");
        let (name, price) = thought.rsplit_once(' ').expect("a name and a price");
        let line = twin
            .lines()
            .find(|line| line.contains(name) && line.contains(price));
        assert!(line.is_some(), "{thought} in {}", twin);
        assert!(
            question.answer == price || question.answer == name,
            "{question:?}"
        );
        assert!(
            question.answer != price
                || price
                    .chars()
                    .all(|character| character.is_ascii_digit() || character == '.')
        );
        seen += 1;
    }
    assert!(seen > 500, "{seen}");
}

#[test]
fn comparisons_of_prices_have_one_winner() {
    for (_, question) in questions(SceneKind::Receipt, Kind::Compare) {
        let thought = question
            .thought
            .as_deref()
            .expect("comparisons are thought about");
        let listing = thought.split(';').next().unwrap_or(thought);
        let pairs: Vec<(&str, f64)> = listing
            .split(", ")
            .map(|pair| {
                let (name, price) = pair.rsplit_once(' ').expect("a name and a price");
                (name, price.parse().expect("a number"))
            })
            .collect();
        let low = ["cheap", "least", "less", "便宜"]
            .iter()
            .any(|word| question.question.contains(word));
        let end = pairs
            .iter()
            .map(|pair| if low { -pair.1 } else { pair.1 })
            .fold(f64::MIN, f64::max);
        let winners: Vec<_> = pairs
            .iter()
            .filter(|pair| (if low { -pair.1 } else { pair.1 }) == end)
            .collect();
        assert_eq!(winners.len(), 1, "{question:?}");
        assert_eq!(winners[0].0, question.answer, "{question:?}");
    }
}

#[test]
fn a_printed_total_is_the_last_number_of_its_line() {
    let mut seen = 0;
    for (twin, question) in questions(SceneKind::Receipt, Kind::Total) {
        assert!(
            twin.lines().any(|line| line.contains(&question.answer)),
            "{question:?}"
        );
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn counts_of_shapes_equal_the_marks_and_their_thoughts_count_along() {
    let mut zero = 0;
    for example in examples(only(SceneKind::Shapes), 21, 500) {
        let shapes: Vec<(String, String)> = example
            .marks
            .iter()
            .filter_map(|mark| match mark.class {
                MarkClass::Shape { shape, color } => {
                    Some((shape.plural().to_owned(), color.name().to_owned()))
                }
                MarkClass::Glyph(_) | MarkClass::Sign(_) => None,
            })
            .collect();
        for question in example
            .questions
            .iter()
            .filter(|question| question.kind == Kind::Count && !question.question.contains("color"))
        {
            let words: Vec<&str> = question
                .question
                .trim_end_matches(['?', '.'])
                .split(' ')
                .collect();
            let color = words
                .iter()
                .find(|word| data::Color::ALL.iter().any(|color| color.name() == **word));
            let shape = words.iter().find(|word| {
                data::Shape::ALL
                    .iter()
                    .any(|shape| shape.plural() == **word)
            });
            let count = shapes
                .iter()
                .filter(|(plural, name)| {
                    shape.is_none_or(|shape| shape == plural)
                        && color.is_none_or(|color| color == name)
                })
                .count();
            assert_eq!(
                question.answer,
                count.to_string(),
                "{question:?} in {}",
                example.twin
            );
            zero += usize::from(count == 0);
            let thought = question.thought.as_deref().unwrap_or_default();
            let counted: Vec<&str> = thought.split(", ").collect();
            let names = counted
                .iter()
                .map(|thing| thing.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' '));
            assert_eq!(names.collect::<Vec<_>>().join(", "), example.twin);
            let numbers: Vec<usize> = counted
                .iter()
                .filter_map(|thing| thing.rsplit(' ').next()?.parse().ok())
                .collect();
            assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "{thought}");
        }
    }
    assert!(zero > 50, "absent shapes are asked for, too: {zero}");
}

#[test]
fn shapes_never_overlap() {
    for example in examples(
        Recipe {
            noise: 0.0,
            ..only(SceneKind::Shapes)
        },
        4,
        300,
    ) {
        for (index, first) in example.marks.iter().enumerate() {
            for second in &example.marks[index + 1..] {
                let apart = first.x1 <= second.x0 + 1.5
                    || second.x1 <= first.x0 + 1.5
                    || first.y1 <= second.y0 + 1.5
                    || second.y1 <= first.y0 + 1.5;
                assert!(apart, "{first:?} {second:?}");
            }
        }
    }
}

#[test]
fn the_issue_s_wordings_are_all_asked() {
    let wanted = [
        "What does the sign say?",
        "What is the total?",
        "What do all items cost together?",
        "Which item is the most expensive?",
        "Which bar is the highest?",
        "What is the value of March?",
        "How many red circles are there?",
    ];
    let mut missing: Vec<&str> = wanted.to_vec();
    let mut cells = false;
    for example in examples(Recipe::default(), 1, 20_000) {
        if missing.is_empty() && cells {
            return;
        }
        for question in &example.questions {
            missing.retain(|wording| *wording != question.question);
            cells |= question.question == "What is in row 3, column Price?";
        }
    }
    panic!("never asked: {missing:?}, or the cell: {cells}");
}

#[test]
fn a_recipe_that_cannot_be_used_says_which_field() {
    let cases = [
        Recipe {
            noise: 2.0,
            ..Recipe::default()
        },
        Recipe {
            scenes: BTreeMap::new(),
            ..Recipe::default()
        },
        Recipe {
            min_line_height: 50.0,
            ..Recipe::default()
        },
        Recipe {
            max_side: 8,
            ..Recipe::default()
        },
        Recipe {
            fonts: vec!["Comic".to_owned()],
            ..Recipe::default()
        },
        Recipe {
            max_items: 0,
            ..Recipe::default()
        },
    ];
    let messages: Vec<String> = cases
        .into_iter()
        .map(|recipe| {
            Generator::new(0, recipe)
                .expect_err("a wrong recipe")
                .to_string()
        })
        .collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_recipe_in_a_file_names_only_what_differs() {
    let text = r#"{"scenes": {"receipt": 2, "sign": 1}, "noise": 0.1}"#;
    let recipe: Recipe = serde_json::from_str(text).expect("a recipe");
    let weights = BTreeMap::from([(SceneKind::Receipt, 2.0), (SceneKind::Sign, 1.0)]);
    assert_eq!(
        recipe,
        Recipe {
            scenes: weights,
            noise: 0.1,
            ..Recipe::default()
        }
    );
    let error = serde_json::from_str::<Recipe>(r#"{"nose": 0.1}"#).expect_err("a wrong field");
    assert!(
        error.to_string().contains("unknown field `nose`"),
        "{error}"
    );
}

#[test]
fn boxes_and_bar_ends_are_marked_for_what_is_asked_about_them() {
    let signs = |example: &Example, sign| {
        let marks = example.marks.iter();
        marks
            .filter(|mark| mark.class == MarkClass::Sign(sign))
            .count()
            .to_string()
    };
    let mut asked = [0; 2];
    for (at, scene, question, sign) in [
        (0, SceneKind::Form, "checked?", Sign::Checked),
        (1, SceneKind::Bars, "How many bars", Sign::BarEnd),
    ] {
        for example in examples(only(scene), 4, 200) {
            let counts = example.questions.iter().filter(|q| {
                q.kind == Kind::Count
                    && q.question.starts_with("How many")
                    && q.question.contains(question)
            });
            for count in counts {
                assert_eq!(count.answer, signs(&example, sign), "{count:?}");
                asked[at] += 1;
            }
        }
    }
    assert!(asked.iter().all(|count| *count > 20), "{asked:?}");
}

#[test]
fn sums_are_right_with_and_without_a_picture() {
    let generator = Generator::new(9, only(SceneKind::Sums)).expect("a right recipe");
    let hundredths = |text: &str| {
        let (whole, part) = text.split_once('.').unwrap_or((text, "00"));
        let number = |text: &str| text.parse::<i64>().expect("digits");
        number(whole) * 100 + number(part)
    };
    let mut checked = 0;
    for index in 0..50 {
        let example = generator.example(index);
        for (questions, twin) in [(example.questions, example.twin), generator.text(index)] {
            for question in questions.iter().filter(|q| q.kind == Kind::Sum) {
                let words = question.question.trim_end_matches(['?', '.']);
                let row = match words.rsplit_once("line ") {
                    Some((_, number)) => {
                        let line = number.parse::<usize>().expect("a line's number") - 1;
                        twin.lines().nth(line).expect("that line").to_owned()
                    }
                    None => words.replace(" and ", "+"),
                };
                let terms = row.split('+').map(|term| {
                    let at = term.find(|c: char| c.is_ascii_digit()).expect("an amount");
                    hundredths(term[at..].trim())
                });
                assert_eq!(
                    hundredths(&question.answer),
                    terms.sum::<i64>(),
                    "{question:?}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 300, "{checked}");
}
