//! `lycia run` and `lycia test`

use super::Context;
use crate::cli::{RunArgs, TestArgs};
use crate::error::Result;

pub fn run(context: &Context, args: &RunArgs) -> Result<()> {
    let _ = (context, args);
    Ok(())
}

pub fn test(context: &Context, args: &TestArgs) -> Result<()> {
    let _ = (context, args);
    Ok(())
}
