//! What depends on whether a terminal is there: colours, and keeping control characters away from it.

use std::borrow::Cow;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Effects, Style};

/// Styles for one stream, all empty where there are no colours. `{style}` begins one, `{style:#}` ends it.
pub struct Styles {
    /// `error:`
    pub error: Style,
    /// `hint:`
    pub hint: Style,
    /// Thoughts and statistics.
    pub dim: Style,
    /// What to look at first.
    pub strong: Style,
}

/// Styles for standard error.
pub fn styles_of_stderr() -> Styles {
    styles(std::io::stderr().is_terminal())
}

/// Styles for standard output.
pub fn styles_of_stdout() -> Styles {
    styles(std::io::stdout().is_terminal())
}

/// Colours only on a terminal, and never when NO_COLOR says no (<https://no-color.org>).
fn styles(is_terminal: bool) -> Styles {
    let wanted = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if !wanted {
        let none = Style::new();
        return Styles {
            error: none,
            hint: none,
            dim: none,
            strong: none,
        };
    }
    let color = |color: AnsiColor| color.on_default().effects(Effects::BOLD);
    Styles {
        error: color(AnsiColor::Red),
        hint: color(AnsiColor::Cyan),
        dim: Style::new().effects(Effects::DIMMED),
        strong: Style::new().effects(Effects::BOLD),
    }
}

/// Text from a model for a terminal: control characters, which could move the cursor or worse, are made visible.
pub fn visible(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(bad) {
        Cow::Owned(
            text.chars()
                .map(|c| {
                    if bad(c) {
                        char::REPLACEMENT_CHARACTER
                    } else {
                        c
                    }
                })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_model_do_not_reach_the_terminal() {
        assert_eq!(
            visible("a\u{1b}[2Jb\r\n\tc\u{9b}"),
            "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}"
        );
        assert!(matches!(visible("plain\n"), Cow::Borrowed(_)));
    }
}
