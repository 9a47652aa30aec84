//! `bluelm completions`: what a shell needs to complete our command lines.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

/// Arguments of `bluelm completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bluelm completions bash > ~/.local/share/bash-completion/completions/bluelm
  bluelm completions zsh  > ~/.zfunc/_bluelm
  bluelm completions fish > ~/.config/fish/completions/bluelm.fish")]
pub struct CompletionsArguments {
    /// Your shell
    shell: Shell,
}

/// Runs the command.
pub fn run(arguments: CompletionsArguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut crate::command_line(),
        "bluelm",
        &mut script,
    );
    Ok(std::io::stdout().write_all(&script)?)
}
