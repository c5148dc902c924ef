//! One request, from plan to outcome. Pure: values in, values and effects out.

pub mod consistency;
pub mod effects;
mod explain;
pub mod gather;
pub mod in_flight;
mod per_element;
pub mod route;

pub use consistency::ConsistencyLevel;
pub use effects::{Ask, ClientId, Effects, Leg, Outgoing, SendError};
