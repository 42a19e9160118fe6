//! HTTP/2 by hand, for what well-behaved clients never do: more streams than the server allows.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_HEADERS: u8 = 4;
const SETTINGS_ACK: u8 = 1;

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct Connection {
    socket: TcpStream,
}

// === impl Frame ===

impl Frame {
    /// The error of a frame that resets a stream.
    pub fn reset_code(&self) -> Option<u32> {
        (self.kind == RST_STREAM).then(|| be32(&self.payload))
    }

    pub fn is_go_away(&self) -> bool {
        self.kind == GO_AWAY
    }

    pub fn is_headers(&self) -> bool {
        self.kind == HEADERS
    }
}

// === impl Connection ===

impl Connection {
    pub async fn open(addr: SocketAddr) -> io::Result<Connection> {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_all(PREFACE).await?;
        let mut connection = Connection { socket };
        connection.send(SETTINGS, 0, 0, &[]).await?;
        Ok(connection)
    }

    /// Opens a stream of a gRPC method; its request side stays open.
    pub async fn call(&mut self, stream: u32, authority: &str, path: &str) -> io::Result<()> {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            literal(&mut block, name, value);
        }
        self.send(HEADERS, END_HEADERS, stream, &block).await
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.socket.write_all(&frame).await
    }

    /// The next frame within the patience; settings are acknowledged on the way.
    pub async fn next(&mut self, patience: Duration) -> io::Result<Option<Frame>> {
        match tokio::time::timeout(patience, self.read()).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn read(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.socket.read_exact(&mut payload).await?;
            let frame = Frame { kind: head[3], flags: head[4], stream: be32(&head[5..]), payload };
            if frame.kind == SETTINGS && frame.flags & SETTINGS_ACK == 0 {
                self.send(SETTINGS, SETTINGS_ACK, 0, &[]).await?;
            } else {
                return Ok(frame);
            }
        }
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |four| u32::from_be_bytes(*four))
}

/// A header field neither indexed nor compressed. Names and values of tests are short.
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).ok().filter(|n| *n < 127).expect("a short field"));
        block.extend_from_slice(text.as_bytes());
    }
}
