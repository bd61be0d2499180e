//! Parser of one DNS message (RFC 1035), or of its beginning.
//!
//! Parsed by hickory-proto, record by record: a long response ends where the probe stopped copying, and the records before
//! still count.

use std::net::IpAddr;

use hickory_proto::op::{Header, MessageType, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::model::event::DnsResponse;

/// Addresses kept of one response; further ones are dropped.
const ADDRESSES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: u16,
    /// Lower case, without the final dot.
    pub name: String,
    /// `A`, `AAAA` …
    pub qtype: String,
    /// `None`: it is a query.
    pub answer: Option<DnsResponse>,
}

/// `None`: not a message about one name, or a truncated response without addresses (the client repeats the query by TCP).
#[must_use]
pub fn message(bytes: &[u8]) -> Option<Message> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    let metadata = header.metadata;
    if header.counts.queries != 1 {
        return None;
    }
    let query = Query::read(&mut decoder).ok()?;
    let answer = match metadata.message_type {
        MessageType::Query => None,
        MessageType::Response => {
            let addresses = addresses(&mut decoder, header.counts.answers, query.query_type);
            if addresses.is_empty() && metadata.truncation {
                return None;
            }
            Some(answer(metadata.response_code, addresses))
        }
    };
    Some(Message {
        id: metadata.id,
        name: query.name.to_lowercase().to_ascii().trim_end_matches('.').to_owned(),
        qtype: query.query_type.to_string(),
        answer,
    })
}

/// The result of a response with these addresses of the queried type.
#[must_use]
pub fn answer(code: ResponseCode, addresses: Vec<IpAddr>) -> DnsResponse {
    match code {
        ResponseCode::NoError if addresses.is_empty() => DnsResponse::NoData,
        ResponseCode::NoError => DnsResponse::Addresses(addresses),
        ResponseCode::NXDomain => DnsResponse::NoName,
        other => DnsResponse::Failed { rcode: name_of(other) },
    }
}

fn name_of(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}

/// Addresses of the queried type, also behind an alias.
fn addresses(decoder: &mut BinDecoder<'_>, count: u16, wanted: RecordType) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for _ in 0..count {
        let Ok(record) = Record::<RData>::read(decoder) else { break };
        match record.data {
            RData::A(address) if wanted == RecordType::A => found.push(IpAddr::V4(address.0)),
            RData::AAAA(address) if wanted == RecordType::AAAA => found.push(IpAddr::V6(address.0)),
            _other => {}
        }
        if found.len() == ADDRESSES {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_proto::op::{Message as Packet, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use proptest::prelude::{any, prop, proptest};

    use super::{ADDRESSES, message};
    use crate::model::event::DnsResponse;

    const CORE: Ipv4Addr = Ipv4Addr::new(172, 28, 0, 2);

    fn packet(kind: MessageType, code: ResponseCode, qtype: RecordType, answers: Vec<RData>) -> Packet {
        let name = Name::from_ascii("Gaia-Core.").unwrap();
        let mut packet = Packet::new(77, kind, OpCode::Query);
        packet.metadata.response_code = code;
        packet.add_query(Query::query(name.clone(), qtype));
        for data in answers {
            packet.add_answer(Record::from_rdata(name.clone(), 600, data));
        }
        packet
    }

    fn response(code: ResponseCode, qtype: RecordType, answers: Vec<RData>) -> Option<DnsResponse> {
        let bytes = packet(MessageType::Response, code, qtype, answers).to_vec().unwrap();
        message(&bytes).unwrap().answer
    }

    #[test]
    fn reads_name_and_type_of_a_query() {
        let bytes = packet(MessageType::Query, ResponseCode::NoError, RecordType::AAAA, Vec::new()).to_vec().unwrap();
        let found = message(&bytes).unwrap();
        assert_eq!((found.id, found.name.as_str(), found.qtype.as_str()), (77, "gaia-core", "AAAA"));
        assert_eq!(found.answer, None);
    }

    #[test]
    fn derives_the_result_from_code_and_queried_records() {
        let a = || RData::A(A(CORE));
        assert_eq!(
            response(ResponseCode::NoError, RecordType::A, vec![a()]),
            Some(DnsResponse::Addresses(vec![CORE.into()]))
        );
        assert_eq!(response(ResponseCode::NoError, RecordType::AAAA, vec![a()]), Some(DnsResponse::NoData));
        assert_eq!(response(ResponseCode::NoError, RecordType::A, Vec::new()), Some(DnsResponse::NoData));
        assert_eq!(response(ResponseCode::NXDomain, RecordType::A, Vec::new()), Some(DnsResponse::NoName));
        for (code, rcode) in [(ResponseCode::ServFail, "SERVFAIL"), (ResponseCode::Refused, "REFUSED")] {
            assert_eq!(
                response(code, RecordType::A, Vec::new()),
                Some(DnsResponse::Failed { rcode: rcode.to_owned() })
            );
        }
    }

    #[test]
    fn accepts_an_address_behind_an_alias() {
        let alias = RData::CNAME(CNAME(Name::from_ascii("other.example.").unwrap()));
        let six = RData::AAAA(AAAA(Ipv6Addr::LOCALHOST));
        assert_eq!(
            response(ResponseCode::NoError, RecordType::AAAA, vec![alias, six]),
            Some(DnsResponse::Addresses(vec![Ipv6Addr::LOCALHOST.into()]))
        );
    }

    #[test]
    fn keeps_the_records_of_an_incomplete_response() {
        let many = vec![RData::A(A(CORE)); 40];
        let bytes = packet(MessageType::Response, ResponseCode::NoError, RecordType::A, many).to_vec().unwrap();
        assert!(bytes.len() > 512);
        let Some(DnsResponse::Addresses(found)) = message(&bytes[..512]).unwrap().answer else {
            panic!("no addresses")
        };
        assert_eq!(found.len(), ADDRESSES);
    }

    #[test]
    fn ignores_a_truncated_response_without_addresses() {
        let mut packet = packet(MessageType::Response, ResponseCode::NoError, RecordType::A, Vec::new());
        packet.metadata.truncation = true;
        assert_eq!(message(&packet.to_vec().unwrap()), None);
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = message(&bytes);
        }

        #[test]
        fn never_panics_on_a_damaged_message(
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let answers = vec![RData::A(A(CORE)), RData::CNAME(CNAME(Name::from_ascii("a.b.").unwrap()))];
            let packet = packet(MessageType::Response, ResponseCode::NoError, RecordType::A, answers);
            let mut bytes = packet.to_vec().unwrap();
            for (place, byte) in places {
                let index = place.index(bytes.len());
                bytes[index] = byte;
            }
            let len = cut.index(bytes.len() + 1);
            let _ = message(&bytes[..len]);
        }
    }
}
