//! The sockets: UDP and TCP, bounded in what is answered at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::TaskScope;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::DNSClass;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::zone::{Answer, Zone};
use crate::{Config, Error, View, forward};

/// Questions answered at once; further ones by UDP are dropped, as a full socket would drop them.
const MAX_QUESTIONS: usize = 1000;
/// Connections open at once.
const MAX_CONNECTIONS: usize = 200;
/// A connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// The largest question.
const MAX_QUESTION: usize = 4096;
/// What fits into an answer by UDP if the asker does not say, and what we say fits into a question.
const PLAIN_UDP: u16 = 512;
const OUR_UDP: u16 = 1232;
const BACKLOG: i32 = 128;
/// Bytes of a message's header.
const HEADER: usize = 12;

/// Bound sockets, not yet served.
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    inner: Arc<Inner>,
}

struct Inner {
    zone: Zone,
    view: Arc<dyn View>,
    upstreams: Vec<SocketAddr>,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    /// Counts answers, so that each begins with another address.
    turn: AtomicUsize,
}

impl Server {
    /// Binds the sockets.
    pub fn bind(config: &Config, zone: Zone, view: Arc<dyn View>) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: config.listen, source };
        let udp: std::net::UdpSocket = socket(config.listen, Type::DGRAM).map_err(failed)?.into();
        let stream = socket(config.listen, Type::STREAM).map_err(failed)?;
        stream.listen(BACKLOG).map_err(failed)?;
        let inner = Inner {
            zone,
            view,
            // Asking ourselves would never end.
            upstreams: config.upstreams.iter().copied().filter(|server| *server != config.listen).collect(),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            turn: AtomicUsize::new(0),
        };
        Ok(Self {
            udp: UdpSocket::from_std(udp).map_err(failed)?,
            tcp: TcpListener::from_std(stream.into()).map_err(failed)?,
            inner: Arc::new(inner),
        })
    }

    /// Where it listens, by UDP.
    #[cfg(test)]
    pub(crate) fn udp_address(&self) -> std::io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Where it listens, by TCP.
    #[cfg(test)]
    pub(crate) fn tcp_address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves both sockets in `scope`.
    pub fn start(self, scope: &TaskScope) {
        let Self { udp, tcp, inner } = self;
        scope.spawn(serve_udp(Arc::new(udp), inner.clone(), scope.clone()));
        scope.spawn(serve_tcp(tcp, inner, scope.clone()));
    }
}

/// A bound socket that does not need its address to be there yet: the bridge appears with the first pod.
fn socket(address: SocketAddr, kind: Type) -> std::io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn serve_udp(socket: Arc<UdpSocket>, inner: Arc<Inner>, scope: TaskScope) {
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // The answer to an earlier asker who is gone.
            Err(error) => {
                tracing::debug!(%error, "receive");
                continue;
            }
        };
        let Ok(permit) = inner.questions.clone().try_acquire_owned() else { continue };
        let (question, socket, inner) = (buffer[..length].to_vec(), socket.clone(), inner.clone());
        scope.spawn(async move {
            if let Some(answer) = inner.respond(&question, false).await
                && let Err(error) = socket.send_to(&answer, from).await
            {
                tracing::debug!(%error, "send");
            }
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: TcpListener, inner: Arc<Inner>, scope: TaskScope) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = inner.connections.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let inner = inner.clone();
        scope.spawn(async move {
            // A connection that breaks concerns only its asker.
            let _ = serve_connection(stream, &inner).await;
            drop(permit);
        });
    }
}

