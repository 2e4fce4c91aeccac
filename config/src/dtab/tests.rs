//! The laws of the language, and examples of each rule.

mod binding;
mod laws;
mod limits;
mod printing;
mod tables;
