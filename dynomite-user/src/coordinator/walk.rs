//! Reads of every owner: KEYS, DBSIZE, one step of a SCAN. The owners of one rack are asked for a share each, and others for
//! the shares of those who cannot answer.
//! Owns: who answers for which share.
//!
//! - In a rack that is cut alike the owner of the same keys stands in, for its share alone. It walks keys in an order of its
//!   own, so a SCAN goes on with the first of them: some are told twice then, none is left out.
//! - Where racks are cut differently shares do not fit together, so all begins anew in another rack. A SCAN does so a few
//!   times at most: racks of which each lacks an owner would send it to and fro.

use smallvec::SmallVec;

use super::parts::{Join, join_mut};
use super::*;
use crate::protocol::c_peer::{self, Digest};
use crate::protocol::commands::{Across, Command};
use crate::protocol::merge::Merge;
use crate::protocol::resp::cursor::{Cursor, OWNERS_MAX};
use crate::ring::places::Place;

pub(super) struct Walk {
    topology: Arc<Topology>,
    /// Racks that may be asked, nearest first.
    racks: Vec<Place>,
    /// The number of the first part; those below were asked in vain.
    pub first: u32,
    /// Who is asked for each share.
    shares: Vec<Share>,
    /// Racks of no use: an owner failed there, and whoever might stand in.
    spent: SmallVec<[Place; 4]>,
    yields: Yield,
    frame: Arc<[u8]>,
    command: &'static Command,
    args: u32,
    lane: u32,
}

/// What becomes of the replies.
enum Yield {
    All(Merge),
    Step(Cursor),
}

struct Share {
    place: Place,
    /// The owner's number there.
    owner: usize,
    failed: SmallVec<[Place; 4]>,
}

/// Who is asked instead.
enum Next {
    /// Another owner, for the same share.
    StandIn,
    /// All owners of another rack.
    Anew,
    Nobody,
}

const WANDERING: &str = "Dynomite: SCAN has begun anew in one rack after the other, and cannot be finished now";

