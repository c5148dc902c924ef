//! Messages to other nodes, as exactly as they want them.

use super::header::{MAGIC, Message, VERSION};

/// What a plain head takes, with the longest numbers.
const HEAD_BYTES: usize = 80;

/// Appends a message. The payload must not be empty: C nodes would see it only when the next message comes.
pub fn write(message: Message, id: u64, same_datacenter: bool, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEAD_BYTES + payload.len());
    write_head(message, id, same_datacenter, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends the head of a plain message; `payload_len` bytes are to follow it.
pub fn write_head(message: Message, id: u64, same_datacenter: bool, payload_len: usize, out: &mut Vec<u8>) {
    debug_assert!(payload_len > 0, "an empty payload is not seen");
    out.extend_from_slice(b"   ");
    out.extend_from_slice(MAGIC);
    out.push(b' ');
    write_number(id, out);
    out.push(b' ');
    write_number(message.number(), out);
    out.extend_from_slice(b" 0 ");
    write_number(VERSION, out);
    out.extend_from_slice(if same_datacenter { b" 1 *1 " } else { b" 0 *1 " });
    out.extend_from_slice(if message == Message::Gossip { b"a *" } else { b"d *" });
    write_number(payload_len as u64, out);
    out.extend_from_slice(b"\r\n");
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::peer::decode::{Scan, scan};

    /// Bytes seen between C nodes: ours are the same but for the version, and we read them as they were meant.
    fn check(message: Message, id: u64, same_datacenter: bool, payload: &[u8], bytes: &[u8]) {
        let mut out = Vec::new();
        write(message, id, same_datacenter, payload, &mut out);
        let ours = bytes.escape_ascii().to_string().replacen(" 0 1 ", " 0 2 ", 1);
        assert_eq!(out.escape_ascii().to_string(), ours);
        let Scan::Head { header, len } = scan(bytes) else { panic!("no head") };
        assert_eq!((header.message, header.id, header.same_datacenter), (message, id, same_datacenter));
        assert_eq!((header.flags, header.version, header.payload_len), (0, 1, payload.len() as u64));
        assert_eq!(&bytes[len..], payload);
    }

    #[test]
    fn a_get_for_a_peer_of_our_datacenter() {
        let payload = b"*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n";
        check(Message::Execute, 2, true, payload, b"   $2014$ 2 3 0 1 1 *1 d *22\r\n*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n");
    }

    #[test]
    fn a_set_for_another_datacenter() {
        let payload = b"*3\r\n$3\r\nSET\r\n$3\r\nfoo\r\n$3\r\nbar\r\n";
        let bytes = b"   $2014$ 7 4 0 1 0 *1 d *31\r\n*3\r\n$3\r\nSET\r\n$3\r\nfoo\r\n$3\r\nbar\r\n";
        check(Message::Forward, 7, false, payload, bytes);
    }

    #[test]
    fn a_reply() {
        check(Message::Reply, 7, true, b"+OK\r\n", b"   $2014$ 7 5 0 1 1 *1 d *5\r\n+OK\r\n");
    }

    #[test]
    fn gossip() {
        let joining = b"dc1$rackA$100,1795332342,7,ec2-1-2-3-4.example.com";
        let bytes = b"   $2014$ 0 7 0 1 1 *1 a *50\r\ndc1$rackA$100,1795332342,7,ec2-1-2-3-4.example.com";
        check(Message::Gossip, 0, true, joining, bytes);
        let table = b"dc1$rackA$100,1795332344,4,ec2-1-2-3-4.example.com|dc1$rackA$4294967295,1795332343,8,127.77.0.2";
        let bytes = b"   $2014$ 1 7 0 1 1 *1 a *95\r\ndc1$rackA$100,1795332344,4,ec2-1-2-3-4.example.com|dc1$rackA$4294967295,1795332343,8,127.77.0.2";
        check(Message::Gossip, 1, true, table, bytes);
    }

    #[test]
    fn the_largest_id() {
        let bytes = b"   $2014$ 18446744073709551615 5 0 1 0 *1 d *4\r\n:1\r\n";
        check(Message::Reply, u64::MAX, false, b":1\r\n", bytes);
    }
}
