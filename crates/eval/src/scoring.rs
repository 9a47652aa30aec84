//! Whether a reply is right.

/// Whether a reply says what was expected.
///
/// Both are trimmed and compared without regard to case. If both are numbers, their values are compared, exactly:
/// "3.50" is "3.5", "+3" is "3". A number may begin with a currency sign ("$3.50" is "3.5") and have commas between
/// thousands ("1,234.50"). Two currency signs must be the same. A number that begins with a zero before another digit
/// ("007") is a code and compared as text, as are "50%" and "12:30".
pub fn is_right(reply: &str, expected: &str) -> bool {
    let (reply, expected) = (reply.trim(), expected.trim());
    match (Number::parse(reply), Number::parse(expected)) {
        (Some(reply), Some(expected)) => reply.equals(&expected),
        _ => reply.to_lowercase() == expected.to_lowercase(),
    }
}

/// A decimal number in its shortest form, so that equality is exact at any length.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    currency: Option<char>,
    negative: bool,
    /// Without zeros in front; empty for zero.
    whole: String,
    /// Without zeros at the end.
    fraction: String,
}

impl Number {
    /// The number that a text is as a whole, if it is one.
    fn parse(text: &str) -> Option<Number> {
        let (first_sign, rest) = sign(text);
        let (currency, rest) = currency(rest);
        // "-$3" and "$-3" are both written.
        let (second_sign, rest) = if currency.is_some() {
            sign(rest.trim_start())
        } else {
            (None, rest)
        };
        if first_sign.is_some() && second_sign.is_some() {
            return None;
        }
        let (whole, fraction) = match rest.split_once('.') {
            Some((whole, fraction)) if are_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (rest, ""),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = without_commas(whole)?;
        if whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Number {
            currency,
            negative: first_sign.or(second_sign).unwrap_or(false) && !is_zero,
            whole,
            fraction,
        })
    }

    fn equals(&self, other: &Number) -> bool {
        let same_currency = match (self.currency, other.currency) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same_currency
            && (self.negative, &self.whole, &self.fraction)
                == (other.negative, &other.whole, &other.fraction)
    }
}

/// Whether it is negative, if there is a sign, and the rest.
fn sign(text: &str) -> (Option<bool>, &str) {
    let mut letters = text.chars();
    match letters.next() {
        Some('-' | '\u{2212}') => (Some(true), letters.as_str()),
        Some('+') => (Some(false), letters.as_str()),
        _ => (None, text),
    }
}

fn currency(text: &str) -> (Option<char>, &str) {
    let mut letters = text.chars();
    match letters.next() {
        // The full-width yen sign is the same currency.
        Some('\u{ffe5}') => (Some('¥'), letters.as_str().trim_start()),
        Some(sign @ ('$' | '€' | '£' | '¥')) => (Some(sign), letters.as_str().trim_start()),
        _ => (None, text),
    }
}

/// Digits without the commas between thousands; nothing if they stand elsewhere.
fn without_commas(text: &str) -> Option<String> {
    if !text.contains(',') {
        return (text.is_empty() || are_digits(text)).then(|| text.to_owned());
    }
    let mut groups = text.split(',');
    let first = groups.next().unwrap_or_default();
    if !(1..=3).contains(&first.len()) || !are_digits(first) {
        return None;
    }
    let mut digits = first.to_owned();
    for group in groups {
        if group.len() != 3 || !are_digits(group) {
            return None;
        }
        digits.push_str(group);
    }
    Some(digits)
}

/// At least one digit and nothing else.
fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_compared_without_case_and_outer_space() {
        for (reply, expected) in [
            (" Green tea\n", "green TEA"),
            ("ÄRGER", "ärger"),
            ("出口", "出口"),
            ("12:30", "12:30"),
            ("007", "007"),
            ("50%", "50%"),
        ] {
            assert!(is_right(reply, expected), "{reply} {expected}");
        }
        for (reply, expected) in [
            ("green  tea", "green tea"),
            ("green tea.", "green tea"),
            ("", "a"),
            ("the total is 12", "12"),
        ] {
            assert!(!is_right(reply, expected), "{reply} {expected}");
        }
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for (reply, expected) in [
            ("3.50", "3.5"),
            ("3.00", "3"),
            ("$3.50", "3.5"),
            ("3.5", "€ 3.50"),
            ("￥12", "¥12.00"),
            ("1,234.50", "1234.5"),
            ("1,234,567", "1234567"),
            ("-$4", "$-4.0"),
            ("\u{2212}4", "-4"),
            ("+7", "7"),
            (".5", "0.50"),
            ("-0", "0"),
            ("100000000000000000000.1", "100000000000000000000.10"),
        ] {
            assert!(is_right(reply, expected), "{reply} {expected}");
            assert!(is_right(expected, reply), "{expected} {reply}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_wrong() {
        for (reply, expected) in [
            ("3.5", "3.05"),
            ("35", "3.5"),
            ("-3", "3"),
            ("$3", "€3"),
            ("007", "7"),
            ("1,23", "123"),
            ("12,3456", "123456"),
            (",123", "123"),
            ("50%", "50"),
            ("3.", "3"),
            ("1e2", "100"),
            ("--3", "3"),
            ("-$-3", "3"),
            ("$", "0"),
            ("100000000000000000000.1", "100000000000000000000.2"),
            ("inf", "infinity"),
        ] {
            assert!(!is_right(reply, expected), "{reply} {expected}");
            assert!(!is_right(expected, reply), "{expected} {reply}");
        }
    }

    proptest! {
        #[test]
        fn anything_equals_itself_and_order_does_not_matter(one in "\\PC{0,12}", other in "\\PC{0,12}") {
            prop_assert!(is_right(&one, &one));
            prop_assert_eq!(is_right(&one, &other), is_right(&other, &one));
        }

        #[test]
        fn an_amount_equals_itself_in_any_notation(hundredths in 0u64..10_000_000, different in 1u64..1000) {
            let amount = |value: u64| format!("{}.{:02}", value / 100, value % 100);
            let with_commas = {
                let digits = (hundredths / 100).to_string();
                let mut text = String::new();
                for (index, digit) in digits.chars().enumerate() {
                    if index > 0 && (digits.len() - index).is_multiple_of(3) {
                        text.push(',');
                    }
                    text.push(digit);
                }
                format!("${text}.{:02}", hundredths % 100)
            };
            let plain = amount(hundredths);
            prop_assert!(is_right(&plain, &with_commas));
            prop_assert!(!is_right(&amount(hundredths + different), &with_commas));
            prop_assert_eq!(is_right(&plain, &(hundredths / 100).to_string()), hundredths.is_multiple_of(100));
        }
    }
}
