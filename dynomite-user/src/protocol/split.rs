//! A request whose keys have several owners → a fragment for each. Their replies become one again in `merge.rs`.
//! Owns: which key went where. Knows nothing of: owners; they are numbers that the caller gives to keys.

use super::commands::{Across, Command, Keys};
use super::merge::Merge;
use super::request::Request;
use super::resp::encode;
use super::{Protocol, memcache};

/// A request taken apart.
#[derive(Debug)]
pub struct Split {
    /// In the order in which the groups first appear among the keys.
    pub fragments: Vec<Fragment>,
    /// What makes one reply of the fragments' replies.
    pub merge: Merge,
}

/// What the owners of one group of keys are asked.
#[derive(Debug)]
pub struct Fragment {
    /// The number that the caller gave to these keys.
    pub group: u32,
    /// A whole request with this group's keys, doubled ones kept, in the order in which they came.
    pub frame: Vec<u8>,
    args: u32,
    command: &'static Command,
    protocol: Protocol,
}

impl Fragment {
    /// The fragment as a request of its own.
    pub fn request(&self) -> Request<'_> {
        let request = Request {
            frame: &self.frame,
            verbatim: true,
            command: self.command,
            args: self.args,
            key: None,
            quiet: false,
            protocol: self.protocol,
        };
        Request { key: request.keys().next(), ..request }
    }
}

/// Can its keys be asked of several owners? The others' keys must belong to one.
pub fn is_splittable(command: &Command) -> bool {
    matches!(command.across, Across::Array | Across::Ok | Across::Sum | Across::Values) && command.keys != Keys::None
}

/// Takes a request apart; `group_of` is asked once for each key, in their order. For commands that `is_splittable`.
pub fn split(request: &Request<'_>, mut group_of: impl FnMut(&[u8]) -> u32) -> Split {
    match request.protocol {
        Protocol::Resp => resp(request, group_of),
        Protocol::Memcache => {
            let split = memcache::merge::split(request, &mut group_of);
            let fragment = |fragment: memcache::merge::Fragment<u32>| Fragment {
                group: fragment.owner,
                args: memcache::Words::of(&fragment.frame).count() as u32,
                frame: fragment.frame,
                command: request.command,
                protocol: request.protocol,
            };
            let merge = Merge::values(request, split.places);
            Split { fragments: split.fragments.into_iter().map(fragment).collect(), merge }
        }
    }
}

/// The keys stand behind the name, each followed by what belongs to it (a value, in MSET).
fn resp(request: &Request<'_>, mut group_of: impl FnMut(&[u8]) -> u32) -> Split {
    let step = match request.command.keys {
        Keys::Range { step, .. } => usize::from(step),
        _ => 1,
    };
    // Sizes first: values may be large, and are copied once.
    let mut sizes: Vec<Size> = Vec::new();
    let mut places = Vec::new();
    for (at, argument) in request.arguments().skip(1).enumerate() {
        if at % step == 0 {
            let group = group_of(argument);
            let place = sizes.iter().position(|size| size.group == group).unwrap_or_else(|| {
                sizes.push(Size { group, args: 1, bytes: HEAD_BYTES + request.command.name.len() });
                sizes.len() - 1
            });
            places.push(place as u32);
        }
        let size = &mut sizes[places[at / step] as usize];
        size.args += 1;
        size.bytes += HEAD_BYTES + argument.len();
    }
    let begin = |size: &Size| {
        let mut frame = Vec::with_capacity(size.bytes);
        encode::array_head(size.args as usize, &mut frame);
        encode::bulk(request.command.name.as_bytes(), &mut frame);
        let (group, args) = (size.group, size.args);
        Fragment { group, frame, args, command: request.command, protocol: request.protocol }
    };
    let mut fragments: Vec<Fragment> = sizes.iter().map(begin).collect();
    for (at, argument) in request.arguments().skip(1).enumerate() {
        encode::bulk(argument, &mut fragments[places[at / step] as usize].frame);
    }
    Split { fragments, merge: Merge::places(request.command.across, places) }
}

/// What stands around an argument at most.
const HEAD_BYTES: usize = 16;

struct Size {
    group: u32,
    args: u32,
    bytes: usize,
}
