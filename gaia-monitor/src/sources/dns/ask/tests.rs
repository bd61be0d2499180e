//! Questions to a name server of the test's own, by loopback: what is sent, how often, and what is made of the answer.

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

use super::{AskError, Inside, PATIENCE, look_up};
use crate::model::event::NameAnswer;

const CORE: Ipv4Addr = Ipv4Addr::new(172, 28, 0, 2);
const SPARE: Ipv4Addr = Ipv4Addr::new(172, 28, 0, 1);
/// Longer than the resolver's own way to a name server waits before it repeats a question.
const AFTERWARDS: Duration = Duration::from_millis(400);

/// What the name server says to one question; `None`: nothing.
type Says = fn(RecordType) -> Option<(ResponseCode, Vec<RData>)>;

/// What came of a look-up, and every question that reached the name server, also late.
fn asked(says: Says) -> (Result<NameAnswer, AskError>, Vec<Message>) {
    asked_of(says, |_| {})
}

fn asked_of(says: Says, change: fn(&mut Message)) -> (Result<NameAnswer, AskError>, Vec<Message>) {
    runtime().block_on(async {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let mut questions = Vec::new();
        let found = {
            let mut look_up = std::pin::pin!(look_up(inside(), address, "gaia-core"));
            loop {
                tokio::select! {
                    question = serve(&server, says, change) => questions.push(question),
                    found = &mut look_up => break found,
                }
            }
        };
        while let Ok(question) = tokio::time::timeout(AFTERWARDS, serve(&server, says, change)).await {
            questions.push(question);
        }
        (found, questions)
    })
}

async fn serve(server: &UdpSocket, says: Says, change: fn(&mut Message)) -> Message {
    let mut bytes = [0; 512];
    let (len, from) = server.recv_from(&mut bytes).await.unwrap();
    let question = Message::from_vec(&bytes[..len]).unwrap();
    let query = question.queries[0].clone();
    if let Some((code, records)) = says(query.query_type) {
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.response_code = code;
        for data in records {
            answer.add_answer(Record::from_rdata(query.name.clone(), 600, data));
        }
        answer.add_query(query);
        change(&mut answer);
        server.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }
    question
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().enable_time().build().unwrap()
}

fn inside() -> Inside {
    let open = || Ok(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.into());
    Inside { open: Arc::new(open), handle: TokioHandle::default() }
}

fn types(questions: &[Message]) -> Vec<RecordType> {
    questions.iter().map(|question| question.queries[0].query_type).collect()
}

fn addresses(found: &[IpAddr]) -> NameAnswer {
    NameAnswer::Addresses(found.to_vec())
}

fn alias() -> RData {
    RData::CNAME(CNAME(Name::from_ascii("other.example.").unwrap()))
}

#[test]
fn one_datagram_asks_for_the_name_as_it_is_and_wants_nothing_else() {
    let (found, questions) = asked(|_| Some((ResponseCode::NoError, vec![RData::A(A(CORE)), RData::A(A(SPARE))])));
    assert_eq!(found.unwrap(), addresses(&[SPARE.into(), CORE.into()]));
    let [question] = questions.as_slice() else { panic!("{questions:?}") };
    assert_eq!(question.queries[0].name.to_ascii(), "gaia-core.");
    assert!(question.metadata.recursion_desired);
    assert!(question.edns.is_none(), "a name server behind Docker's own may not know it");
}

#[test]
fn every_refusal_is_an_answer_and_asked_for_once() {
    let failed = |rcode: &str| NameAnswer::Failed { rcode: rcode.to_owned() };
    let cases: [(Says, NameAnswer); 6] = [
        (|_| Some((ResponseCode::NXDomain, Vec::new())), NameAnswer::NoName),
        (|_| Some((ResponseCode::ServFail, Vec::new())), failed("SERVFAIL")),
        (|_| Some((ResponseCode::Refused, Vec::new())), failed("REFUSED")),
        (|_| Some((ResponseCode::FormErr, Vec::new())), failed("FORMERR")),
        (|_| Some((ResponseCode::NotImp, Vec::new())), failed("NOTIMP")),
        (|_| Some((ResponseCode::from(0, 14), Vec::new())), failed("RCODE14")),
    ];
    for (says, expected) in cases {
        let (found, questions) = asked(says);
        assert_eq!(found.unwrap(), expected);
        assert_eq!(types(&questions), [RecordType::A], "{expected:?}");
    }
}

