//! Whom to dial, and when to ask the network for more.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};

use super::settings::{LOOKUPS, MEMBERS_PAUSE, SEARCH_MAX, SEARCHES, SETTLE, SUBSCRIBE_GRACE};
use super::{Action, MAX_DIALS, Manager, jittered, trim};

impl Manager {
    pub(super) fn dial_bootnodes(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        wake_at: &mut impl FnMut(Instant),
    ) {
        for bootnode in &self.bootnodes {
            if self.connected.contains_key(&bootnode.peer) || self.dialing.contains(&bootnode.peer) {
                continue;
            }
            if bootnode.dial_at <= now {
                self.dialing.insert(bootnode.peer);
                actions.push(Action::Dial(bootnode.peer, bootnode.addresses.clone()));
            } else {
                wake_at(bootnode.dial_at);
            }
        }
    }

    /// A bootnode being dialled is as good as a peer to come, but must not hold up the others while it is down.
    fn count_dials(&self) -> usize {
        self.dialing.iter().filter(|peer| !self.is_bootnode(**peer)).count()
    }

    /// Dials for topics that are short of members, though there have been `low` peers since `since`.
    pub(super) fn dial_members(
        &mut self,
        since: Instant,
        now: Instant,
        actions: &mut Vec<Action>,
        wake_at: &mut impl FnMut(Instant),
    ) {
        let wanted = self.settings.topic_peers;
        self.needs.expire(wanted, now).into_iter().for_each(&mut *wake_at);
        if self.needs.short(wanted, &self.dialing).is_empty() {
            return;
        }
        let silent = self.connected.values().filter(|held| !held.spoke && !held.closing);
        let silent_until = silent.map(|held| held.since + SUBSCRIBE_GRACE).max();
        let settled = silent_until.unwrap_or(now).clamp(since + SETTLE.0, since + SETTLE.1);
        let at = self.members_at.max(settled);
        if at > now {
            wake_at(at);
            return;
        }
        let holdings = self.holdings();
        let mut dialing = self.count_dials();
        // A little above `high`, so that a member can take the place of a peer that nobody needs.
        while dialing < MAX_DIALS && holdings.len() + dialing < self.settings.high + MAX_DIALS {
            let level = trim::level(&self.settings, &holdings, dialing + 1);
            let (peer, addresses) = match self.choose_member(level, now) {
                Ok(choice) => choice,
                Err(next) => return next.into_iter().for_each(wake_at),
            };
            self.dialing.insert(peer);
            actions.push(Action::Dial(peer, addresses));
            self.members_at = now + MEMBERS_PAUSE;
            dialing += 1;
        }
    }

    /// Somebody to dial who is said to be on a topic with fewer than `level` members; else when there will be.
    fn choose_member(
        &mut self,
        level: usize,
        now: Instant,
    ) -> Result<(PeerId, Vec<Multiaddr>), Option<Instant>> {
        let mut soonest: Option<Instant> = None;
        for need in self.needs.short(level, &self.dialing) {
            let eligible = |peer: &PeerId| {
                need.is_said(peer) && !self.connected.contains_key(peer) && !self.dialing.contains(peer)
            };
            match self.candidates.choose(now, eligible, &mut self.random) {
                Ok(choice) => return Ok(choice),
                Err(next) => soonest = soonest.into_iter().chain(next).min(),
            }
        }
        Err(soonest)
    }

    /// Asks who is on the topics that are short of members.
    pub(super) fn look_up(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        wake_at: &mut impl FnMut(Instant),
    ) {
        let wanted = self.settings.topic_peers;
        self.needs.rest(wanted);
        if self.connected.is_empty() {
            self.needs.suspend();
            return;
        }
        let random = &mut self.random;
        while let Some((topic, at)) = self.needs.next_lookup(wanted, now, |pause| jittered(random, pause)) {
            if at > now {
                wake_at(at);
                return;
            }
            if !self.lookups.take(1, now) {
                wake_at(now + LOOKUPS.every);
                return;
            }
            self.needs.looked_up(&topic, now, |pause| jittered(random, pause));
            actions.push(Action::LookUp(topic));
        }
    }

    pub(super) fn dial_candidates(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        wake_at: &mut impl FnMut(Instant),
    ) {
        let dialing = self.count_dials();
        let missing = self.low().saturating_sub(self.count_peers() + dialing);
        let mut slots = missing.min(MAX_DIALS.saturating_sub(dialing));
        while slots > 0 {
            let member = self.choose_member(self.settings.topic_peers, now);
            let free = |peer: &PeerId| !self.connected.contains_key(peer) && !self.dialing.contains(peer);
            match member.or_else(|_| self.candidates.choose(now, free, &mut self.random)) {
                Ok((peer, addresses)) => {
                    self.dialing.insert(peer);
                    actions.push(Action::Dial(peer, addresses));
                    slots -= 1;
                }
                Err(next) => {
                    next.into_iter().for_each(wake_at);
                    return;
                }
            }
        }
    }

    pub(super) fn search(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        wake_at: &mut impl FnMut(Instant),
    ) {
        if self.connected.is_empty() {
            // Nobody to ask; `CanSearch` comes with the first peer.
            self.search_at = None;
            return;
        }
        let pause = self.search_pause;
        let at = match self.search_at {
            Some(at) => at,
            None => now + self.jittered(pause),
        };
        if at > now {
            self.search_at = Some(at);
            wake_at(at);
            return;
        }
        if !self.searches.take(1, now) {
            let at = now + SEARCHES.every;
            self.search_at = Some(at);
            wake_at(at);
            return;
        }
        actions.push(Action::Search);
        self.last_search = Some(now);
        let next = now + self.jittered(pause);
        self.search_at = Some(next);
        self.search_pause = (pause * 2).min(SEARCH_MAX);
        wake_at(next);
    }
}
