//! One request to several owners: its parts are requests of their own, and their replies are joined.
//! Owns: the replies of parts until the last one is there.

use super::everywhere::Everywhere;
use super::fan_out::Task;
use super::in_flight::NO_DEADLINE;
use super::*;
use crate::protocol::commands::{Across, Keys};
use crate::protocol::merge::Merge;
use crate::protocol::resp::cursor::Cursor;
use crate::protocol::split;
use crate::ring::together::{Reach, together};

/// What waits for the replies of its parts.
pub(super) struct Parts {
    pub join: Join,
    replies: Vec<Vec<u8>>,
    missing: usize,
}

pub(super) enum Join {
    Merge(Merge),
    /// One step of a SCAN over so many owners.
    Cursor(Cursor, usize),
    Everywhere(Box<Everywhere>),
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

    /// A request to every owner: KEYS, DBSIZE, or one step of a SCAN.
    pub(super) fn on_every_owner(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        if request.command.kind == Kind::Write {
            return self.on_every_node(client, request, now, effects);
        }
        if request.command.across == Across::Cursor {
            return self.on_scan(client, request, now, effects);
        }
        let mut plans = route::every_owner(&self.topology, &|peer| effects.is_up(peer));
        if let Err(why) = plans.iter_mut().try_for_each(|plan| self.suit(request, plan, client.0, effects)) {
            self.refuse(client, request, &why, effects);
            return;
        }
        let join = Join::Merge(Merge::whole(request.command.across));
        let parent = self.open_parts(client, request, join, plans.len(), now);
        for (number, plan) in plans.into_iter().enumerate() {
            let task = self.part_task(parent, number, client, ConsistencyLevel::DcOne);
            self.dispatch(request, plan, None, task, now, effects);
        }
    }

    fn on_scan(&mut self, client: ClientId, request: &Request<'_>, now: Moment, effects: &mut impl Effects) {
        let owners: Vec<PeerId> = match self.topology.own_datacenter().racks_from_nearest().next() {
            Some(rack) => rack.nodes.clone(),
            None => Vec::new(),
        };
        let Some(cursor) = Cursor::read(request) else {
            self.refuse(client, request, "invalid cursor", effects);
            return;
        };
        // An owner that is no more: its part of the walk is over.
        let owner = owners.get(cursor.owner).copied().unwrap_or(PeerId::SELF);
        let mut plan = route::Plan::of(route::Target::vote(owner, 0));
        if let Err(why) = self.suit(request, &mut plan, client.0, effects) {
            self.refuse(client, request, &why, effects);
            return;
        }
        let parent = self.open_parts(client, request, Join::Cursor(cursor, owners.len()), 1, now);
        let mut frame = self.spare.empty();
        cursor.frame(request, &mut frame);
        let part = Request { frame: &frame, ..*request };
        let task = self.part_task(parent, 0, client, ConsistencyLevel::DcOne);
        self.dispatch(&part, plan, None, task, now, effects);
        self.spare.keep(frame);
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
        let Some(slot) = parts.replies.get_mut(number as usize) else { return };
        *slot = self.spare.copy_of(reply.frame);
        parts.missing -= 1;
        if parts.missing > 0 {
            return;
        }
        let Some(entry) = self.in_flight.close(parent) else { return };
        let Work::Parts(parts) = entry.work else { return };
        let mut whole = self.spare.empty();
        match parts.join {
            Join::Merge(merge) => {
                let replies: Vec<&[u8]> = parts.replies.iter().map(Vec::as_slice).collect();
                merge.merge(&replies, &mut whole);
            }
            Join::Everywhere(_) => return,
            Join::Cursor(cursor, owners) => cursor.reply(&parts.replies[0], owners, &mut whole),
        }
        let is_error = whole.starts_with(b"-");
        self.tell(entry.teller, entry.finish, entry.started, Reply { frame: &whole, is_error }, now, effects);
        self.spare.keep(whole);
        parts.replies.into_iter().for_each(|reply| self.spare.keep(reply));
    }
}
