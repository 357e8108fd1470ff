//! The calls of `magpie.v1.Host` that claim, extend and release a host: [`crate::claim`] over gRPC.

use std::{sync::Arc, time::SystemTime};

use prost::Message;
use proto::{
    identity::User,
    pb::{Claim, ClaimRequest, ExtendRequest, ReleaseReply, ReleaseRequest},
};
use tonic::{Code, Status};

use super::runs::blocking;
use crate::{
    claim::{ClaimError, Store},
    run::unix_ms,
};

pub(super) async fn claim(store: Arc<Store>, user: User, request: ClaimRequest) -> Result<Claim, Status> {
    let claimed = blocking(move || store.claim(&request, &user.name, unix_ms(SystemTime::now()))).await?;
    let claim = claimed.map_err(status)?;
    tracing::info!(user = claim.user, id = claim.id, settled = claim.settled, "claimed");
    Ok(claim)
}

pub(super) async fn release(
    store: Arc<Store>,
    user: User,
    request: ReleaseRequest,
) -> Result<ReleaseReply, Status> {
    let had = blocking(move || store.release(&request.id)).await?.map_err(status)?;
    if let Some(claim) = &had {
        tracing::info!(user = user.name, id = claim.id, "released");
    }
    Ok(ReleaseReply { had })
}

pub(super) async fn extend(store: Arc<Store>, request: ExtendRequest) -> Result<Claim, Status> {
    blocking(move || store.extend(request.until_unix_ms)).await?.map_err(status)
}

/// The status details contain the current claim, so that the controller can show more than the message.
fn status(error: ClaimError) -> Status {
    let sentence = error.to_string();
    match error {
        ClaimError::Held(present) => {
            Status::with_details(Code::FailedPrecondition, sentence, present.encode_to_vec().into())
        }
        ClaimError::Nobody => Status::failed_precondition(sentence),
        ClaimError::Invalid(_) => Status::invalid_argument(sentence),
        ClaimError::File { .. } | ClaimError::Corrupt { .. } => Status::internal(sentence),
    }
}
