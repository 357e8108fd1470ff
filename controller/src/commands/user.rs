//! `ctl user issue`: a certificate for a person or a job.

use std::time::SystemTime;

use proto::identity::Role;

use crate::{
    cli::{UserCommand, UserRole},
    context::Context,
    error::Result,
    pki::DEFAULT_LIFETIME,
    render::Output,
};

/// Issues the certificate into the CA directory's `users`.
pub(super) fn user(context: &Context, command: &UserCommand, output: &Output) -> Result<()> {
    let UserCommand::Issue(args) = command;
    let role = match args.role {
        UserRole::Admin => Role::Admin,
        UserRole::Operator => Role::Operator,
        UserRole::Reader => Role::Reader,
        UserRole::Enroller => Role::Enroller,
    };
    let issued = context.fleet.issue_user(&args.name, role, DEFAULT_LIFETIME, SystemTime::now())?;
    let directory = context.directory.join(&context.config.fleet.ca);
    output.note(&format!("{} may act as {} for 12 hours: `ctl --as {0} …`", issued.user.name, args.name));
    output.note(&format!(
        "to use it elsewhere, copy fleet.json, host-ca.crt, user-ca.crt and users/{}.* of {}",
        args.name,
        directory.display()
    ));
    Ok(())
}
