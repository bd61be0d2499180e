//! Lookups at a DNS server of the test on loopback: which queries are sent, and how responses are interpreted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hickory_resolver::net::runtime::TokioHandle;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Runtime};

use super::{LookupError, NamespaceSockets, TIMEOUT, resolve};
use crate::model::event::DnsResponse;

const CORE: Ipv4Addr = Ipv4Addr::new(172, 28, 0, 2);
const SPARE: Ipv4Addr = Ipv4Addr::new(172, 28, 0, 1);
/// Longer than hickory's own connection waits before it repeats a query.
const REPEAT_WINDOW: Duration = Duration::from_millis(400);

/// The response of the server to one query; `None`: none.
type Responder = fn(RecordType) -> Option<(ResponseCode, Vec<RData>)>;

/// The result of a lookup, and all queries that the server received, late ones included.
fn lookup(respond: Responder) -> (Result<DnsResponse, LookupError>, Vec<Message>) {
    lookup_with(respond, |_| {})
}

fn lookup_with(respond: Responder, change: fn(&mut Message)) -> (Result<DnsResponse, LookupError>, Vec<Message>) {
    runtime().block_on(async {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let mut queries = Vec::new();
        let found = {
            let mut resolve = std::pin::pin!(resolve(sockets(), address, "gaia-core"));
            loop {
                tokio::select! {
                    query = serve(&server, respond, change) => queries.push(query),
                    found = &mut resolve => break found,
                }
            }
        };
        while let Ok(query) = tokio::time::timeout(REPEAT_WINDOW, serve(&server, respond, change)).await {
            queries.push(query);
        }
        (found, queries)
    })
}

async fn serve(server: &UdpSocket, respond: Responder, change: fn(&mut Message)) -> Message {
    let mut bytes = [0; 512];
    let (len, from) = server.recv_from(&mut bytes).await.unwrap();
    let query = Message::from_vec(&bytes[..len]).unwrap();
    let question = query.queries[0].clone();
    if let Some((code, records)) = respond(question.query_type) {
        let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        response.metadata.response_code = code;
        for data in records {
            response.add_answer(Record::from_rdata(question.name.clone(), 600, data));
        }
        response.add_query(question);
        change(&mut response);
        server.send_to(&response.to_vec().unwrap(), from).await.unwrap();
    }
    query
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().enable_time().build().unwrap()
}

fn sockets() -> NamespaceSockets {
    let open = || Ok(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.into());
    NamespaceSockets { open: Arc::new(open), handle: TokioHandle::default() }
}

fn types(queries: &[Message]) -> Vec<RecordType> {
    queries.iter().map(|query| query.queries[0].query_type).collect()
}

fn addresses(found: &[IpAddr]) -> DnsResponse {
    DnsResponse::Addresses(found.to_vec())
}

fn alias() -> RData {
    RData::CNAME(CNAME(Name::from_ascii("other.example.").unwrap()))
}

#[test]
fn sends_one_query_for_the_exact_name() {
    let (found, queries) = lookup(|_| Some((ResponseCode::NoError, vec![RData::A(A(CORE)), RData::A(A(SPARE))])));
    assert_eq!(found.unwrap(), addresses(&[SPARE.into(), CORE.into()]));
    let [query] = queries.as_slice() else { panic!("{queries:?}") };
    assert_eq!(query.queries[0].name.to_ascii(), "gaia-core.");
    assert!(query.metadata.recursion_desired);
    assert!(query.edns.is_none(), "an upstream server may not support it");
}

#[test]
fn returns_each_error_code_after_one_query() {
    let failed = |rcode: &str| DnsResponse::Failed { rcode: rcode.to_owned() };
    let cases: [(Responder, DnsResponse); 6] = [
        (|_| Some((ResponseCode::NXDomain, Vec::new())), DnsResponse::NoName),
        (|_| Some((ResponseCode::ServFail, Vec::new())), failed("SERVFAIL")),
        (|_| Some((ResponseCode::Refused, Vec::new())), failed("REFUSED")),
        (|_| Some((ResponseCode::FormErr, Vec::new())), failed("FORMERR")),
        (|_| Some((ResponseCode::NotImp, Vec::new())), failed("NOTIMP")),
        (|_| Some((ResponseCode::from(0, 14), Vec::new())), failed("RCODE14")),
    ];
    for (respond, expected) in cases {
        let (found, queries) = lookup(respond);
        assert_eq!(found.unwrap(), expected);
        assert_eq!(types(&queries), [RecordType::A], "{expected:?}");
    }
}

