//! A JSON Schema of the file, for editors.
//!
//! Hand-written, because its descriptions and its leniency are for people; a test holds its keys to those that the compiler
//! asks for, in both directions.

/// JSON Schema, draft 2020-12, of a main file and of a team file. It is about shape: what it lets through may still be
/// refused by the compiler, which knows what belongs together; what the compiler takes, it lets through.
pub const SCHEMA: &str = include_str!("schema/schema.json");

#[cfg(test)]
mod tests;
