//! Which protocol a substream speaks, found by reading along while its two ends agree on one. Pure.
//!
//! Substreams begin with multistream-select 1.0: both sides write lines, each behind its length as a varint and with a line end.
//! After a heading the opener proposes protocols, one after another; the answerer repeats the one that it takes and writes `na` for
//! the others. An opener in a hurry sends its first bytes right behind its only proposal. So it is the answerer's line that tells the
//! protocol, and what was proposed last is all that is known before.

use super::super::metrics::Protocol;

/// The heading of both sides.
const HEADING: &[u8] = b"/multistream/1.0.0\n";
/// The answer to a protocol that is not spoken.
const REFUSAL: &[u8] = b"na\n";
/// A question for all protocols; its answer is one long line.
const LIST: &[u8] = b"ls\n";
/// Bytes of a line that are kept; no protocol that has a name here is longer.
const KEPT: usize = 40;
/// Bytes of one direction that are read along: two dozen proposals. Who needs more has no protocol that is known here.
const MAX_READ: usize = 2_048;

/// Who opened a substream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    /// This node: it proposes.
    Local,
    /// The peer.
    Remote,
}

/// Where the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the peer.
    Sent,
    /// From the peer.
    Received,
}

/// A line, by what has to be known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// The heading, a refusal, a question for the list: nothing to learn from.
    Known,
    /// A protocol's name, whole; for comparing also as a number.
    Name { protocol: Protocol, hash: u64 },
    /// None of these: the list, or no line at all.
    Foreign,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Negotiation {
    opener: Opener,
    proposals: Reader,
    answers: Reader,
    proposed: Option<(Protocol, u64)>,
}

impl Negotiation {
    pub(super) fn new(opener: Opener) -> Self {
        Self { opener, proposals: Reader::default(), answers: Reader::default(), proposed: None }
    }

    /// Reads the next `bytes` of one direction; says the protocol as soon as it is agreed on, or not worth waiting for any more.
    pub(super) fn read(&mut self, flow: Flow, bytes: &[u8]) -> Option<Protocol> {
        let by_opener = (flow == Flow::Sent) == (self.opener == Opener::Local);
        if by_opener { self.read_proposals(bytes) } else { self.read_answers(bytes) }
    }

    /// The best guess where nothing more will come.
    pub(super) fn guess(&self) -> Protocol {
        self.proposed.map_or(Protocol::OTHER, |(protocol, _)| protocol)
    }

    fn read_proposals(&mut self, mut bytes: &[u8]) -> Option<Protocol> {
        while let Some(line) = self.proposals.next(&mut bytes) {
            match line {
                Line::Known => {}
                Line::Name { protocol, hash } => self.proposed = Some((protocol, hash)),
                // What comes behind the proposal of an opener in a hurry.
                Line::Foreign => self.proposals.stop(),
            }
        }
        // The answer may never be read: whoever has sent so much is not waiting for it.
        self.proposals.is_exhausted().then(|| self.guess())
    }

    fn read_answers(&mut self, mut bytes: &[u8]) -> Option<Protocol> {
        while let Some(line) = self.answers.next(&mut bytes) {
            if let Line::Name { protocol, hash } = line {
                let taken = self.proposed.is_some_and(|(_, proposed)| proposed == hash);
                return Some(if taken { protocol } else { Protocol::OTHER });
            }
        }
        self.answers.is_exhausted().then_some(Protocol::OTHER)
    }
}

/// Takes the bytes of one direction apart into lines, in constant memory.
#[derive(Debug)]
struct Reader {
    /// Length of the line as far as its varint is read, and whether it is whole.
    length: usize,
    length_bytes: u8,
    in_line: bool,
    /// Bytes of the line read so far, of which the first are kept.
    read: usize,
    kept: [u8; KEPT],
    last: u8,
    hash: u64,
    total: usize,
    stopped: bool,
}

/// FNV-1a, 64 bits: good enough to tell the few names of one negotiation apart.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0100_0000_01b3;

impl Default for Reader {
    fn default() -> Self {
        Self {
            length: 0,
            length_bytes: 0,
            in_line: false,
            read: 0,
            kept: [0; KEPT],
            last: 0,
            hash: HASH_START,
            total: 0,
            stopped: false,
        }
    }
}

