//! Ends an answer at a stop string, also when the string comes in several tokens.

/// Watches the text of one answer; what may be the beginning of a stop string is held back until it is decided.
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    found: bool,
}

impl StopStrings {
    /// Empty stop strings are ignored.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .cloned()
            .collect();
        StopStrings {
            stops,
            held: String::new(),
            found: false,
        }
    }

    /// Takes more text; gives the text that is surely before any stop string.
    pub fn push(&mut self, text: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(text);
        // Of several stop strings the one that begins first counts.
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            self.found = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop string has come.
    pub fn found(&self) -> bool {
        self.found
    }

    /// What is still held back, when no more text comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that are the beginning of `pattern`, at most.
pub(crate) fn overlap(text: &str, pattern: &str) -> usize {
    (1..pattern.len())
        .rev()
        .find(|&count| pattern.is_char_boundary(count) && text.ends_with(&pattern[..count]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut watch = StopStrings::new(&stops);
        let mut shown: Vec<String> = pieces.iter().map(|piece| watch.push(piece)).collect();
        shown.push(watch.finish());
        (shown, watch.found())
    }

    #[test]
    fn a_stop_string_across_tokens_is_never_shown() {
        assert_eq!(
            run(&["END"], &["one E", "N", "D two"]),
            (["one ", "", "", ""].map(String::from).into(), true)
        );
    }

    #[test]
    fn text_that_only_began_like_a_stop_string_comes_out() {
        assert_eq!(
            run(&["END"], &["E", "N", "x"]),
            (["", "", "ENx", ""].map(String::from).into(), false)
        );
        assert_eq!(
            run(&["END"], &["an E"]),
            (["an ", "E"].map(String::from).into(), false)
        );
    }

    #[test]
    fn the_earliest_of_several_stop_strings_counts() {
        assert_eq!(
            run(&["c", "b"], &["abc"]),
            (["a", ""].map(String::from).into(), true)
        );
    }

    #[test]
    fn no_stop_strings_hold_nothing_back() {
        assert_eq!(
            run(&[""], &["a", "b"]),
            (["a", "b", ""].map(String::from).into(), false)
        );
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_text_gives(pieces in prop::collection::vec("[ab合]{0,3}", 0..8), stop in "[ab合]{1,4}") {
            let whole = pieces.concat();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (shown, found) = run(&[&stop], &pieces);
            prop_assert_eq!(found, whole.contains(&stop));
            prop_assert_eq!(shown.concat(), whole.split(&stop).next().unwrap());
        }
    }
}
