//! One request to several owners: its parts are requests of their own, and their replies are joined.
//! Owns: the replies of parts until the last one is there.

use super::everywhere::Everywhere;
use super::fan_out::Task;
use super::in_flight::NO_DEADLINE;
use super::walk::Walk;
use super::*;
use crate::protocol::commands::Keys;
use crate::protocol::merge::Merge;
use crate::protocol::split;
use crate::ring::together::{Reach, together};

/// What waits for the replies of its parts.
pub(super) struct Parts {
    pub join: Join,
    pub replies: Vec<Vec<u8>>,
    pub missing: usize,
}

pub(super) enum Join {
    Merge(Merge),
    Walk(Box<Walk>),
    Everywhere(Box<Everywhere>),
}

/// What waits for the parts of `parent`, if anything does yet.
pub(super) fn join_mut(in_flight: &mut InFlight<Entry>, parent: Ticket) -> Option<&mut Join> {
    match &mut in_flight.get_mut(parent)?.work {
        Work::Parts(parts) => Some(&mut parts.join),
        _ => None,
    }
}

impl Coordinator {
    /// A request with several keys. `false`: they all have the same owners, so it goes there whole.
    pub(super) fn on_many_keys(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) -> bool {
        let Some(state) = client_mut(&mut self.clients, client) else { return true };
        let (kind, level) = (request.command.kind, state.level_of(request.command.kind));
        let stays_here =
            kind == Kind::Read && level != ConsistencyLevel::DcEachSafeQuorum && !self.settings.route.remote_reads;
        let reach = if stays_here { Reach::Near } else { Reach::All };
        let (settings, topology) = (&self.settings, &self.topology);
        let token = |key: &[u8]| settings.hash.token(HashTag::of(settings.hash_tag, key));
        let (groups, count) = together(topology, request.keys().map(token), reach);
        if count <= 1 {
            return false;
        }
        if !split::is_splittable(request.command) {
            self.stats.bump(Stat::client_refused_commands);
            match request.command.keys {
                Keys::Counted { .. } if request.command.name.starts_with("eval") => {
                    self.refuse(client, request, Fault::KeysSpanNodes.text(), effects);
                }
                _ => {
                    let name = request.command.name;
                    let text =
                        format!("Dynomite: Keys of '{name}' belong to different nodes; a hash_tag keeps them together");
                    self.refuse(client, request, &text, effects);
                }
            }
            return true;
        }
        self.stats.bump(Stat::split_requests);
        let mut groups = groups.into_iter();
        let split = split::split(request, |_| groups.next().unwrap_or_default());
        self.stats.add(Stat::fragments, split.fragments.len() as u64);
        // Who cannot be asked is found out before anybody is.
        let plans = split.fragments.iter().map(|fragment| {
            let part = fragment.request();
            let mut plan = self.plan(&part, level, Origin::Client, effects);
            let repair = self.rewrite(&part, &plan, level, effects);
            self.suit_rewritten(&part, repair.as_deref(), &mut plan, client.0, effects).map(|()| (plan, repair))
        });
        let plans = match plans.collect::<Result<Vec<_>, String>>() {
            Ok(plans) => plans,
            Err(why) => {
                self.refuse(client, request, &why, effects);
                return true;
            }
        };
        let parent = self.open_parts(client, request, Join::Merge(split.merge), split.fragments.len(), now);
        for (number, (fragment, (plan, repair))) in split.fragments.iter().zip(plans).enumerate() {
            let task = self.part_task(parent, number, client, level);
            self.dispatch(&fragment.request(), plan, repair, task, now, effects);
        }
        true
    }

    pub(super) fn open_parts(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        join: Join,
        count: usize,
        now: Moment,
    ) -> Option<Ticket> {
        let state = client_mut(&mut self.clients, client)?;
        let place = state.order.take(client);
        let entry = Entry {
            teller: Teller::Client(place),
            finish: finish_of(request, &state.session),
            kind: request.command.kind,
            started: now,
            work: Work::Parts(Box::new(Parts { join, replies: vec![Vec::new(); count], missing: count })),
        };
        // Every part has a deadline, so the whole ends by the last of them.
        let ticket = self.in_flight.open(entry, NO_DEADLINE, now);
        state.order.set_ticket(place, ticket);
        Some(ticket)
    }

    pub(super) fn part_task(
        &self,
        parent: Option<Ticket>,
        number: usize,
        client: ClientId,
        level: ConsistencyLevel,
    ) -> Task {
        let teller = parent.map_or(Teller::Nobody, |parent| Teller::Part { parent, number: number as u32 });
        Task { teller, finish: Finish::AsIs, lane: client.0, level }
    }

    /// A part is answered; with the last one, the whole is.
    pub(super) fn on_part(
        &mut self,
        parent: Ticket,
        number: u32,
        reply: Reply<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let Some(Entry { work: Work::Parts(parts), .. }) = self.in_flight.get_mut(parent) else { return };
        if let Join::Everywhere(_) = parts.join {
            return self.on_everywhere(parent, number, reply, now, effects);
        }
        let first = if let Join::Walk(walk) = &parts.join { walk.first } else { 0 };
        let Some(place) = number.checked_sub(first) else { return };
        if let (Join::Walk(_), Some(fault)) = (&parts.join, Fault::of_reply(&reply)) {
            return self.walk_on(parent, number, fault, now, effects);
        }
        let Some(slot) = parts.replies.get_mut(place as usize) else { return };
        *slot = self.spare.copy_of(reply.frame);
        parts.missing -= 1;
        if parts.missing > 0 {
            return;
        }
        let Some(entry) = self.in_flight.close(parent) else { return };
        let Work::Parts(parts) = entry.work else { return };
        let mut whole = self.spare.empty();
        let replies: Vec<&[u8]> = parts.replies.iter().map(Vec::as_slice).collect();
        match parts.join {
            Join::Merge(merge) => merge.merge(&replies, &mut whole),
            Join::Walk(walk) => walk.join(&replies, &mut whole),
            Join::Everywhere(_) => return,
        }
        let is_error = whole.starts_with(b"-");
        self.tell(entry.teller, entry.finish, entry.started, Reply { frame: &whole, is_error }, now, effects);
        self.spare.keep(whole);
        parts.replies.into_iter().for_each(|reply| self.spare.keep(reply));
    }
}