impl Reader {
    fn stop(&mut self) {
        self.stopped = true;
    }

    fn is_exhausted(&self) -> bool {
        self.total >= MAX_READ
    }

    /// The next whole line, which is taken off `bytes`.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Line> {
        while let [byte, rest @ ..] = *bytes {
            self.total = self.total.saturating_add(1);
            if self.is_exhausted() || self.stopped {
                self.total = self.total.saturating_add(rest.len());
                *bytes = &[];
                return None;
            }
            *bytes = rest;
            if let Some(line) = self.step(*byte) {
                return Some(line);
            }
        }
        None
    }

    fn step(&mut self, byte: u8) -> Option<Line> {
        if self.in_line {
            if let Some(place) = self.kept.get_mut(self.read) {
                *place = byte;
            }
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(HASH_PRIME);
            self.last = byte;
            self.read += 1;
            return (self.read == self.length).then(|| self.finish());
        }
        self.length |= usize::from(byte & 0x7f) << (7 * self.length_bytes);
        self.length_bytes += 1;
        match (byte & 0x80 != 0, self.length_bytes, self.length) {
            // Lines have at most two bytes of length; an empty one says nothing.
            (true, 2.., _) | (false, _, 0) => Some(self.start_over(Line::Foreign)),
            (true, ..) => None,
            (false, ..) => {
                self.in_line = true;
                None
            }
        }
    }

    fn finish(&mut self) -> Line {
        let kept = self.kept.get(..self.read).unwrap_or(&self.kept);
        let line = match kept {
            HEADING | REFUSAL | LIST => Line::Known,
            [b'/', ..] if self.last == b'\n' => {
                let name = kept.strip_suffix(b"\n").unwrap_or(kept);
                Line::Name { protocol: Protocol::named(name), hash: self.hash }
            }
            _ => Line::Foreign,
        };
        self.start_over(line)
    }

    fn start_over(&mut self, line: Line) -> Line {
        let Self { total, stopped, .. } = *self;
        *self = Self { total, stopped, ..Self::default() };
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Vec<u8> {
        let length = text.len() + 1;
        let mut bytes = Vec::new();
        if length < 128 {
            bytes.push(length as u8);
        } else {
            bytes.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        }
        bytes.extend(text.as_bytes());
        bytes.push(b'\n');
        bytes
    }

    fn lines(texts: &[&str]) -> Vec<u8> {
        texts.iter().flat_map(|text| line(text)).collect()
    }

    const HEAD: &str = "/multistream/1.0.0";

    /// What is known after the opener's and then the answerer's bytes.
    fn agreed(opener: Opener, proposals: &[u8], answers: &[u8]) -> Option<&'static str> {
        let (asking, answering) = match opener {
            Opener::Local => (Flow::Sent, Flow::Received),
            Opener::Remote => (Flow::Received, Flow::Sent),
        };
        let mut negotiation = Negotiation::new(opener);
        let early = negotiation.read(asking, proposals);
        early.or_else(|| negotiation.read(answering, answers)).map(Protocol::as_str)
    }

    #[test]
    fn the_answer_tells_the_protocol_whoever_opened() {
        let proposals = lines(&[HEAD, "/ipfs/ping/1.0.0"]);
        let answers = lines(&[HEAD, "/ipfs/ping/1.0.0"]);
        for opener in [Opener::Local, Opener::Remote] {
            assert_eq!(agreed(opener, &proposals, &answers), Some("ping"));
            assert_eq!(agreed(opener, &proposals, &line(HEAD)), None, "not yet");
        }
    }

    #[test]
    fn of_several_proposals_the_one_that_is_taken_counts() {
        let mut negotiation = Negotiation::new(Opener::Local);
        assert_eq!(negotiation.read(Flow::Sent, &lines(&[HEAD, "/meshsub/9.0.0"])), None);
        assert_eq!(negotiation.read(Flow::Received, &lines(&[HEAD, "na"])), None);
        assert_eq!(negotiation.read(Flow::Sent, &line("/hippius/kad/1.0.0")), None);
        let known = negotiation.read(Flow::Received, &line("/hippius/kad/1.0.0"));
        assert_eq!(known.map(Protocol::as_str), Some("kademlia"));
    }

    #[test]
    fn an_opener_in_a_hurry_is_understood() {
        let mut proposals = lines(&[HEAD, "/meshsub/1.1.0"]);
        proposals.extend([0x05, 0x0a, 0x03, b'a', b'b', b'c', 0xff, 0xff, 0xff, 0x00]);
        assert_eq!(agreed(Opener::Remote, &proposals, &lines(&[HEAD, "/meshsub/1.1.0"])), Some("gossipsub"));
        // … even when its answer never comes.
        let mut negotiation = Negotiation::new(Opener::Remote);
        assert_eq!(negotiation.read(Flow::Received, &proposals), None);
        assert_eq!(negotiation.guess().as_str(), "gossipsub");
        let known = negotiation.read(Flow::Received, &vec![0xff; MAX_READ]);
        assert_eq!(known.map(Protocol::as_str), Some("gossipsub"));
    }

    #[test]
    fn a_list_and_names_that_are_unknown_or_too_long() {
        let mut negotiation = Negotiation::new(Opener::Remote);
        assert_eq!(negotiation.read(Flow::Received, &lines(&[HEAD, "ls"])), None);
        let list = lines(&["/meshsub/1.1.0", "/ipfs/ping/1.0.0"]);
        let list = line(std::str::from_utf8(&list).unwrap());
        assert_eq!(negotiation.read(Flow::Sent, &[line(HEAD), list].concat()), None);
        let long = format!("/meshsub/1.1.0/{}", "x".repeat(200));
        assert_eq!(negotiation.read(Flow::Received, &line(&long)), None);
        assert_eq!(negotiation.read(Flow::Sent, &line("na")), None);
        assert_eq!(negotiation.read(Flow::Received, &line("/elsewhere/1")), None);
        assert_eq!(negotiation.read(Flow::Sent, &line("/elsewhere/1")).map(Protocol::as_str), Some("other"));
    }

    #[test]
    fn an_answer_that_nobody_proposed_is_of_no_known_protocol() {
        let proposals = lines(&[HEAD, "/ipfs/ping/1.0.0"]);
        assert_eq!(agreed(Opener::Local, &proposals, &lines(&[HEAD, "/meshsub/1.1.0"])), Some("other"));
        // Equal in all that is kept of it.
        let long = |end: &str| format!("/meshsub/{}{end}", "x".repeat(KEPT));
        let (one, other) = (long("1"), long("2"));
        assert_eq!(agreed(Opener::Local, &line(&one), &line(&other)), Some("other"));
        assert_eq!(agreed(Opener::Local, &line(&one), &line(&one)), Some("gossipsub"));
    }

    proptest! {
        /// However the bytes are cut, the answer is the same.
        #[test]
        fn cuts_do_not_matter(
            refused in 0usize..5,
            cuts in proptest::collection::vec(1usize..9, 0..60),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut negotiation = Negotiation::new(Opener::Local);
            let mut dialogue = vec![(Flow::Sent, line(HEAD)), (Flow::Received, line(HEAD))];
            for number in 0..refused {
                dialogue.push((Flow::Sent, line(&format!("/meshsub/9.{number}"))));
                dialogue.push((Flow::Received, line("na")));
            }
            dialogue.push((Flow::Sent, line("/ipfs/id/1.0.0")));
            let answer = [line("/ipfs/id/1.0.0"), payload].concat();
            dialogue.push((Flow::Received, answer));
            let mut cuts = cuts.into_iter().chain(std::iter::repeat(3));
            let mut known = None;
            for (flow, bytes) in dialogue {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() && known.is_none() {
                    let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                    known = negotiation.read(flow, now);
                    rest = later;
                }
            }
            prop_assert_eq!(known.map(Protocol::as_str), Some("identify"));
        }

        /// No bytes can harm it, and it does not read for ever.
        #[test]
        fn anything_may_come(
            opener in prop_oneof![Just(Opener::Local), Just(Opener::Remote)],
            pieces in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..60),
        ) {
            let mut negotiation = Negotiation::new(opener);
            let mut known = None;
            for (sent, bytes) in pieces {
                known = known.or(negotiation.read(if sent { Flow::Sent } else { Flow::Received }, &bytes));
            }
            known = known.or(negotiation.read(Flow::Sent, &[7; MAX_READ]));
            prop_assert!(known.is_some());
        }
    }
}
