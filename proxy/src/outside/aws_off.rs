//! What stands for Amazon's signature in a build without the feature `aws`.

use std::sync::Arc;

use super::http::{Call, Clients};

/// Signs nothing.
#[derive(Debug)]
pub(super) struct Aws;

impl Aws {
    pub(super) fn new(_: Arc<Clients>) -> Self {
        Self
    }

    /// # Errors
    /// Always.
    pub(super) async fn sign(&self, _: &str, _: &str, _: &mut Call) -> Result<(), String> {
        Err(super::WITHOUT_AWS.into())
    }
}
