//! Asks an engine the questions in task files and scores the answers.
