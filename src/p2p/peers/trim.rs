//! Which connections are worth keeping, and which of those above `high` are closed.

use std::time::Instant;

use libp2p::PeerId;
use rand::seq::IndexedRandom;

use super::settings::TRIM_GRACE;
use super::{Action, Manager, Settings};
use crate::p2p::handle::Direction;

/// A connected peer that is no bootnode, and what it is good for.
pub(super) struct Holding {
    peer: PeerId,
    outbound: bool,
    /// Members of its scarcest joined topic; 0 when the user wants it, far above any level when it shares no topic.
    scarcity: usize,
    ripe_at: Instant,
}

/// Connections that stay if topics may keep up to `level` members each: those that a topic or the user needs, and at least
/// `low` outbound ones.
fn kept(settings: &Settings, holdings: &[Holding], level: usize) -> usize {
    let needed = |outbound: bool| {
        holdings.iter().filter(|held| held.outbound == outbound && held.scarcity <= level).count()
    };
    let outbound = holdings.iter().filter(|held| held.outbound).count();
    needed(false) + needed(true).max(outbound.min(settings.low))
}

/// The most members that each topic may keep without `kept` and `coming` together exceeding `high`. With more topics than fit, all
/// are cut down to the same number before one goes without.
pub(super) fn level(settings: &Settings, holdings: &[Holding], coming: usize) -> usize {
    let fits = |level: &usize| kept(settings, holdings, *level) + coming <= settings.high;
    (1..=settings.topic_peers).rev().find(fits).unwrap_or(0)
}

impl Manager {
    /// All that count: bootnodes do not, nor what is being closed.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let counts = self.connected.iter().filter(|(peer, held)| !held.closing && !self.is_bootnode(**peer));
        counts
            .map(|(peer, held)| Holding {
                peer: *peer,
                outbound: held.direction == Direction::Outbound,
                scarcity: if self.wanted.contains(peer) { 0 } else { self.needs.scarcity(*peer) },
                ripe_at: held.since + TRIM_GRACE,
            })
            .collect()
    }

    pub(super) fn trim(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        wake_at: &mut impl FnMut(Instant),
    ) {
        if self.count_peers() <= self.settings.high {
            return;
        }
        let mut holdings = self.holdings();
        while holdings.len() > self.settings.high {
            let level = level(&self.settings, &holdings, 0);
            let outbound = holdings.iter().filter(|held| held.outbound).count();
            let spare =
                |held: &&Holding| held.scarcity > level && (!held.outbound || outbound > self.settings.low);
            let ripe = |held: &&Holding| held.ripe_at <= now;
            let inbound = |held: &&Holding| !held.outbound;
            let peers = |holdings: Vec<&Holding>| -> Vec<PeerId> {
                holdings.into_iter().map(|held| held.peer).collect()
            };
            // Inbound first: strangers can make as many of those as they like.
            let mut due = peers(holdings.iter().filter(spare).filter(ripe).filter(inbound).collect());
            if due.is_empty() {
                due = peers(holdings.iter().filter(spare).filter(ripe).collect());
            }
            // The map's order differs from run to run; sorted, the seed alone decides.
            due.sort_unstable();
            let Some(peer) = due.choose(&mut self.random).copied() else {
                holdings.iter().filter(spare).for_each(|held| wake_at(held.ripe_at));
                return;
            };
            if let Some(connection) = self.connected.get_mut(&peer) {
                connection.closing = true;
            }
            self.needs.disconnected(peer);
            actions.push(Action::Close(peer));
            holdings.retain(|held| held.peer != peer);
            for held in &mut holdings {
                if held.scarcity != 0 {
                    held.scarcity = self.needs.scarcity(held.peer);
                }
            }
        }
    }
}
