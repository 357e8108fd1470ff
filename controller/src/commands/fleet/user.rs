//! `ctl user issue`: a certificate for a person or a job.

use std::time::SystemTime;

use jiff::{Timestamp, tz::TimeZone};
use proto::identity::{Role, User};

use crate::{
    cli::{UserCommand, UserRole},
    context::Context,
    error::{Error, Result},
    render::Output,
};

/// Issues the certificate into the CA directory's `users`.
pub(in crate::commands) fn user(context: &Context, command: &UserCommand, output: &Output) -> Result<()> {
    let UserCommand::Issue(args) = command;
    let role = match args.role {
        UserRole::Admin => Role::Admin,
        UserRole::Operator => Role::Operator,
        UserRole::Reader => Role::Reader,
        UserRole::Enroller => Role::Enroller,
    };
    let issued = context.fleet.issue_user(&args.name, role, args.ttl, SystemTime::now())?;
    let end = Timestamp::try_from(issued.not_after).map_err(Error::invalid)?.to_zoned(TimeZone::system());
    let directory = context.directory.join(&context.config.fleet.ca);
    let User { name, role } = &issued.user;
    output.note(&format!(
        "issued a certificate for {name} ({role}), valid until {}: `ctl --as {name} …`",
        end.strftime("%Y-%m-%d %H:%M %Z")
    ));
    output.note(&format!(
        "to use it on another machine, copy fleet.json, host-ca.crt, user-ca.crt and users/{}.* from {}",
        args.name,
        directory.display()
    ));
    Ok(())
}
