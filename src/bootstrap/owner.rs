//! Whose data directory it is.

use super::StartError;
use super::founding::found;
use crate::config;
use crate::ids::MemberId;
use crate::proto::log::Member;
use crate::storage::directory::DataDirectory;

/// As far as the flags alone tell: an engine that has been opened may have made tables of its journals. They tell of the members
/// that the cluster began with.
pub(super) fn check_owner_by_flags(
    config: &config::Server,
    directory: &DataDirectory,
) -> Result<(), StartError> {
    let listed = config.initial_cluster().ok();
    let configured = listed.and_then(|listed| found(config, &listed).ok());
    match (directory.identity()?, configured) {
        (Some(identity), Some(configured)) if configured.identity.cluster == identity.cluster => {
            check_owner(config, directory, identity.member, &configured.initial.members)
        }
        _ => Ok(()),
    }
}

/// The flags of a first start count no more, but those that name another member of the same cluster are no oversight: the
/// wrong disk is in this machine. Under its owner's name the others would look for it elsewhere. Members among whom the owner is
/// not say nothing of it: it came after them.
pub(super) fn check_owner(
    config: &config::Server,
    directory: &DataDirectory,
    owner: MemberId,
    members: &[Member],
) -> Result<(), StartError> {
    let is_configured = |member: &&Member| {
        let mut urls = config.initial_advertise_peer_urls.iter();
        urls.any(|url| member.peer_urls.iter().any(|known| known == url.as_str()))
    };
    let configured: Vec<_> = members
        .iter()
        .filter(is_configured)
        .map(|member| MemberId(member.id))
        .collect();
    let is_among_them = members.iter().any(|member| member.id == owner.0);
    match configured.first() {
        Some(other) if is_among_them && !configured.contains(&owner) => Err(StartError::AnothersDirectory {
            path: directory.path().display().to_string(),
            owner,
            configured: *other,
        }),
        _ => Ok(()),
    }
}