#[test]
fn queries_ipv6_when_there_is_no_ipv4_address() {
    let (found, queries) = lookup(|kind| {
        let six = RData::AAAA(AAAA(Ipv6Addr::LOCALHOST));
        Some((ResponseCode::NoError, if kind == RecordType::AAAA { vec![six] } else { Vec::new() }))
    });
    assert_eq!(found.unwrap(), addresses(&[Ipv6Addr::LOCALHOST.into()]));
    assert_eq!(types(&queries), [RecordType::A, RecordType::AAAA]);
    let (found, queries) = lookup(|_| Some((ResponseCode::NoError, Vec::new())));
    assert_eq!(found.unwrap(), DnsResponse::NoData);
    assert_eq!(types(&queries), [RecordType::A, RecordType::AAAA]);
}

#[test]
fn returns_silent_after_one_query_without_a_response() {
    let began = Instant::now();
    let (found, queries) = lookup(|_| None);
    assert_eq!(found.unwrap(), DnsResponse::Silent);
    assert_eq!(types(&queries), [RecordType::A]);
    assert!(began.elapsed() >= TIMEOUT);
}

#[test]
fn follows_an_alias_within_the_response_only() {
    let behind = |response: &mut Message| {
        if let Some(record) = response.answers.get_mut(1) {
            record.name = Name::from_ascii("other.example.").unwrap();
        }
    };
    let (found, queries) = lookup_with(|_| Some((ResponseCode::NoError, vec![alias(), RData::A(A(CORE))])), behind);
    assert_eq!(found.unwrap(), addresses(&[CORE.into()]));
    assert_eq!(types(&queries), [RecordType::A]);
    let (found, queries) = lookup(|_| Some((ResponseCode::NXDomain, vec![alias()])));
    assert_eq!(found.unwrap(), DnsResponse::NoName);
    assert_eq!(types(&queries), [RecordType::A]);
    let (found, queries) = lookup(|_| Some((ResponseCode::NoError, vec![alias()])));
    assert_eq!(found.unwrap(), DnsResponse::NoData);
    assert_eq!(types(&queries), [RecordType::A, RecordType::AAAA]);
}

#[test]
fn accepts_a_truncated_response_with_addresses() {
    let cut = |response: &mut Message| response.metadata.truncation = true;
    let (found, queries) = lookup_with(|_| Some((ResponseCode::NoError, vec![RData::A(A(CORE))])), cut);
    assert_eq!(found.unwrap(), addresses(&[CORE.into()]));
    assert_eq!(types(&queries), [RecordType::A]);
    let (found, queries) = lookup_with(|_| Some((ResponseCode::NoError, Vec::new())), cut);
    assert!(matches!(found, Err(LookupError::Query(_))), "an empty truncated response is no result: {found:?}");
    assert_eq!(types(&queries), [RecordType::A]);
}

#[test]
fn fails_when_the_namespace_has_ended() {
    let open = || Err(io::Error::from(io::ErrorKind::NotFound));
    let gone = NamespaceSockets { open: Arc::new(open), handle: TokioHandle::default() };
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    let found = runtime().block_on(resolve(gone, nowhere, "gaia-core"));
    assert!(matches!(found, Err(LookupError::Query(_))), "{found:?}");
}

#[test]
fn releases_the_namespace_after_a_lookup() {
    runtime().block_on(async {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let sockets = sockets();
        let left: Weak<_> = Arc::downgrade(&sockets.open);
        let respond: Responder = |_| Some((ResponseCode::NXDomain, Vec::new()));
        let (found, _) = tokio::join!(resolve(sockets, address, "gaia-core"), serve(&server, respond, |_| {}));
        assert_eq!(found.unwrap(), DnsResponse::NoName);
        let began = Instant::now();
        // The last task ends when it is polled again.
        while left.strong_count() > 0 {
            assert!(began.elapsed() < Duration::from_secs(5), "a lookup keeps its namespace alive");
            tokio::task::yield_now().await;
        }
    });
}
