//! `check`: is there an update, which way would it go, what would it cost.

use crate::cli::args::{Check, Global, ManifestKind};
use crate::cli::managed::Managed;
use crate::cli::output::Output;
use crate::cli::{following, service};
use crate::error::Error;

pub(super) fn run(asked: &Check, global: &Global, output: &Output) -> Result<(), Error> {
    let managed = Managed::of(global)?;
    let carriers = service::carriers(&asked.web)?;
    let strategy = match asked.way.manifest {
        ManifestKind::Service => service::decide(&asked.way, &asked.web, &asked.arch, &managed, &carriers)?.strategy,
        ManifestKind::Repository => {
            let bundle = following::bundle(&asked.way.from)?;
            let source = (bundle.as_ref(), &carriers);
            let follower = following::follower((&asked.way, &asked.web), &asked.arch, asked.allow_downgrade, source)?;
            let look = follower.look(&|| managed.open(), &())?;
            following::tell(&look, output);
            look.strategy
        }
    };
    service::tell(&strategy, output);
    output.result(&strategy);
    Ok(())
}