impl Walk {
    /// Of these racks, of which there is one at least.
    fn new(
        topology: &Arc<Topology>,
        racks: Vec<Place>,
        request: &Request<'_>,
        lane: u32,
        cursor: Option<Cursor>,
        health: &dyn Fn(PeerId) -> bool,
    ) -> Result<Walk, &'static str> {
        let mut walk = Walk {
            topology: topology.clone(),
            racks,
            first: 0,
            shares: Vec::new(),
            spent: SmallVec::new(),
            yields: match cursor {
                Some(cursor) => Yield::Step(cursor),
                None => Yield::All(Merge::whole(request.command.across)),
            },
            frame: request.frame.into(),
            command: request.command,
            args: request.args,
            lane,
        };
        match cursor {
            Some(cursor) if cursor.place > 0 => {
                let place = topology.places().get(usize::from(cursor.place) - 1).copied();
                let place =
                    place.filter(|place| walk.racks.contains(place) && cursor.owner < walk.owners(*place).len());
                match place {
                    Some(place) => walk.shares = vec![Share { place, owner: cursor.owner, failed: SmallVec::new() }],
                    // The rack is not there any more, or not for this node to ask.
                    None => walk.begin(walk.preferred(None, health), Some(cursor))?,
                }
            }
            _ => walk.begin(walk.preferred(None, health), None)?,
        }
        Ok(walk)
    }

    /// The nearest rack of use that is wholly there; otherwise the nearest of use. Behind another one they are looked at in
    /// turn: what failed in an earlier step of a SCAN is not known any more.
    fn preferred(&self, behind: Option<Place>, health: &dyn Fn(PeerId) -> bool) -> Option<Place> {
        let at = self.racks.iter().position(|place| Some(*place) == behind).map_or(0, |at| at + 1);
        let in_turn = || self.racks[at..].iter().chain(&self.racks[..at]).copied();
        let of_use = || in_turn().filter(|place| !self.spent.contains(place));
        let is_whole = |place: &Place| self.owners(*place).iter().all(|owner| health(*owner));
        of_use().find(is_whole).or_else(|| of_use().next())
    }

    /// Begins in a rack; a SCAN that was elsewhere before only so often.
    fn begin(&mut self, place: Option<Place>, before: Option<Cursor>) -> Result<(), &'static str> {
        let Some(place) = place else { return Err(WANDERING) };
        let shares = match &mut self.yields {
            Yield::All(_) => 0..self.owners(place).len(),
            Yield::Step(cursor) => {
                *cursor = match before {
                    Some(before) => before.anew().ok_or(WANDERING)?,
                    None => Cursor::START,
                };
                0..1
            }
        };
        self.first += self.shares.len() as u32;
        self.shares = shares.map(|owner| Share { place, owner, failed: SmallVec::new() }).collect();
        Ok(())
    }

    fn owners(&self, place: Place) -> Vec<PeerId> {
        self.topology.rack(place).map_or_else(Vec::new, |rack| rack.owners())
    }

    fn is_cut_alike(&self, one: Place, other: Place) -> bool {
        match (self.topology.rack(one), self.topology.rack(other)) {
            (Some(one), Some(other)) => one.is_cut_like(other),
            _ => false,
        }
    }

    /// Who is asked for a part.
    fn target(&self, part: usize) -> Option<route::Target> {
        let Share { place, owner, .. } = self.shares.get(part)?;
        let peer = self.owners(*place).get(*owner).copied()?;
        Some(route::Target::vote(peer, place.datacenter))
    }

    /// The one who was asked for a part cannot answer.
    fn fail(&mut self, part: usize, health: &dyn Fn(PeerId) -> bool) -> Next {
        let Some(share) = self.shares.get_mut(part) else { return Next::Nobody };
        let (place, owner) = (share.place, share.owner);
        share.failed.push(place);
        let failed = share.failed.clone();
        let others = self.racks.iter().copied().filter(|other| !failed.contains(other));
        let mut alike: SmallVec<[Place; 4]> = others.filter(|other| self.is_cut_alike(place, *other)).collect();
        alike.sort_by_key(|other| !self.owners(*other).get(owner).is_some_and(|owner| health(*owner)));
        if let Some(other) = alike.first() {
            self.shares[part].place = *other;
            if let Yield::Step(cursor) = &mut self.yields {
                cursor.inner = 0;
            }
            return Next::StandIn;
        }
        self.spent.extend(failed);
        let before = match self.yields {
            Yield::Step(cursor) => Some(cursor),
            Yield::All(_) => None,
        };
        match self.preferred(Some(place), health).map(|place| self.begin(Some(place), before)) {
            Some(Ok(())) => Next::Anew,
            Some(Err(_)) | None => Next::Nobody,
        }
    }

    /// The whole of all parts' replies.
    pub fn join(&self, replies: &[&[u8]], out: &mut Vec<u8>) {
        match (&self.yields, self.shares.first()) {
            (Yield::All(merge), _) => merge.merge(replies, out),
            (Yield::Step(cursor), Some(share)) => {
                let number = self.topology.places().iter().position(|place| *place == share.place).unwrap_or(0) + 1;
                let cursor = Cursor { place: number as u8, owner: share.owner, ..*cursor };
                let owners = self.owners(share.place).len().min(OWNERS_MAX);
                cursor.reply(replies.first().copied().unwrap_or_default(), owners, out);
            }
            (Yield::Step(_), None) => {}
        }
    }
}

impl Coordinator {
    /// A read of every owner.
    pub(super) fn on_walk(&mut self, client: ClientId, request: &Request<'_>, now: Moment, effects: &mut impl Effects) {
        let walk = match self.plan_walk(request, client.0, effects) {
            Ok(walk) => walk,
            Err(why) => {
                self.refuse(client, request, &why, effects);
                return;
            }
        };
        let count = walk.shares.len();
        let Some(parent) = self.open_parts(client, request, Join::Walk(Box::new(walk)), count, now) else { return };
        (0..count as u32).for_each(|number| self.ask_share(parent, number, now, effects));
    }

    fn plan_walk(&self, request: &Request<'_>, lane: u32, effects: &impl Effects) -> Result<Walk, String> {
        let cursor = match request.command.across {
            Across::Cursor => Some(Cursor::read(request).ok_or("invalid cursor")?),
            _ => None,
        };
        let racks = self.racks_to_walk(request, lane, effects)?;
        let health = |peer| effects.is_up(peer) && (peer != PeerId::SELF || self.own.serves(Kind::Read));
        Ok(Walk::new(&self.topology, racks, request, lane, cursor, &health)?)
    }

    /// The racks that a read of every owner may ask, nearest first.
    fn racks_to_walk(&self, request: &Request<'_>, lane: u32, effects: &impl Effects) -> Result<Vec<Place>, String> {
        let settings = self.settings.route;
        let mut racks = self.topology.places_from_nearest();
        racks.retain(|place| place.datacenter == 0 || settings.remote_reads);
        racks.truncate(if settings.reads_stay { 1 } else { usize::MAX });
        if c_peer::digest(request) != Digest::Never {
            return Ok(racks);
        }
        let owners = |place: &Place| self.topology.rack(*place).map_or(&[][..], |rack| &rack.nodes);
        let c_node = racks.iter().flat_map(owners).copied().find(|peer| self.is_c(*peer, lane, effects));
        racks.retain(|place| !owners(place).iter().any(|peer| self.is_c(*peer, lane, effects)));
        match c_node {
            Some(c_node) if racks.is_empty() => Err(self.not_sent(request, Some(c_node))),
            _ => Ok(racks),
        }
    }

