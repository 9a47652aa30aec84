//! Words that appear in pictures, and strings that look like words, so that reading cannot be replaced by guessing.

use std::sync::LazyLock;

use crate::questions::capitalised;
use crate::random::Random;

/// Declares lists of words, one word or phrase per line of a file in `words/`.
macro_rules! word_lists {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) static $name: LazyLock<Vec<&str>> =
            LazyLock::new(|| include_str!(concat!("../words/", $file)).lines().collect());
    )*};
}

word_lists! {
    /// Common English words; see `words/english-licence.txt`.
    ENGLISH = "english.txt";
    /// Things that are sold.
    GOODS = "goods.txt";
    /// Short texts as they stand on signs.
    SIGNS = "signs.txt";
    /// Parts of shop names.
    SHOPS = "shops.txt";
    /// First names.
    FIRST_NAMES = "first_names.txt";
    /// Family names.
    FAMILY_NAMES = "family_names.txt";
    /// Cities.
    CITIES = "cities.txt";
    /// Subjects, sports, animals and others that tables and charts count.
    SUBJECTS = "subjects.txt";
    /// Labels of fields in forms.
    FORM_FIELDS = "form_fields.txt";
    /// What can be checked or switched on in forms.
    FORM_CHOICES = "form_choices.txt";
    /// What stands on buttons.
    FORM_BUTTONS = "form_buttons.txt";
    /// Headings of forms and windows.
    FORM_TITLES = "form_titles.txt";
}

/// Sections of `words/chinese.txt`: goods, signs, the rest.
static CHINESE: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    let mut sections = vec![Vec::new()];
    for line in include_str!("../words/chinese.txt")
        .lines()
        .filter(|line| !line.is_empty())
    {
        if line.starts_with('#') {
            sections.push(Vec::new());
        } else if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    sections
});

/// Chinese names of goods.
pub(crate) fn chinese_goods() -> &'static [&'static str] {
    &CHINESE[0]
}

/// Chinese texts of signs.
pub(crate) fn chinese_signs() -> &'static [&'static str] {
    &CHINESE[1]
}

/// Months in full.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Days of the week.
pub(crate) const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// An English word in small letters.
pub(crate) fn word(random: &mut Random) -> &'static str {
    random.pick(ENGLISH.as_slice())
}

/// A word that does not exist but could: syllables of consonants and vowels.
pub(crate) fn pseudo_word(random: &mut Random) -> String {
    const STARTS: [&str; 30] = [
        "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "qu", "r", "s", "t", "v", "w",
        "x", "y", "z", "st", "tr", "br", "ch", "sh", "pl", "gr", "fl", "",
    ];
    const MIDDLES: [&str; 12] = [
        "a", "e", "i", "o", "u", "ai", "ee", "oo", "ou", "ea", "y", "io",
    ];
    const ENDS: [&str; 16] = [
        "", "", "", "n", "r", "s", "t", "l", "m", "nd", "rk", "st", "x", "p", "ck", "z",
    ];
    const RUDE: [&str; 8] = ["poo", "pee", "shit", "fuck", "cun", "dick", "piss", "nig"];
    let mut text = String::new();
    for _ in 0..random.between(1, 3) {
        text.push_str(random.pick(&STARTS));
        text.push_str(random.pick(&MIDDLES));
        text.push_str(random.pick(&ENDS));
    }
    // Syllables that begin ugly words are replaced as a whole; a few harmless ones go with them.
    RUDE.iter()
        .fold(text, |text, rude| text.replace(rude, "la"))
}

/// Random letters and digits, such as codes have.
pub(crate) fn code(random: &mut Random, length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let range = match random.below(4) {
        0 => 0..26,
        1 => 26..52,
        2 => 0..62,
        _ => 52..62,
    };
    (0..length)
        .map(|_| char::from(random.pick(&LETTERS[range.clone()])))
        .collect()
}

/// A word, an invented word or a name, in some case.
pub(crate) fn any_word(random: &mut Random) -> String {
    let text = match random.weighted(&[0.5, 0.3, 0.1, 0.1]) {
        0 => word(random).to_owned(),
        1 => pseudo_word(random),
        2 => (random.pick(&FIRST_NAMES)).to_owned(),
        _ => (random.pick(&CITIES)).to_owned(),
    };
    cased(random, &text)
}

/// The text in small letters, capitalised or in capitals, or as it is.
pub(crate) fn cased(random: &mut Random, text: &str) -> String {
    match random.below(4) {
        0 => text.to_lowercase(),
        1 => capitalised(text),
        2 => text.to_uppercase(),
        _ => text.to_owned(),
    }
}

