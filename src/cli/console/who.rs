//! Peers as people name them: by the whole id, by its end, which is what messages show on a terminal, or by the name of their process.

use libp2p::PeerId;

use super::processes::Process;
use crate::control::nearest::hint;

/// Shortest end of an id that is taken; one in 200,000 ids has the same.
const MIN_END: usize = 3;

/// The peer that is meant by `typed`: any whole id, the name of one of `processes`, or the end of the id of one of `candidates`.
///
/// # Errors
/// Words for the user.
pub(super) fn resolve(
    typed: &str,
    processes: &[Process],
    candidates: impl IntoIterator<Item = PeerId>,
) -> Result<PeerId, String> {
    if let Ok(peer) = typed.parse() {
        return Ok(peer);
    }
    if let Some(process) = processes.iter().find(|process| process.name == typed) {
        return Ok(process.peer);
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
            let hint = hint(typed, processes.iter().map(|process| process.name.as_str()));
            Err(format!(
                "{typed:?} is neither a peer id, nor the end of one that is known here, nor a node of this network; see /peers{hint}"
            ))
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
        let processes = [Process::named("node-7", peers[4]), Process::named("ab", peers[3])];
        let resolve = |typed: &str| resolve(typed, &processes, peers.iter().copied());
        let stranger = PeerId::random();
        assert_eq!(resolve(&stranger.to_base58()), Ok(stranger), "a whole id need not be known");
        let id = peers[2].to_base58();
        assert_eq!(resolve(&id[id.len() - 8..]), Ok(peers[2]));
        assert!(resolve(&id[id.len() - 2..]).unwrap_err().contains("too short"));
        assert!(resolve("nobody").unwrap_err().contains("neither"));
        assert_eq!((resolve("node-7"), resolve("ab")), (Ok(peers[4]), Ok(peers[3])));
        assert!(resolve("node-8").unwrap_err().ends_with("did you mean node-7?"));
        assert!(super::resolve("", &[], peers.iter().copied()).is_err());
        let twice = [peers[0], peers[0]];
        let id = peers[0].to_base58();
        assert_eq!(
            super::resolve(&id[id.len() - 6..], &[], twice),
            Ok(peers[0]),
            "the same peer twice is one"
        );
    }
}