    fn ask_share(&mut self, parent: Ticket, number: u32, now: Moment, effects: &mut impl Effects) {
        let Some(walk) = walk_mut(&mut self.in_flight, parent) else { return };
        let Some(part) = number.checked_sub(walk.first) else { return };
        let Some(target) = walk.target(part as usize) else { return };
        let (whole, lane) = (walk.frame.clone(), walk.lane);
        let request = Request {
            frame: &whole,
            verbatim: true,
            command: walk.command,
            args: walk.args,
            key: None,
            quiet: false,
            protocol: Protocol::Resp,
        };
        let step = match walk.yields {
            Yield::Step(cursor) => Some(cursor),
            Yield::All(_) => None,
        };
        let task = self.part_task(Some(parent), number as usize, ClientId(lane), ConsistencyLevel::DcOne);
        let plan = route::Plan::of(target);
        let Some(cursor) = step else { return self.dispatch(&request, plan, None, task, now, effects) };
        let mut frame = self.spare.empty();
        cursor.frame(&request, &mut frame);
        self.dispatch(&Request { frame: &frame, ..request }, plan, None, task, now, effects);
        self.spare.keep(frame);
    }

    /// A share is not answered: others are asked, or the whole is lost.
    pub(super) fn walk_on(
        &mut self,
        parent: Ticket,
        number: u32,
        fault: Fault,
        now: Moment,
        effects: &mut impl Effects,
    ) {
        let Some(Entry { work: Work::Parts(parts), .. }) = self.in_flight.get_mut(parent) else { return };
        let Join::Walk(walk) = &mut parts.join else { return };
        let own = &self.own;
        let health = |peer| effects.is_up(peer) && (peer != PeerId::SELF || own.serves(Kind::Read));
        let numbers = match walk.fail((number - walk.first) as usize, &health) {
            Next::Nobody => return self.lose_walk(parent, fault, now, effects),
            Next::StandIn => number..number + 1,
            Next::Anew => {
                parts.missing = walk.shares.len();
                parts.replies = vec![Vec::new(); walk.shares.len()];
                walk.first..walk.first + walk.shares.len() as u32
            }
        };
        if let Some(target) = walk.target((numbers.start - walk.first) as usize).filter(|target| health(target.peer)) {
            self.stats.bump(Stat::reads_failed_over);
            self.stats.add(Stat::reads_failed_over_dc, (target.datacenter != 0).into());
        }
        numbers.for_each(|number| self.ask_share(parent, number, now, effects));
    }

    fn lose_walk(&mut self, parent: Ticket, fault: Fault, now: Moment, effects: &mut impl Effects) {
        let Some(walk) = walk_mut(&mut self.in_flight, parent) else { return };
        let details = if walk.racks.len() > 1 { " (no rack could answer for all keys)" } else { "" };
        let mut error = self.spare.empty();
        write_error(Protocol::Resp, &format!("{}{details}", fault.text()), &mut error);
        self.stats.bump(Stat::forward_error);
        self.close(parent, Reply { frame: &error, is_error: true }, now, effects);
        self.spare.keep(error);
    }
}

