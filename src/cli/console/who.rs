//! Peers as people name them: by the whole id, or by its end, which is what messages show on a terminal.

use libp2p::PeerId;

/// Shortest end of an id that is taken; one in 200,000 ids has the same.
const MIN_END: usize = 3;

/// The peer that is meant by `typed`: any whole id, or the end of one of `candidates`.
///
/// # Errors
/// Words for the user.
pub(super) fn resolve(typed: &str, candidates: impl IntoIterator<Item = PeerId>) -> Result<PeerId, String> {
    if let Ok(peer) = typed.parse() {
        return Ok(peer);
    }
    if typed.len() < MIN_END {
        return Err(format!("{typed:?} is too short for the end of a peer id; /peers lists the peers"));
    }
    let mut fitting: Vec<PeerId> =
        candidates.into_iter().filter(|peer| peer.to_base58().ends_with(typed)).collect();
    fitting.sort_unstable();
    fitting.dedup();
    match fitting.as_slice() {
        [only] => Ok(*only),
        [] => {
            Err(format!("{typed:?} is neither a peer id nor the end of one that is known here; see /peers"))
        }
        several => Err(format!("{} peers have ids that end in {typed:?}; write more of it", several.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_id_or_the_end_of_it() {
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        let resolve = |typed: &str| resolve(typed, peers.iter().copied());
        let stranger = PeerId::random();
        assert_eq!(resolve(&stranger.to_base58()), Ok(stranger), "a whole id need not be known");
        let id = peers[2].to_base58();
        assert_eq!(resolve(&id[id.len() - 8..]), Ok(peers[2]));
        assert!(resolve(&id[id.len() - 2..]).unwrap_err().contains("too short"));
        assert!(resolve("nobody").unwrap_err().contains("neither"));
        assert!(super::resolve("", peers.iter().copied()).is_err());
        let twice = [peers[0], peers[0]];
        let id = peers[0].to_base58();
        assert_eq!(super::resolve(&id[id.len() - 6..], twice), Ok(peers[0]), "the same peer twice is one");
    }
}
