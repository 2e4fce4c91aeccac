//! What stands for CloudWatch in a build without the feature `aws`.

use super::super::http::{Call, Reply};
use super::{Query, QueryError};

pub(super) fn call(_: &Query, _: u64) -> Result<Call, QueryError> {
    Err(QueryError(super::super::WITHOUT_AWS.into()))
}

pub(super) fn value(_: &Reply) -> Result<Option<f64>, QueryError> {
    Err(QueryError(super::super::WITHOUT_AWS.into()))
}