fn walk_mut(in_flight: &mut InFlight<Entry>, parent: Ticket) -> Option<&mut Walk> {
    match join_mut(in_flight, parent)? {
        Join::Walk(walk) => Some(walk),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{Recorder, ask_in, coordinator};

    const CLIENT: ClientId = ClientId(0);

    /// Datastores of nodes that hold the key `k<node>` each; those in `dead` are away, though their nodes are there.
    struct World {
        coordinator: Coordinator,
        dead: Vec<u32>,
        down: Vec<u32>,
        c_nodes: Vec<u32>,
    }

    impl World {
        fn new(topology: &str, route: RouteSettings) -> World {
            let coordinator = coordinator(topology, route);
            World { coordinator, dead: Vec::new(), down: Vec::new(), c_nodes: Vec::new() }
        }

        /// Who was asked, and what the client was told; `|` stands for CR LF.
        fn ask(&mut self, line: &str) -> (Vec<u32>, String) {
            let (down, c_nodes) = (self.down.clone(), self.c_nodes.clone());
            let recorder = Recorder { down, c_nodes, datastore_is_down: self.down.contains(&0), ..Recorder::default() };
            let mut recorder = ask_in(&mut self.coordinator, recorder, line, |coordinator, request, recorder| {
                coordinator.connect(CLIENT, Asker::Client, Moment(0));
                coordinator.on_request(CLIENT, request, Moment(0), recorder);
            });
            let mut asked = Vec::new();
            while let Some(said) = recorder.said.get(asked.len()).filter(|said| !said.starts_with('=')).cloned() {
                let (peer, frame) = said.split_once(':').unwrap_or(("0", &said));
                let peer: u32 = peer.parse().unwrap();
                let leg = recorder.legs[asked.len()];
                asked.push(peer);
                let reply = self.answer(peer, frame);
                let reply = Reply { frame: reply.as_bytes(), is_error: reply.starts_with('-') };
                self.coordinator.on_reply(leg, reply, Moment(0), &mut recorder);
            }
            assert_eq!(self.coordinator.in_flight(), 0, "{line}");
            (asked, String::from_utf8_lossy(&recorder.told).replace("\r\n", "|"))
        }

        /// A SCAN gives the key with the first step, and an end with the second.
        fn answer(&self, peer: u32, frame: &str) -> String {
            let words: Vec<&str> = frame.split(' ').collect();
            if self.dead.contains(&peer) {
                return "-ERR Storage: Datastore refused connection\r\n".to_owned();
            }
            match words[0] {
                "dbsize" => format!(":{}\r\n", 10_u32.pow(peer)),
                "keys" => format!("*1\r\n$2\r\nk{peer}\r\n"),
                "scan" if words[1] == "0" => format!("*2\r\n$1\r\n7\r\n*1\r\n$2\r\nk{peer}\r\n"),
                "scan" => "*2\r\n$1\r\n0\r\n*0\r\n".to_owned(),
                _ => panic!("{frame}"),
            }
        }

        /// One step: who was asked, the keys, and the cursor that leads on.
        #[track_caller]
        fn scan(&mut self, cursor: &str) -> (Vec<u32>, String, String) {
            let (asked, told) = self.ask(&format!("scan {cursor}"));
            let words: Vec<&str> = told.split('|').collect();
            assert_eq!(words[0], "*2", "{told}");
            (asked, words.get(5).copied().unwrap_or_default().to_owned(), words[2].to_owned())
        }
    }

    #[track_caller]
    fn check(topology: &str, setup: impl FnOnce(&mut World), line: &str, asked: &[u32], told: &str) {
        let mut world = World::new(topology, RouteSettings::default());
        setup(&mut world);
        assert_eq!(world.ask(line), (asked.to_vec(), told.to_owned()), "{topology} {line}");
    }

    const ALIKE: &str = "a/r1:9 a/r1:99 a/r2:9 a/r2:99";
    const UNLIKE: &str = "a/r1:9 a/r1:99 a/r2:50 a/r2:99 a/r3:1";

    #[test]
    fn an_owner_is_stood_in_for_where_racks_are_alike() {
        check(ALIKE, |_| (), "dbsize", &[0, 1], ":11|");
        check(ALIKE, |world| world.dead = vec![1], "dbsize", &[0, 1, 3], ":1001|");
        check(ALIKE, |world| world.dead = vec![0, 3], "keys *", &[0, 1, 2], "*2|$2|k2|$2|k1|");
        check(ALIKE, |world| world.down = vec![1], "dbsize", &[2, 3], ":1100|");
        check(ALIKE, |world| world.down = vec![1, 2], "dbsize", &[0, 3], ":1001|");
        let lost = "-ERR Storage: Datastore refused connection (no rack could answer for all keys)|";
        check(ALIKE, |world| world.dead = vec![1, 3], "dbsize", &[0, 1, 3], lost);
    }

    #[test]
    fn all_begins_anew_where_racks_are_cut_differently() {
        check(UNLIKE, |world| world.dead = vec![1], "dbsize", &[0, 1, 2, 3], ":1100|");
        check(UNLIKE, |world| world.dead = vec![0, 3], "dbsize", &[0, 1, 2, 3, 4], ":10000|");
        check(UNLIKE, |world| world.down = vec![0, 3], "keys *", &[4], "*1|$2|k4|");
    }

    #[test]
    fn another_datacenter_is_asked_where_that_may_be() {
        let topology = "a/r1:9 a/r1:99 b/x:9 b/x:99";
        let lost = "-ERR Storage: Datastore refused connection|";
        check(topology, |world| world.dead = vec![1], "dbsize", &[0, 1], lost);
        let far = |world: &mut World| {
            world.coordinator.settings.route.remote_reads = true;
            world.dead = vec![1];
        };
        check(topology, far, "dbsize", &[0, 1, 3], ":1001|");
        let stays = |world: &mut World| {
            world.coordinator.settings.route.reads_stay = true;
            world.dead = vec![1];
        };
        check(ALIKE, stays, "dbsize", &[0, 1], lost);
    }

    #[test]
    fn c_nodes_are_asked_what_they_know() {
        check(ALIKE, |world| world.c_nodes = vec![1], "dbsize", &[2, 3], ":1100|");
        check(ALIKE, |world| world.c_nodes = vec![1], "keys *", &[0, 1], "*2|$2|k0|$2|k1|");
        let why = "-ERR Dynomite: 'dbsize' was not sent: 127.0.0.2:8101 in rack r1 of a runs C Dynomite, which has no such \
                   command, or not with these arguments|";
        check(ALIKE, |world| world.c_nodes = vec![1, 3], "dbsize", &[], why);
    }

    /// All keys of a SCAN from its start to its end, while the world changes before some steps.
    #[track_caller]
    fn scan(topology: &str, mut before: impl FnMut(usize, &mut World)) -> Result<String, String> {
        let mut world = World::new(topology, RouteSettings::default());
        let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
        for step in 0..40 {
            before(step, &mut world);
            let (_, told) = world.ask(&format!("scan {cursor}"));
            if told.starts_with('-') {
                return Err(told);
            }
            let words: Vec<&str> = told.split('|').collect();
            keys.extend(words.get(5).filter(|key| !key.is_empty()).map(|key| (*key).to_owned()));
            cursor = words[2].to_owned();
            if cursor == "0" {
                return Ok(keys.join(" "));
            }
        }
        Err("no end".to_owned())
    }

    #[test]
    fn a_scan_goes_on_in_another_rack() {
        assert_eq!(scan(ALIKE, |_, _| ()), Ok("k0 k1".to_owned()));
        assert_eq!(scan(ALIKE, |_, world| world.dead = vec![1]), Ok("k0 k3".to_owned()));
        // In the middle of an owner's keys: all of these are told once more.
        assert_eq!(
            scan(ALIKE, |step, world| world.dead = if step == 1 { vec![0] } else { vec![] }),
            Ok("k0 k2 k3".to_owned())
        );
        assert_eq!(
            scan(ALIKE, |step, world| world.dead = if step > 2 { vec![1] } else { vec![] }),
            Ok("k0 k1 k3".to_owned())
        );
        // There and back.
        assert_eq!(scan(ALIKE, |_, world| world.dead = vec![0, 3]), Ok("k2 k1".to_owned()));
        let lost = "-ERR Storage: Datastore refused connection (no rack could answer for all keys)|";
        assert_eq!(scan(ALIKE, |_, world| world.dead = vec![1, 3]), Err(lost.to_owned()));
    }

    #[test]
    fn a_scan_begins_anew_where_racks_are_cut_differently_but_not_for_ever() {
        assert_eq!(scan(UNLIKE, |_, world| world.dead = vec![1]), Ok("k0 k2 k3".to_owned()));
        assert_eq!(scan(UNLIKE, |_, world| world.dead = vec![1, 3]), Ok("k0 k2 k4".to_owned()));
        let two = "a/r1:9 a/r1:99 a/r2:50 a/r2:99";
        let lost = "-ERR Storage: Datastore refused connection (no rack could answer for all keys)|";
        assert_eq!(scan(two, |_, world| world.dead = vec![1, 3]), Err(lost.to_owned()));
    }

    #[test]
    fn a_cursor_is_good_at_every_node() {
        // The same cluster, seen from either rack.
        let mut first = World::new("a/r1:9 a/r1:99 a/r2:50 a/r2:99", RouteSettings::default());
        let mut second = World::new("a/r2:99 a/r1:99 a/r1:9 a/r2:50", RouteSettings::default());
        let (asked, keys, cursor) = first.scan("0");
        assert_eq!((asked, keys.as_str()), (vec![0], "k0"));
        // Node 2 of the second is node 0 of the first.
        let (asked, keys, cursor) = second.scan(&cursor);
        assert_eq!((asked, keys.as_str()), (vec![2], ""));
        let (asked, keys, cursor) = second.scan(&cursor);
        assert_eq!((asked, keys.as_str()), (vec![1], "k1"));
        let (asked, _, cursor) = first.scan(&cursor);
        assert_eq!((asked, cursor.as_str()), (vec![1], "0"));
    }
}