#[test]
fn a_name_without_one_kind_of_address_is_asked_for_the_other() {
    let (found, questions) = asked(|kind| {
        let six = RData::AAAA(AAAA(Ipv6Addr::LOCALHOST));
        Some((ResponseCode::NoError, if kind == RecordType::AAAA { vec![six] } else { Vec::new() }))
    });
    assert_eq!(found.unwrap(), addresses(&[Ipv6Addr::LOCALHOST.into()]));
    assert_eq!(types(&questions), [RecordType::A, RecordType::AAAA]);
    let (found, questions) = asked(|_| Some((ResponseCode::NoError, Vec::new())));
    assert_eq!(found.unwrap(), NameAnswer::NoData);
    assert_eq!(types(&questions), [RecordType::A, RecordType::AAAA]);
}

#[test]
fn silence_is_an_answer_after_one_datagram() {
    let began = Instant::now();
    let (found, questions) = asked(|_| None);
    assert_eq!(found.unwrap(), NameAnswer::Silent);
    assert_eq!(types(&questions), [RecordType::A]);
    assert!(began.elapsed() >= PATIENCE);
}

#[test]
fn an_alias_is_followed_in_the_answer_and_never_by_a_question() {
    let behind = |answer: &mut Message| {
        if let Some(record) = answer.answers.get_mut(1) {
            record.name = Name::from_ascii("other.example.").unwrap();
        }
    };
    let (found, questions) = asked_of(|_| Some((ResponseCode::NoError, vec![alias(), RData::A(A(CORE))])), behind);
    assert_eq!(found.unwrap(), addresses(&[CORE.into()]));
    assert_eq!(types(&questions), [RecordType::A]);
    let (found, questions) = asked(|_| Some((ResponseCode::NXDomain, vec![alias()])));
    assert_eq!(found.unwrap(), NameAnswer::NoName);
    assert_eq!(types(&questions), [RecordType::A]);
    let (found, questions) = asked(|_| Some((ResponseCode::NoError, vec![alias()])));
    assert_eq!(found.unwrap(), NameAnswer::NoData);
    assert_eq!(types(&questions), [RecordType::A, RecordType::AAAA]);
}

#[test]
fn an_answer_that_was_cut_counts_as_far_as_it_goes() {
    let cut = |answer: &mut Message| answer.metadata.truncation = true;
    let (found, questions) = asked_of(|_| Some((ResponseCode::NoError, vec![RData::A(A(CORE))])), cut);
    assert_eq!(found.unwrap(), addresses(&[CORE.into()]));
    assert_eq!(types(&questions), [RecordType::A]);
    let (found, questions) = asked_of(|_| Some((ResponseCode::NoError, Vec::new())), cut);
    assert!(matches!(found, Err(AskError::Ask(_))), "it says nothing of the name: {found:?}");
    assert_eq!(types(&questions), [RecordType::A]);
}

#[test]
fn a_namespace_that_is_gone_is_no_answer() {
    let open = || Err(io::Error::from(io::ErrorKind::NotFound));
    let gone = Inside { open: Arc::new(open), handle: TokioHandle::default() };
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    let found = runtime().block_on(look_up(gone, nowhere, "gaia-core"));
    assert!(matches!(found, Err(AskError::Ask(_))), "{found:?}");
}

#[test]
fn nothing_is_left_of_a_look_up() {
    runtime().block_on(async {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        let inside = inside();
        let left: Weak<_> = Arc::downgrade(&inside.open);
        let says: Says = |_| Some((ResponseCode::NXDomain, Vec::new()));
        let (found, _) = tokio::join!(look_up(inside, address, "gaia-core"), serve(&server, says, |_| {}));
        assert_eq!(found.unwrap(), NameAnswer::NoName);
        let began = Instant::now();
        // Its last task ends when it is next polled.
        while left.strong_count() > 0 {
            assert!(began.elapsed() < Duration::from_secs(5), "a look-up holds on to its namespace");
            tokio::task::yield_now().await;
        }
    });
}
