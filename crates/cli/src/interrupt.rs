//! Ctrl-C: ends the program at once, unless the work in hand can end itself; a second Ctrl-C always does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use engine::Cancel;

/// Exit status of a program that was interrupted.
pub const EXIT_INTERRUPTED: u8 = 130;

static CANCEL: OnceLock<Cancel> = OnceLock::new();
/// Whether somebody watches the switch.
static COOPERATIVE: AtomicBool = AtomicBool::new(false);

/// Installs the handler; gives the switch that Ctrl-C throws.
pub fn install() -> anyhow::Result<&'static Cancel> {
    let cancel = CANCEL.get_or_init(Cancel::new);
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() || !COOPERATIVE.load(Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        cancel.cancel();
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(cancel)
}

/// While the value lives, Ctrl-C throws the switch instead of ending the program.
pub fn cooperate() -> Cooperation {
    COOPERATIVE.store(true, Ordering::SeqCst);
    Cooperation
}

/// See [`cooperate`].
pub struct Cooperation;

impl Drop for Cooperation {
    fn drop(&mut self) {
        COOPERATIVE.store(false, Ordering::SeqCst);
    }
}