async fn serve_connection(mut stream: TcpStream, inner: &Inner) -> std::io::Result<()> {
    loop {
        let length = usize::from(tokio::time::timeout(IDLE, stream.read_u16()).await??);
        if length > MAX_QUESTION {
            return Ok(());
        }
        let mut question = vec![0; length];
        tokio::time::timeout(IDLE, stream.read_exact(&mut question)).await??;
        let Some(answer) = inner.respond(&question, true).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

impl Inner {
    /// The answer to a message; None for what deserves none.
    async fn respond(&self, bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let Ok(question) = Message::from_vec(bytes) else { return malformed(bytes) };
        if question.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = self.begin(&question);
        let query = match check(&question) {
            Ok(query) => query,
            Err(code) => return refuse(response, code),
        };
        if !self.view.is_ready() && self.zone.holds(query.name()) {
            return refuse(response, ResponseCode::ServFail);
        }
        match self.zone.answer(query, self.view.as_ref()) {
            Answer::NotOurs => return self.forward(bytes, response, tcp).await,
            Answer::Found { mut answers, additionals } => {
                response.metadata.authoritative = true;
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % answers.len().max(1);
                answers.rotate_left(turn);
                response.add_answers(answers);
                response.add_additionals(additionals);
                self.complete(&mut response, query, tcp).await;
            }
            Answer::Nothing { exists } => {
                response.metadata.authoritative = true;
                response.metadata.response_code =
                    if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
                response.add_authority(self.zone.soa());
            }
        }
        let encoded = response.to_vec().ok()?;
        if !tcp && encoded.len() > usize::from(udp_limit(&question)) {
            return response.truncate().to_vec().ok();
        }
        Some(encoded)
    }

    /// An answer without records yet.
    fn begin(&self, question: &Message) -> Message {
        let mut response = Message::response(question.metadata.id, question.metadata.op_code);
        response.metadata.recursion_desired = question.metadata.recursion_desired;
        response.metadata.recursion_available = !self.upstreams.is_empty();
        response.queries.clone_from(&question.queries);
        if question.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(OUR_UDP);
            response.set_edns(edns);
        }
        response
    }

    async fn forward(&self, bytes: &[u8], response: Message, tcp: bool) -> Option<Vec<u8>> {
        if self.upstreams.is_empty() {
            return refuse(response, ResponseCode::Refused);
        }
        match forward::ask(&self.upstreams, bytes, tcp).await {
            Some(answer) => Some(answer),
            None => refuse(response, ResponseCode::ServFail),
        }
    }

    /// Adds what the name of an ExternalName service stands for, since stub resolvers ask nobody else.
    async fn complete(&self, response: &mut Message, query: &Query, tcp: bool) {
        use hickory_proto::rr::{RData, RecordType};
        if !matches!(query.query_type(), RecordType::A | RecordType::AAAA) || response.answers.len() != 1 {
            return;
        }
        let Some(RData::CNAME(target)) = response.answers.first().map(|record| record.data.clone()) else {
            return;
        };
        let next = Query::query(target.0.clone(), query.query_type());
        match self.zone.answer(&next, self.view.as_ref()) {
            Answer::Found { answers, .. } => drop(response.add_answers(answers)),
            Answer::Nothing { .. } => {}
            Answer::NotOurs => {
                let mut message = Message::query();
                message.metadata.recursion_desired = true;
                message.add_query(next);
                let Ok(bytes) = message.to_vec() else { return };
                if let Some(answer) = forward::ask(&self.upstreams, &bytes, tcp).await
                    && let Ok(answer) = Message::from_vec(&answer)
                {
                    response.add_answers(answer.answers);
                }
            }
        }
    }
}

/// The one thing that is asked, if it can be answered at all.
fn check(question: &Message) -> Result<&Query, ResponseCode> {
    if question.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    if question.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Err(ResponseCode::BADVERS);
    }
    match question.queries.as_slice() {
        [query] if query.query_class() == DNSClass::IN => Ok(query),
        [_] => Err(ResponseCode::Refused),
        _ => Err(ResponseCode::FormErr),
    }
}

fn refuse(mut response: Message, code: ResponseCode) -> Option<Vec<u8>> {
    response.metadata.response_code = code;
    response.to_vec().ok()
}

/// What can be said to a message of which only the header can be read. An answer gets no answer.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let [id_high, id_low, flags, ..] = bytes.get(..HEADER)? else { return None };
    let is_answer = flags & 0x80 != 0;
    let id = u16::from_be_bytes([*id_high, *id_low]);
    (!is_answer).then(|| Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()).flatten()
}

/// How long an answer by UDP may be.
fn udp_limit(question: &Message) -> u16 {
    question.edns.as_ref().map_or(PLAIN_UDP, |edns| edns.max_payload().clamp(PLAIN_UDP, OUR_UDP))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