/// Something with digits: a price, a date, a time, a telephone number, a percentage.
pub(crate) fn number_text(random: &mut Random) -> String {
    let below = |random: &mut Random, limit: usize| random.below(limit);
    match random.below(12) {
        0 => format!("{}.{:02}", below(random, 1000), below(random, 100)),
        1 => format!("${}.{:02}", below(random, 200), below(random, 100)),
        2 => date(random),
        3 => time(random),
        4 => format!("{:03}-{:04}", below(random, 1000), below(random, 10000)),
        5 => format!(
            "+{} {} {}",
            1 + below(random, 90),
            100 + below(random, 900),
            1000 + below(random, 9000)
        ),
        6 => format!("{}%", below(random, 101)),
        7 => format!("#{}", below(random, 10000)),
        8 => format!("{} €", below(random, 500)),
        9 => format!(
            "{}{}",
            random.pick(&['£', '¥', '€', '$']),
            below(random, 1000)
        ),
        10 => format!("{}x{}", 1 + below(random, 20), 1 + below(random, 99)),
        _ => below(random, 100_000).to_string(),
    }
}

/// A date in one of the common orders.
pub(crate) fn date(random: &mut Random) -> String {
    let (day, month, year) = (
        random.between(1, 28),
        random.between(1, 12),
        random.between(1998, 2030),
    );
    match random.below(5) {
        0 => format!("{year}-{month:02}-{day:02}"),
        1 => format!("{day:02}.{month:02}.{year}"),
        2 => format!("{day:02}/{month:02}/{}", year % 100),
        3 => format!("{} {day}, {year}", &MONTHS[month - 1][..3]),
        _ => format!("{day} {} {year}", MONTHS[month - 1]),
    }
}

/// A time of the day.
pub(crate) fn time(random: &mut Random) -> String {
    let (hour, minute) = (random.between(0, 23), random.between(0, 59));
    if random.chance(0.7) {
        format!("{hour:02}:{minute:02}")
    } else {
        format!(
            "{}:{minute:02} {}",
            1 + hour % 12,
            random.pick(&["AM", "PM", "am", "pm"])
        )
    }
}

/// Distinct names of goods: mostly real ones, some of two words, some invented; no name twice in any case.
pub(crate) fn goods(random: &mut Random, count: usize) -> Vec<String> {
    let invented = random.chance(0.25);
    distinct(random, count, |random| {
        match random.weighted(if invented {
            &[0.2, 0.1, 0.7]
        } else {
            &[0.8, 0.15, 0.05]
        }) {
            0 => (random.pick(&GOODS)).to_owned(),
            1 => {
                let adjective = random.pick(&[
                    "Big", "Small", "Large", "Fresh", "Hot", "Cold", "Mixed", "Fried", "House",
                    "Daily", "Red", "White",
                ]);
                let name = random.pick(&GOODS).to_lowercase();
                format!(
                    "{adjective} {}",
                    name.split(' ').next_back().unwrap_or(&name)
                )
            }
            _ => {
                let name = if random.chance(0.5) {
                    pseudo_word(random)
                } else {
                    word(random).to_owned()
                };
                capitalised(&name)
            }
        }
    })
}

/// Draws until `count` different texts are found; case does not make a difference.
pub(crate) fn distinct(
    random: &mut Random,
    count: usize,
    mut draw: impl FnMut(&mut Random) -> String,
) -> Vec<String> {
    let mut texts: Vec<String> = Vec::with_capacity(count);
    for _ in 0..count * 20 {
        if texts.len() == count {
            break;
        }
        let text = draw(random);
        if !text.is_empty() && !texts.iter().any(|known| known.eq_ignore_ascii_case(&text)) {
            texts.push(text);
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_word_can_be_drawn() {
        let lists: [&[&str]; 9] = [
            &GOODS,
            &SIGNS,
            &SHOPS,
            &MONTHS,
            &DAYS,
            &FIRST_NAMES,
            &FAMILY_NAMES,
            &CITIES,
            &SUBJECTS,
        ];
        for text in lists.concat().into_iter().chain(ENGLISH.iter().copied()) {
            for character in text.chars().filter(|&character| character != ' ') {
                assert!(
                    crate::fonts::can_draw(character),
                    "{character:?} in {text:?}"
                );
            }
        }
    }

    #[test]
    fn goods_are_never_named_twice() {
        for index in 0..300 {
            let names = goods(&mut Random::new(4, index), 12);
            let mut lower: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
            lower.sort();
            lower.dedup();
            assert_eq!(lower.len(), 12, "{names:?}");
        }
    }
}
