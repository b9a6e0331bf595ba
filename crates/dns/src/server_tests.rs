//! The server over real sockets of the loopback, with an upstream of the test's own.

use std::net::IpAddr;

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::view::{Endpoint, ServiceView};

/// `web` at one address, `many` with a hundred endpoints, `out` elsewhere.
struct Fixed;

impl View for Fixed {
    fn is_ready(&self) -> bool {
        true
    }

    fn has_namespace(&self, name: &str) -> bool {
        name == "default"
    }

    fn service(&self, _: &str, name: &str) -> Option<ServiceView> {
        let endpoint =
            |n: u8| Endpoint { address: IpAddr::from([10, 244, 0, n]), hostname: None, ports: Vec::new() };
        match name {
            "web" => {
                Some(ServiceView { addresses: vec![IpAddr::from([10, 96, 0, 7])], ..ServiceView::default() })
            }
            "many" => {
                Some(ServiceView { endpoints: (1..=100).map(endpoint).collect(), ..ServiceView::default() })
            }
            "out" => {
                Some(ServiceView { external: Some("elsewhere.example".to_owned()), ..ServiceView::default() })
            }
            _ => None,
        }
    }

    fn service_of(&self, _: IpAddr) -> Option<(String, String)> {
        None
    }

    fn endpoint_of(&self, _: IpAddr) -> Option<(String, String, String)> {
        None
    }
}

/// Answers every question with 192.0.2.1, after an answer that somebody else might have sent.
async fn upstream(scope: &TaskScope) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    scope.spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(question.metadata.id, OpCode::Query);
            answer.queries.clone_from(&question.queries);
            let name = question.queries[0].name().clone();
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A([192, 0, 2, 1].into()))));
            let mut forged = answer.to_vec().unwrap();
            forged[0] ^= 0xff;
            for message in [forged, answer.to_vec().unwrap()] {
                let _ = socket.send_to(&message, from).await;
            }
        }
    });
    address
}

struct Served {
    udp: SocketAddr,
    tcp: SocketAddr,
    scope: TaskScope,
}

async fn serve(with_upstream: bool) -> Served {
    let scope = TaskScope::new("dns-test");
    let upstreams = if with_upstream { vec![upstream(&scope).await] } else { Vec::new() };
    let config = Config { listen: ([127, 0, 0, 1], 0).into(), domain: "cluster.local".to_owned(), upstreams };
    let server = Server::bind(&config, Zone::new("cluster.local").unwrap(), Arc::new(Fixed)).unwrap();
    let (udp, tcp) = (server.udp_address().unwrap(), server.tcp_address().unwrap());
    server.start(&scope);
    Served { udp, tcp, scope }
}

fn question(name: &str) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

impl Served {
    async fn ask_bytes(&self, bytes: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(bytes, self.udp).await.unwrap();
        let mut buffer = [0; 65535];
        let (length, _) = tokio::time::timeout(Duration::from_secs(20), socket.recv_from(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn ask(&self, message: &Message) -> Message {
        let answer = self.ask_bytes(&message.to_vec().unwrap()).await;
        assert_eq!(answer.metadata.id, message.metadata.id);
        answer
    }

    async fn ask_tcp(&self, messages: &[Message]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        let mut answers = Vec::new();
        for message in messages {
            let bytes = message.to_vec().unwrap();
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
        for _ in messages {
            let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut answer).await.unwrap();
            answers.push(Message::from_vec(&answer).unwrap());
        }
        answers
    }
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn what_does_not_fit_is_told_so_and_comes_by_tcp() {
    let served = serve(false).await;
    let small = served.ask(&question("many.default.svc.cluster.local.")).await;
    assert!(small.metadata.truncation && small.answers.is_empty());
    let mut roomy = question("many.default.svc.cluster.local.");
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    roomy.set_edns(edns);
    let still = served.ask(&roomy).await;
    assert!(
        still.metadata.truncation && still.edns.is_some(),
        "more than a packet of any network is not sent"
    );
    let both = [question("many.default.svc.cluster.local."), question("web.default.svc.cluster.local.")];
    let whole = served.ask_tcp(&both).await;
    assert_eq!((whole[0].answers.len(), whole[0].metadata.truncation), (100, false));
    assert_eq!(addresses(&whole[1]), ["10.96.0.7"]);
    let again = served.ask_tcp(&both[..1]).await;
    assert_ne!(addresses(&again[0])[0], addresses(&whole[0])[0], "every asker begins with another");
    assert!(served.scope.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn other_names_are_asked_for_upstream() {
    let served = serve(true).await;
    let answer = served.ask(&question("www.example.")).await;
    assert_eq!((addresses(&answer), answer.metadata.authoritative), (vec!["192.0.2.1".to_owned()], false));
    let alias = served.ask(&question("out.default.svc.cluster.local.")).await;
    assert_eq!(addresses(&alias), ["elsewhere.example.", "192.0.2.1"]);
    let none = serve(false).await;
    let refused = none.ask(&question("www.example.")).await;
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn odd_messages_get_the_answers_of_the_standard() {
    let served = serve(false).await;
    let name = "web.default.svc.cluster.local.";
    let found = served.ask(&question(name)).await;
    assert!(found.metadata.authoritative && found.edns.is_none());
    let missing = served.ask(&question("nobody.default.svc.cluster.local.")).await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(missing.authorities[0].record_type(), RecordType::SOA);

    let mut two = question(name);
    two.add_query(two.queries[0].clone());
    assert_eq!(served.ask(&two).await.metadata.response_code, ResponseCode::FormErr);
    let mut update = question(name);
    update.metadata.op_code = OpCode::Status;
    assert_eq!(served.ask(&update).await.metadata.response_code, ResponseCode::NotImp);
    let mut chaos = question(name);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(served.ask(&chaos).await.metadata.response_code, ResponseCode::Refused);
    let mut newer = question(name);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    // BADVERS and BADSIG are the same number.
    assert_eq!(u16::from(served.ask(&newer).await.metadata.response_code), u16::from(ResponseCode::BADVERS));

    let bytes = question(name).to_vec().unwrap();
    let cut = served.ask_bytes(&bytes[..bytes.len() - 3]).await;
    assert_eq!(cut.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(malformed(&[0; 5]), None);
    assert_eq!(malformed(&[0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0]), None, "answers are not answered");
}
